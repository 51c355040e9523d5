# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the model with the float64 oracle's parameters: what the tests of each part share."""

import re

import numpy as np
import reference_cases

from sqair.graph_mode import tf
from sqair.verification.reference_names import reference_to_ours

IMAGE = (9, 8)
N, Z, G, D = 3, 5, 4, 32
B, K = 2, 3
R = B * K


def flags(**changes):
    """Small sizes, for the oracle."""
    return dict(
        reference_cases.DEFAULT_FLAGS, n_what=Z, n_steps_per_image=N, glimpse_size=G, n_units=1, **changes
    )


def constant(value):
    return tf.constant(value, tf.float32)


def parameters(f):
    """Random ones by the oracle's names, and what to feed to our variables of the current graph.

    A second module of a kind takes the values of the first.
    """
    params = {name: value.astype(np.float64) for name, value in reference_cases.init_params(f, IMAGE).items()}
    names = "masked_glimpse rec_where_prior disc_prior_type prop_prior_type".split()
    ours = {our: theirs for theirs, our in reference_to_ours(**{name: f[name] for name in names}).items()}
    names = {v: re.sub(r"(propagation|discovery)_1/", r"\1/", v.op.name) for v in tf.global_variables()}
    return params, {v: params[ours[name]] for v, name in names.items()}


def draw_images(rng):
    """`[B, H, W]`, and the same for each row."""
    images = rng.uniform(size=(B,) + IMAGE)
    return images, np.repeat(images, K, axis=0)


def assert_close(actual, expected, name=""):
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4, err_msg=name)
