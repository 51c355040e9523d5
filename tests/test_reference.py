# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle of the model: against the golden case and finite differences, and the cases made with it."""

import os

import numpy as np
import pytest
import reference
import reference_cases
import reference_parts
from reference_names import is_trainable, variable_shapes
from reference_propagation import empty_object, propagate
from reference_sequence import KEPT, keep_present

GOLDEN = os.path.join(os.path.dirname(__file__), "golden", "small.npz")
VARIABLES = os.path.join(os.path.dirname(__file__), "golden", "reference_variables.txt")
QUICK = [name for name in reference_cases.CASES if name != "golden_sizes"]


@pytest.fixture(scope="module")
def built():
    """name -> (flags, params, inputs) of a case; each is built once."""
    cache = {}

    def build(name):
        if name not in cache:
            case = reference_cases.CASES[name]
            cache[name] = (case["flags"],) + reference_cases.build(case["flags"], case["image"], case["seed"])
        return cache[name]

    return build


def test_golden_case():
    flags, params, inputs, outputs, gradients = reference_cases.read_case(GOLDEN)
    actual, actual_gradients = reference.run(flags, params, inputs)
    assert set(actual) == set(outputs) | set(reference_cases.NOT_STORED)
    for name, expected in outputs.items():
        assert np.shape(actual[name]) == expected.shape, name
        error = reference_cases.output_error(name, actual[name], expected, outputs["presence"])
        assert error < (7e-5 if name == "canvas" else 1e-5), name
    assert set(actual_gradients) == set(gradients)
    for name, error in reference_cases.gradient_errors(actual_gradients, gradients).items():
        assert error < 5e-4, name


def test_variables_at_the_default_sizes_are_the_listed_ones():
    flags = dict(reference_cases.DEFAULT_FLAGS, n_units=8, n_what=50, glimpse_size=20)
    listed = {}
    with open(VARIABLES) as f:
        for line in f:
            if not line.startswith("#"):
                name, shape, kind = line.split()
                listed[name] = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
                assert (kind == "trainable") == is_trainable(name), name
    assert dict(variable_shapes(flags, (50, 50))) == listed


def test_variables_of_parts_that_are_switched_off_do_not_exist():
    case = reference_cases.CASES["all_options"]
    names = " ".join(variable_shapes(case["flags"], case["image"]))
    assert "random_walk_propagate_prior/linear/w" in names
    absent = "air_encoder/mlp step_prior discover/mlp recurrent_normal propagation/propagate_prior"
    for part in absent.split():
        assert part not in names


@pytest.mark.parametrize("name", QUICK)
def test_cases_are_sound(name, built):
    flags, params, inputs = built(name)
    outputs, _ = reference.run(flags, params, inputs, "reinforce", gradients=False)
    found = reference_cases.coverage(flags, inputs, outputs)
    assert all(found[what] for what in reference_cases.wanted(flags)), found
    for value in outputs.values():
        assert np.all(np.isfinite(value))
    np.testing.assert_allclose(outputs["disc_prob"].sum(-1), 1)
    np.testing.assert_allclose(outputs["importance_weights"].sum(-1), 1)
    count = outputs["num_disc_steps_per_sample"].astype(int)
    drawn = np.take_along_axis(outputs["disc_prob"], count[..., None], -1)[..., 0]
    np.testing.assert_allclose(outputs["disc_log_prob"], np.log(np.maximum(drawn, 1e-16)))
    presence, ids = outputs["presence"], outputs["obj_id"]
    assert np.all(np.diff(presence, axis=-1) <= 0), "present objects come first"
    assert np.array_equal(ids >= 0, presence == 1)
    for row in ids.transpose(1, 0, 2).reshape(presence.shape[1], -1):
        first_seen = [list(row).index(i) for i in sorted(set(row[row >= 0]))]
        assert first_seen == sorted(first_seen), "ids are given in order"
    assert outputs["elbo_vae"] <= outputs["elbo_iwae"] + 1e-9
    np.testing.assert_allclose(
        outputs["log_weights_per_timestep"], outputs["data_ll_per_sample"] - outputs["kl_per_sample"]
    )


def fixed_signal_target(outputs, signals, flags):
    """The `reference` loss with its learning signals held: what gradients are the derivative of."""
    discrete_log_q = outputs["discrete_log_prob"].sum(0).reshape(signals.shape)
    return (-outputs["elbo_iwae"] - np.mean(signals * discrete_log_q)) / flags["T"]


@pytest.mark.parametrize(
    "name",
    [pytest.param("two_slots", marks=pytest.mark.slow), "guided", "all_options", "one_slot", "random_walk"],
)
def test_gradients_agree_with_central_differences(name, built):
    flags, params, inputs = built(name)
    params = {key: value.astype(np.float64) for key, value in params.items()}
    outputs, gradients = reference.run(flags, params, inputs)
    signals = outputs["log_weights"] - reference.vimco_baseline(outputs["log_weights"])
    rng = np.random.RandomState(0)
    # one direction through each array in one case, a few through everything in the others
    names = sorted(gradients)
    groups = [[key] for key in names] if name == "two_slots" else [names[::2], names[1::2], names]
    size = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
    step = 1e-5
    for group in groups:
        direction = {key: rng.normal(size=params[key].shape) for key in group}
        length = np.sqrt(sum(np.sum(d**2) for d in direction.values()))
        direction = {key: d / length for key, d in direction.items()}
        values = []
        for sign in (1, -1):
            moved = dict(params, **{key: params[key] + sign * step * d for key, d in direction.items()})
            result, _ = reference.run(flags, moved, inputs, gradients=False)
            assert np.array_equal(result["presence"], outputs["presence"])
            values.append(fixed_signal_target(result, signals, flags))
        slope = (values[0] - values[1]) / (2 * step)
        expected = sum(np.sum(gradients[key] * d) for key, d in direction.items())
        assert abs(slope - expected) < 1e-5 * abs(expected) + 1e-7 * size, group


def test_l2_adds_itself_to_loss_and_gradients(built):
    flags, params, inputs = built("decay")
    without, g_without = reference.run(flags, params, inputs)
    with_l2, g_with = reference.run(flags, params, inputs, l2=0.5)
    trainable = {name: np.float64(params[name]) for name in g_with}
    penalty = 0.25 * sum(np.sum(v**2) for v in trainable.values())
    np.testing.assert_allclose(with_l2["target"] - without["target"], penalty)
    for name, value in trainable.items():
        np.testing.assert_allclose(g_with[name] - g_without[name], 0.5 * value, atol=1e-9)


def test_a_written_case_has_the_golden_format(tmp_path):
    path = str(tmp_path / "case.npz")
    reference_cases.make_case(path, **reference_cases.CASES["two_scales"])
    golden, case = reference_cases.read_case(GOLDEN), reference_cases.read_case(path)
    assert set(golden[0]) - set(case[0]) <= {"debug", "seq_len", "stage_itr", "train_path", "valid_path"}
    for golden_part, part in zip(golden[1:], case[1:]):
        assert set(golden_part) == set(part)
        for name, value in part.items():
            assert value.dtype == golden_part[name].dtype and value.ndim == golden_part[name].ndim, name


@pytest.mark.parametrize("prior, m", [("rnn", -0.5), ("rw", 1 / (1 + np.exp(8.8)) - 0.5)])
def test_expected_propagations_in_the_first_frame(prior, m):
    flags = dict(reference_cases.DEFAULT_FLAGS, prop_prior_type=prior)
    params = reference_cases.init_params(flags, reference_cases.DEFAULT_IMAGE)
    noise = reference_cases.draw_noise(dict(flags, T=1), np.random.RandomState(0))
    objects = [empty_object(params, flags, 6) for _ in range(3)]
    images = np.zeros((6,) + reference_cases.DEFAULT_IMAGE)
    propagated = propagate(params, flags, images, objects, {name: value[0] for name, value in noise.items()})
    logits = np.stack([o["prior_logit"] for o in propagated])
    np.testing.assert_allclose(np.mean(reference_parts.sigmoid(logits) - 0.5, 0), m)
    assert not np.any([o["presence"] for o in propagated])


def test_keep_present_is_stable_and_drops_the_surplus():
    presence = [[0, 1], [1, 1], [0, 0], [1, 1]]  # 4 slots of 2 rows
    slots = [dict.fromkeys(KEPT, np.array([10.0 * n, 10.0 * n + 1])) for n in range(4)]
    for slot, present in zip(slots, presence):
        slot["presence"] = np.array(present)
    kept = keep_present(slots, 2)
    assert [list(o["obj_id"]) for o in kept] == [[10, 1], [30, 11]]
    all_slots = keep_present(slots, 4)
    assert [o["obj_id"][0] for o in all_slots] == [10, 30, 0, 20]
