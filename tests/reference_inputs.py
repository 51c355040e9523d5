# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs of the oracle: parameters of any sizes, synthetic sequences, noise."""

from collections import OrderedDict

import numpy as np
from reference_discovery import scale_prior
from reference_names import DECODER, DISC, NUM_PRIOR, PROP, WHERE_PRIOR, is_trainable, variable_shapes


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
    if name == "discovery/discover/mlp/linear/w":
        return rng.normal(size=shape)  # its input, m, is a number between -0.5 and 0.5
    if last in ("w", "wz", "wr", "wh", "uz", "ur", "uh") and shape[0] > 1:
        return rng.normal(size=shape) / np.sqrt(shape[0])
    return np.zeros(shape) + starts.get(name, 0.0)


def init_params(flags, image_shape, seed=0):
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
            noise_scale = 0.3 if shape[:1] == (1,) else 0.05 if len(shape) > 1 else 0.1
            value = value + noise_scale * rng.normal(size=shape)
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
    if flags["disc_step_bias"] > 4:  # nothing would ever be absent
        for u in (noise["u_presence_disc"], noise["u_presence_prop"]):
            u[rng.uniform(size=shape) < 0.4] = 0.9995
    return noise
