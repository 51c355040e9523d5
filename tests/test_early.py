# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs multiplied early, for several layers at once: the same as all at once; what is wrong is refused."""

import numpy as np
import pytest
from tf_run import run

from sqair.engine.early import EarlyProducts
from sqair.engine.layers import MLP, Linear, make_core
from sqair.graph_mode import tf

WIDTHS = dict(a=2, b=3, c=4)


def inputs(seed=0):
    rng = np.random.RandomState(seed)
    return {name: tf.constant(rng.normal(size=(5, n)), tf.float32) for name, n in WIDTHS.items()}


def layers():
    bias = tf.random_normal_initializer()
    return [
        Linear(6, dict(a=2, b=3, c=4), bias, name="abc"),
        Linear(3, dict(c=4, a=2), bias, tf.nn.elu, name="ca"),
        MLP([7], 2, inputs=dict(b=3), name="of_b"),
    ]


def call(layer, values):
    (weights,) = layer.named_weights
    return layer(**{name: values[name] for name in weights.widths})


@pytest.mark.parametrize("order", [["a"], ["b", "a"], ["a", "b"], ["a", "b", "c"]], ids="".join)
def test_early_inputs_change_no_number(order):
    """Outputs and gradients of inputs and variables, whichever inputs come early and in which order."""
    values, modules = inputs(), layers()
    chosen = modules if "b" in order else modules[:2]
    multiply, early = EarlyProducts(*chosen), None
    for name in order:
        early = multiply(early, **{name: values[name]})
    mixed = dict(values, **{name: getattr(early, name) for name in order})
    expected, actual = [[call(layer, x) for layer in chosen] for x in (values, mixed)]
    wanted = list(values.values()) + tf.trainable_variables()
    gradients = [
        [g for g in tf.gradients([tf.sin(x) for x in outputs], wanted) if g is not None]
        for outputs in (expected, actual)
    ]
    expected, actual, gradients = run([expected, actual, gradients])
    assert len(gradients[0]) == len(gradients[1]) > 5
    for a, e in zip(actual + gradients[1], expected + gradients[0]):
        np.testing.assert_allclose(a, e, atol=1e-5)


def test_layers_that_take_the_same_share_a_product():
    modules = layers()
    multiply = EarlyProducts(*modules)
    before = len(products())
    multiply(a=inputs()["a"])
    assert len(products()) == before + 1
    multiply(a=inputs(1)["a"])
    assert len(products()) == before + 2


def products():
    return [op for op in tf.get_default_graph().get_operations() if op.type == "MatMul"]


@pytest.mark.parametrize("kind", ["VanillaRNN", "GRU"])
@pytest.mark.parametrize("early_names", [["a", "c"], ["h"], ["b", "h"]], ids="".join)
def test_recurrent_cores_take_early_inputs_and_states(kind, early_names):
    values = inputs()
    values["h"] = tf.constant(np.random.RandomState(1).normal(size=(5, 6)), tf.float32)
    core = make_core(kind, 6, WIDTHS, "transition", state="h")
    early = EarlyProducts(core)(**{name: values[name] for name in early_names})
    mixed = dict(values, **{name: getattr(early, name) for name in early_names})
    expected, actual = [core(x["h"], **{name: x[name] for name in WIDTHS})[1] for x in (values, mixed)]
    expected, actual = run([expected, actual])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_value_of_an_early_input_is_kept():
    values = inputs()
    early = EarlyProducts(*layers())(a=values["a"])
    assert early.a.value is values["a"]
    with pytest.raises(AttributeError, match="no early input b"):
        early.b  # noqa: B018


def test_wrong_inputs_are_refused_by_name():
    values, (abc, ca, _) = inputs(), layers()
    early = EarlyProducts(abc)(a=values["a"])
    with pytest.raises(ValueError, match="abc takes a, b, c, not a, b"):
        abc(a=early.a, b=values["b"])
    with pytest.raises(ValueError, match="abc takes a, b, c, not a, b, c, d"):
        abc(**values, d=values["a"])
    with pytest.raises(ValueError, match="ca was not multiplied with just a early"):
        ca(c=values["c"], a=early.a)
    with pytest.raises(ValueError, match="abc was not multiplied with just a early"):
        more = EarlyProducts(abc)(early, b=values["b"])
        abc(a=more.a, b=values["b"], c=values["c"])


def test_structures_of_early_inputs_can_be_mapped():
    """As gathering rows does."""
    values, (abc, *_) = inputs(), layers()
    early = EarlyProducts(abc)(a=values["a"])
    reversed_rows = tf.nest.map_structure(lambda x: x[::-1], early)
    actual = abc(a=reversed_rows.a, b=values["b"][::-1], c=values["c"][::-1])
    actual, expected = run([actual, abc(**values)])
    np.testing.assert_allclose(actual, expected[::-1], atol=1e-5)
