# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of a stored case: run again on other arrays, held to the tolerances under rounding, and refusals."""

import os

import numpy as np
import pytest
import reference
import reference_cases

from sqair.errors import UserError
from sqair.verification import comparison
from sqair.verification.replay import Replay, float_images
from sqair.verification.stored_case import load_case

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "small.npz")
SEEDS = range(10)
PERTURBED = ("param/", "input/eps_", "input/u_", "input/imgs")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A small case, of one slot and one frame."""
    path = str(tmp_path_factory.mktemp("small") / "small.npz")
    reference_cases.make_case(path, **reference_cases.case(7, n_steps_per_image=1, T=1, output_std=0.45))
    return load_case(path)


@pytest.fixture(scope="module")
def golden():
    """The golden case, and its model."""
    case = load_case(GOLDEN)
    with Replay(case) as replay:
        yield case, replay


def rounded_otherwise(arrays, seed):
    """All that is fed, each number as it is or replaced by one of its two neighbours in float32, at random."""
    rng = np.random.RandomState(seed)
    arrays = dict(arrays, **{"input/imgs": float_images(arrays)})
    for key in sorted(arrays):
        if key.startswith(PERTURBED):
            value = np.float32(arrays[key])
            step = rng.randint(-1, 2, value.shape)
            neighbour = np.nextafter(value, np.float32(np.inf) * np.where(step, step, 1).astype(np.float32))
            arrays[key] = np.where(step, neighbour, value)
    return arrays


def test_numbers_are_moved_by_one_step_at_most():
    arrays = {"param/w": np.float32([1.0] * 50 + [0.0] * 50), "output/canvas": np.float32([1.0])}
    arrays["input/imgs"] = np.full([1, 1, 5, 5], 255, np.uint8)
    moved = rounded_otherwise(arrays, 0)
    assert moved["output/canvas"] is arrays["output/canvas"]
    assert moved["input/imgs"].dtype == moved["param/w"].dtype == np.float32
    assert set(moved["param/w"][:50]) == {np.float32(1 - 2**-24), np.float32(1), np.float32(1 + 2**-23)}
    assert set(moved["param/w"][50:]) == {np.float32(-(2.0**-149)), np.float32(0), np.float32(2.0**-149)}
    assert moved["input/imgs"].shape == (1, 1, 5, 5, 1) and len(set(moved["input/imgs"].ravel())) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_golden_case_passes_whatever_the_rounding(golden, seed):
    """What a processor rounds otherwise is as much, so that the tolerances hold on all of them."""
    case, replay = golden
    comparisons = comparison.compare(case.arrays, *replay.run(rounded_otherwise(case.arrays, seed)))
    assert len(comparisons) == 54 + 105
    assert [one for one in comparisons if one.error > 0.6 * one.tolerance] == []


def test_no_choice_of_the_golden_case_hangs_on_rounding():
    """Each uniform number is far from the probability that it is compared with, next to what rounding changes."""
    flags, params, inputs, outputs, _ = reference_cases.read_case(GOLDEN)
    computed, _ = reference.run(flags, params, inputs, gradients=False)
    np.testing.assert_array_equal(computed["presence"], outputs["presence"])
    assert reference_cases.coverage(flags, inputs, computed)["margin"] > 100 * np.finfo(np.float32).eps


def test_a_replay_follows_what_it_is_given(golden):
    case, replay = golden

    def changed(key, change):
        return replay.run(dict(case.arrays, **{key: change(case.arrays[key])}))

    name = "discovery/vanilla_rnn/in_to_hidden/w"
    first, gradients = replay.run(case.arrays)
    other, other_gradients = changed("param/" + name, lambda x: 2 * x)
    darker, _ = changed("input/imgs", np.zeros_like)
    empty, _ = changed("input/u_presence_disc", np.ones_like)
    again, gradients_again = replay.run(case.arrays)
    assert first["presence"].any() and not empty["presence"].any()
    assert not np.array_equal(first["where_loc"], other["where_loc"])
    assert not np.array_equal(gradients[name], other_gradients[name])
    assert not np.array_equal(first["log_weights"], darker["log_weights"])
    np.testing.assert_allclose(first["log_weights"], again["log_weights"], rtol=1e-6)
    np.testing.assert_allclose(gradients[name], gradients_again[name], rtol=1e-4, atol=1e-4)


def test_images_of_bytes_and_of_numbers():
    images = np.random.RandomState(0).randint(0, 256, (2, 1, 3, 4)).astype(np.uint8)
    found = float_images({"input/imgs": images})
    assert found.dtype == np.float32 and found.shape == (2, 1, 3, 4, 1)
    np.testing.assert_allclose(found[..., 0], images / 255, rtol=1e-6)
    np.testing.assert_array_equal(float_images({"input/imgs": found}), found)


PARAM = "param/discovery/vanilla_rnn/in_to_hidden/w"
REFUSED = {
    "unknown prior": (dict(prop_prior_type="walk"), {}, r"`prop_prior_type=walk`"),
    "other units": (dict(n_units=2), {}, r"param/.* has shape"),
    "parameter of other shape": ({}, {PARAM: lambda x: x.T}, PARAM + " has shape"),
    "parameter missing": ({}, {PARAM: None}, r"has no " + PARAM),
    "unknown parameter": ({}, {"param/other": lambda _: np.zeros(3)}, r"has param/other, unknown"),
}


def check_refusal(case, message):
    with pytest.raises(UserError, match=message) as refused:
        Replay(case)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name == "other units" else []) for name in sorted(REFUSED)],
)
def test_parameters_that_do_not_fit_the_flags_are_refused_in_one_sentence(case, name):
    flags, changes, message = REFUSED[name]
    arrays = {
        **case.arrays,
        **{key: change and change(case.arrays.get(key)) for key, change in changes.items()},
    }
    arrays = {key: value for key, value in arrays.items() if value is not None}
    check_refusal(case._replace(arrays=arrays, flags=dict(case.flags, **flags)), message)


def test_an_unknown_estimator_is_refused(case):
    check_refusal(case._replace(estimator="nvil"), r"`estimator=nvil`")
