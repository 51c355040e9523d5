# SPDX-License-Identifier: GPL-3.0-or-later
"""The map of variable names: total, one-to-one, right in shape and kind, for all variants of the model."""

import itertools
import os

import numpy as np
import pytest
import reference_cases
from reference_names import is_trainable, variable_shapes

from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.sqair import mlp_sqair
from sqair.verification.reference_names import reference_to_ours

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")
VARIANTS = [
    dict(zip("prop_prior_type disc_prior_type masked_glimpse rec_where_prior".split(), values))
    for values in itertools.product(("rnn", "rw", "guided"), ("cat", "geom"), (True, False), (True, False))
]


def variables_of(image_shape=(9, 8), **flags):
    """Our variables by name: shape, and whether each is trained."""
    model = mlp_sqair(np.zeros(image_shape + (1,), np.float32), **flags)
    model(tf.zeros((1, 1) + image_shape + (1,)), noise.mode(1, 1, 1, model.noise))
    trainable = tf.trainable_variables()
    return {v.op.name: (tuple(v.shape.as_list()), v in trainable) for v in tf.global_variables()}


def check(names, listed, ours):
    """`listed`: the release's name to (shape, trained)."""
    assert set(names) == set(listed), "total on the release's variables"
    assert len(set(names.values())) == len(names), "one-to-one"
    assert set(names.values()) == set(ours), "onto ours"
    assert {name: ours[names[name]] for name in listed} == listed


def test_default_model_against_the_list_of_the_release():
    listed = {}
    with open(os.path.join(GOLDEN, "reference_variables.txt")) as file:
        for line in file:
            if not line.startswith("#"):
                name, shape, kind = line.split()
                shape = () if shape == "scalar" else tuple(int(n) for n in shape.split("x"))
                listed[name] = shape, kind == "trainable"
    check(reference_to_ours(), listed, variables_of((50, 50)))


def variant_shapes(variant):
    """The release's variables at small sizes, and the flags of these sizes."""
    flags = dict(n_units=1, n_what=3, glimpse_size=4, n_steps_per_image=1, **variant)
    return variable_shapes(dict(reference_cases.DEFAULT_FLAGS, **flags), (9, 8)), flags


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_names_of_every_variant(variant):
    names = reference_to_ours(**variant)
    assert set(names) == set(variant_shapes(variant)[0])
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(VARIANTS[8], marks=pytest.mark.slow, id="rw"),
        pytest.param(VARIANTS[-1], id="guided and the rest off"),
    ],
)
def test_models_of_variants(variant):
    shapes, flags = variant_shapes(variant)
    listed = {name: (shape, is_trainable(name)) for name, shape in shapes.items()}
    check(reference_to_ours(**variant), listed, variables_of(**flags))


def test_a_checkpoint_with_the_names_of_the_release_holds_the_golden_parameters():
    reader = tf.train.load_checkpoint(os.path.join(GOLDEN, "small.ckpt-1234"))
    names = reference_to_ours()
    assert set(reader.get_variable_to_shape_map()) == set(names) | {"global_step"}
    _, params, _, _, _ = reference_cases.read_case(os.path.join(GOLDEN, "small.npz"))
    assert set(params) == set(names)
    for name in names:
        np.testing.assert_array_equal(reader.get_tensor(name), params[name], err_msg=name)
