# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases for the oracle that cover every flag, and their files, like the golden case's.

python tests/reference_cases.py FOLDER [NAME ...]    # writes FOLDER/NAME.npz and FOLDER/NAME.flags.json
"""

import json
import os
import sys
from collections import OrderedDict

import numpy as np
import reference
from reference_inputs import draw_noise, init_params, moving_blobs

DEFAULT_FLAGS = OrderedDict(
    T=3,
    batch_size=2,
    disc_prior_type="cat",
    disc_step_bias=0.3,
    glimpse_size=7,
    k_particles=3,
    masked_glimpse=True,
    n_steps_per_image=3,
    n_units=1,
    n_what=5,
    output_scale=0.25,
    output_std=0.45,
    prior_transition="GRU",
    prop_prior_step_bias=2.0,
    prop_prior_type="rnn",
    prop_step_bias=1.0,
    rec_where_prior=True,
    sample_from_prior=False,
    scale_prior="-2",
    step_success_prob=0.75,
    time_transition="GRU",
    transform_var_bias=-2.0,
    transition="VanillaRNN",
)
DEFAULT_IMAGE = (17, 22)
MAX_ATTEMPTS = 200  # at inputs that cover what is wanted
MIN_MARGIN = 2e-4  # between a probability and its uniform number, so that float32 makes the same choices

# Outputs of the oracle that a golden case does not have.
NOT_STORED = ("num_disc_steps", "num_prop_steps", "prop_slot_prob", "disc_slot_prob")


def case(seed, image=DEFAULT_IMAGE, estimator="reference", l2=0.0, **flags):
    """Arguments of `make_case`. The seeds are such that `build` soon finds what is wanted."""
    return dict(flags=dict(DEFAULT_FLAGS, **flags), seed=seed, image=image, estimator=estimator, l2=l2)


CASES = OrderedDict(
    plain=case(2, output_std=1.0),
    golden_sizes=case(117, image=(50, 50), n_what=50, glimpse_size=20, T=2, n_units=2),
    one_frame=case(201, T=1),
    one_slot=case(304, n_steps_per_image=1, n_what=1, T=5),
    two_slots=case(404, image=(21, 12), n_steps_per_image=2, glimpse_size=8, n_what=4),
    many_slots=case(505, n_steps_per_image=5, n_what=3, T=2),
    long=case(601, T=8, n_steps_per_image=2, batch_size=3, k_particles=2, output_std=1.0),
    random_walk=case(704, prop_prior_type="rw", T=4, output_std=1.0),
    guided=case(802, prop_prior_type="guided", T=4, n_steps_per_image=4),
    guided_one_frame=case(902, prop_prior_type="guided", T=1, n_steps_per_image=2),
    # absent against all odds: with a walk as prior, the logits of the absent matter
    random_walk_odds=case(1038, prop_prior_type="rw", disc_step_bias=5.5, prop_step_bias=5.5, T=4),
    guided_odds=case(
        1116, prop_prior_type="guided", disc_step_bias=5.5, prop_step_bias=5.5, T=3, image=(22, 17), n_units=2
    ),
    geometric=case(1202, disc_prior_type="geom", step_success_prob=0.6),
    unmasked=case(1301, masked_glimpse=False),
    independent_where=case(1401, rec_where_prior=False, scale_prior="-2,-1", output_std=1.0),
    two_scales=case(1503, scale_prior="-1.5,-0.5", output_scale=1.0, prop_prior_step_bias=10.0),
    all_options=case(
        1601,
        image=(12, 19),
        prop_prior_type="rw",
        disc_prior_type="geom",
        masked_glimpse=False,
        rec_where_prior=False,
        scale_prior="-1,-3",
        n_steps_per_image=2,
    ),
    one_sequence=case(1715, batch_size=1, k_particles=5),
    one_particle=case(1801, estimator="reinforce", batch_size=4, k_particles=1),
    textbook=case(1901, estimator="vimco"),
    decay=case(2001, l2=0.01, T=2),
    # `where` logits spread so widely that scales fall below their bound
    wide=case(2126, transform_var_bias=4.0),
    # discovered against all odds: probabilities of counts below 1e-16
    against_odds=case(2303, disc_step_bias=-9.5, n_steps_per_image=5, batch_size=3, output_std=1.0),
)


def coverage(flags, inputs, outputs):
    """What happens in a case, as counts of slots, frames or sequences; and the smallest |u - probability|."""
    presence, kept = outputs["presence"], outputs["prop_pres"]
    found = outputs["num_prop_steps_per_sample"] + outputs["num_disc_steps_per_sample"]
    before = np.concatenate([np.zeros_like(presence[:1]), presence[:-1]])
    vanished = before * (1 - kept)
    weights = outputs["importance_weights"].ravel()
    count = outputs["num_disc_steps_per_sample"].astype(int)
    drawn = np.take_along_axis(outputs["disc_prob"], count[..., None], -1)
    margin = 1.0
    for phase, parents in (("prop", before), ("disc", _previous_slot(outputs["disc_pres"]))):
        u = inputs["u_presence_" + phase]
        distance = np.abs(u - outputs[phase + "_slot_prob"])
        margin = min([margin] + list(distance[(parents == 1) & (u > 0)]))
    return dict(
        present=int(presence.sum()),
        absent=int((1 - presence).sum()),
        dropped=int(np.maximum(found - flags["n_steps_per_image"], 0).sum()),
        vanished=int(vanished.sum()),
        overtaken=int((vanished[..., :-1] * kept[..., 1:]).sum()),
        joined=int(((kept.sum(-1) > 0) & (outputs["disc_pres"].sum(-1) > 0)).sum()),
        weighty=int((weights * presence.sum(-1)).sum()),
        weighty_kept=int((weights * kept.sum(-1)).sum()),
        spread=int((outputs["importance_weights"].max(1) < 0.99).sum()),
        bounded=int((presence[..., None] * (outputs["where"][..., :2] < -9.3)).sum()),
        clipped=int(((drawn < 1e-16) & (drawn > 1e-17)).sum()),  # not so small that its gradient vanishes
        margin=margin,
    )


def _previous_slot(presence):
    return np.concatenate([np.ones_like(presence[..., :1]), presence[..., :-1]], -1)


def wanted(flags):
    """The counts that a case should have above zero."""
    names = ["present", "absent", "weighty"]
    if flags["T"] > 1:
        names += ["dropped", "vanished", "joined", "weighty_kept"]
    if flags["k_particles"] > 1:
        names += ["spread"]
    if flags["transform_var_bias"] > 0:
        names += ["bounded"]
    if flags["disc_step_bias"] < -5:
        names += ["clipped"]
    return names


def build(flags, image=DEFAULT_IMAGE, seed=0):
    """Draws parameters and inputs, the latter again until the case covers what `wanted` says.

    Returns (params, inputs): dicts of arrays.
    """
    params = init_params(flags, image, seed)
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.RandomState([seed, attempt])
        inputs = moving_blobs(flags["T"], flags["batch_size"], image, rng)
        inputs.update(draw_noise(flags, rng))
        outputs, _ = reference.run(flags, params, inputs, "reinforce", gradients=False)
        found = coverage(flags, inputs, outputs)
        if found["margin"] > MIN_MARGIN and all(found[name] for name in wanted(flags)):
            return params, inputs
    raise ValueError("no noise covers what is wanted: %s" % found)


def make_case(path, flags, seed=0, image=DEFAULT_IMAGE, estimator="reference", l2=0.0):
    """Writes `path` (CASE.npz) and CASE.flags.json beside it, in the golden case's format.

    `estimator` and `l2` are added to the flags where they are not `reference` and 0.
    """
    flags = dict(DEFAULT_FLAGS, **flags)
    params, inputs = build(flags, image, seed=seed)
    outputs, gradients = reference.run(flags, params, inputs, estimator, l2)
    arrays = {"param/" + name: value for name, value in params.items()}
    arrays.update({"input/" + name: value for name, value in inputs.items()})
    for name, value in outputs.items():
        if name not in NOT_STORED:
            arrays["output/" + name] = np.asarray(value, np.float32)
    arrays.update({"grad/" + name: np.asarray(value, np.float32) for name, value in gradients.items()})
    np.savez_compressed(path, **arrays)
    if estimator != "reference":
        flags["estimator"] = estimator
    if l2:
        flags["l2"] = l2
    with open(path[: -len(".npz")] + ".flags.json", "w") as f:
        json.dump(flags, f, indent=1, sort_keys=True)


def read_case(path):
    """Returns (flags, params, inputs, outputs, gradients) of a CASE.npz with its CASE.flags.json."""
    with open(path[: -len(".npz")] + ".flags.json") as f:
        flags = json.load(f)
    with np.load(path) as arrays:
        parts = {kind: {} for kind in ("param", "input", "output", "grad")}
        for key in arrays.files:
            kind, name = key.split("/", 1)
            parts[kind][name] = arrays[key]
    return flags, parts["param"], parts["input"], parts["output"], parts["grad"]


def output_error(name, actual, expected, presence):
    """Largest error relative to the array's largest magnitude; some only where present."""
    difference = np.abs(actual - expected)
    if name.startswith(("what", "where", "glimpse", "presence_prob", "presence_logit")):
        difference = difference[presence == 1]
    return np.max(difference, initial=0.0) / max(np.max(np.abs(expected)), 1e-30)


def gradient_errors(actual, expected):
    """Per name, the norm of the difference over the larger of its norm and 1e-3 of the global norm."""
    norms = {name: np.linalg.norm(value) for name, value in expected.items()}
    floor = 1e-3 * np.sqrt(sum(norm**2 for norm in norms.values()))
    differences = {name: np.linalg.norm(actual[name] - value) for name, value in expected.items()}
    return {name: difference / max(norms[name], floor) for name, difference in differences.items()}


def main(folder, *names):
    os.makedirs(folder, exist_ok=True)
    for name in names or CASES:
        make_case(os.path.join(folder, name + ".npz"), **CASES[name])


if __name__ == "__main__":
    main(*sys.argv[1:])
