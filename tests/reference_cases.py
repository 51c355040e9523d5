# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases for the oracle: parameters of any sizes, synthetic sequences, noise; files like the golden case's.

python tests/reference_cases.py FOLDER [NAME ...]    # writes FOLDER/NAME.npz and FOLDER/NAME.flags.json
"""

import json
import os
import sys
from collections import OrderedDict

import numpy as np
import reference
from reference_discovery import scale_prior
from reference_names import DECODER, DISC, NUM_PRIOR, PROP, WHERE_PRIOR, is_trainable, variable_shapes

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
    output_std=1.0,
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
    plain=case(3),
    golden_sizes=case(25, image=(50, 50), n_what=50, glimpse_size=20, output_std=0.3, T=2, n_units=2),
    one_frame=case(44, T=1, output_std=0.45),
    one_slot=case(63, n_steps_per_image=1, n_what=1, T=5, output_std=0.45),
    two_slots=case(81, image=(21, 12), n_steps_per_image=2, glimpse_size=8, n_what=4),
    many_slots=case(202, n_steps_per_image=5, n_what=3, T=2),
    long=case(123, T=8, n_steps_per_image=2, batch_size=3, k_particles=2, output_std=0.45),
    random_walk=case(157, prop_prior_type="rw", T=4),
    guided=case(172, prop_prior_type="guided", T=4, n_steps_per_image=4, output_std=0.45),
    guided_one_frame=case(181, prop_prior_type="guided", T=1, n_steps_per_image=2, output_std=0.45),
    geometric=case(202, disc_prior_type="geom", step_success_prob=0.6),
    unmasked=case(221, masked_glimpse=False, output_std=0.45),
    independent_where=case(244, rec_where_prior=False, scale_prior="-2,-1", output_std=0.45),
    two_scales=case(263, scale_prior="-1.5,-0.5", output_scale=1.0, prop_prior_step_bias=10.0),
    all_options=case(
        281,
        output_std=0.45,
        image=(12, 19),
        prop_prior_type="rw",
        disc_prior_type="geom",
        masked_glimpse=False,
        rec_where_prior=False,
        scale_prior="-1,-3",
        n_steps_per_image=2,
    ),
    one_sequence=case(301, batch_size=1, k_particles=5),
    one_particle=case(321, estimator="reinforce", batch_size=4, k_particles=1, output_std=0.45),
    textbook=case(346, estimator="vimco", output_std=0.45),
    decay=case(376, l2=0.01, T=2, output_std=0.45),
    # `where` logits spread so widely that scales fall below their bound
    wide=case(1029, transform_var_bias=4.0),
    # discovered against all odds: probabilities of counts below 1e-16
    against_odds=case(803, output_std=0.45, disc_step_bias=-10.0, n_steps_per_image=5, batch_size=3),
)


def initial_value(name, shape, flags, rng):
    """Where the original starts, for the variables whose start is not simply zero or a random matrix."""
    last = name.split("/")[-1]
    if name == WHERE_PRIOR + "/linear/b":
        return np.array(scale_prior(flags) + [0.0] * 2 + [1.0] * 4)
    starts = {
        DISC + "/air_encoder/mlp/linear_1/b": 1.0,
        DISC + "/stochastic_transform_param/scale_offset": flags["transform_var_bias"],
        PROP + "/stochastic_transform_param/scale_offset": flags["transform_var_bias"],
        DISC + "/steps_predictor/mlp/linear_1/b": flags["disc_step_bias"],
        PROP + "/steps_predictor/mlp/linear_1/b": flags["prop_step_bias"],
        PROP + "/what/linear/b": 1.0,
        PROP + "/where_update_scale": 1.0,
        DECODER + "/decoder/output_scale": flags["output_scale"],
        DECODER + "/output_std": np.sqrt(flags["output_std"]),
        DECODER + "/background_std": np.sqrt(flags["output_std"]),
        NUM_PRIOR + "step_prior_timestep_bias": [10.0] + [0.0] * flags["n_steps_per_image"],
    }
    if last == "min_std":
        return np.full(shape, 0.01)
    if last in ("w", "wz", "wr", "wh", "uz", "ur", "uh") and shape[0] > 1:
        return rng.normal(size=shape) / np.sqrt(shape[0])
    return np.zeros(shape) + starts.get(name, 0.0)


def init_params(flags, image_shape=DEFAULT_IMAGE, seed=0):
    """Parameters near the original's initial ones, moved from special values so that all paths matter.

    Returns a dict name -> float32 array with every variable, fixed ones included.
    """
    rng = np.random.RandomState(seed)
    params = OrderedDict()
    for name, shape in variable_shapes(flags, image_shape).items():
        value = initial_value(name, shape, flags, rng)
        if name.endswith("stochastic_transform_param/mlp/linear_2/b"):
            value = value + 0.3 * rng.normal(size=shape)
        elif is_trainable(name):
            value = value + (0.05 if len(shape) > 1 else 0.1) * rng.normal(size=shape)
        else:
            value = value * rng.uniform(1.02, 1.3)
        params[name] = np.asarray(value, np.float32)
    params[PROP + "/affine_diag_normal/cholesky_scale"][9] = -1.6  # a diagonal entry: 1 + M_ii < 0
    return params


def moving_blobs(seq_len, batch_size, image_shape, rng):
    """Up to two blobs that move on straight lines: imgs, nums, coords and mean_img as in a golden case."""
    height, width = image_shape
    y, x = np.mgrid[:height, :width]
    size = np.array(image_shape) / 3.0
    imgs = np.zeros((seq_len, batch_size, height, width))
    nums = np.zeros((1, batch_size, 3), np.float32)
    coords = np.zeros((seq_len, batch_size, 2, 4), np.float32)
    for b in range(batch_size):
        for i in range(1 + b % 2):
            nums[0, b, i] = 1
            start = rng.uniform(0, 1, 2) * (np.array(image_shape) - size)
            velocity = rng.uniform(-1, 1, 2)
            for t in range(seq_len):
                corner = start + t * velocity
                coords[t, b, i] = list(corner) + list(size)
                middle = corner + size / 2
                radius = np.hypot((y - middle[0]) / size[0], (x - middle[1]) / size[1])
                imgs[t, b] = np.maximum(imgs[t, b], np.exp(-8 * radius**2))
    imgs = np.round(255 * imgs).astype(np.uint8)
    return dict(imgs=imgs, nums=nums, coords=coords, mean_img=np.float32(imgs.mean((0, 1)) / 255))


def draw_noise(flags, rng):
    shape = (flags["T"], flags["batch_size"] * flags["k_particles"], flags["n_steps_per_image"])
    noise = {}
    for phase in ("prop", "disc"):
        noise["eps_what_" + phase] = rng.normal(size=shape + (flags["n_what"],)).astype(np.float32)
        noise["eps_where_" + phase] = rng.normal(size=shape + (4,)).astype(np.float32)
        noise["u_presence_" + phase] = rng.uniform(size=shape).astype(np.float32)
    if flags["disc_step_bias"] < -5:  # nothing would ever be discovered
        noise["u_presence_disc"] *= rng.uniform(size=shape) < 0.2
    return noise


def coverage(flags, inputs, outputs):
    """What happens in a case, as counts of slots, frames or sequences; and the smallest |u - probability|."""
    presence, kept = outputs["presence"], outputs["prop_pres"]
    found = outputs["num_prop_steps_per_sample"] + outputs["num_disc_steps_per_sample"]
    before = np.concatenate([np.zeros_like(presence[:1]), presence[:-1]])
    vanished = before * (1 - kept)
    weights = outputs["importance_weights"].ravel()
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
        clipped=int((outputs["disc_log_prob"] < np.log(1.001e-16)).sum()),
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
