# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of weights that are made after a loop, against TensorFlow's own."""

import contextlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tf_run import run

from sqair.engine.loop_gradients import DeferredGradients, affine

SIZE = 3


def loop_of_layers(rows, defer, activation, times=1):
    """A loop over steps with different numbers of rows; a layer called twice, one without a bias, and one outside."""
    rng = np.random.RandomState(0)
    constant = lambda *shape: tf.constant(rng.normal(size=shape), tf.float32)  # noqa: E731
    weights, bias, others, x = constant(SIZE, SIZE), constant(SIZE), constant(SIZE, SIZE), constant(9, SIZE)
    rows, length = tf.constant(rows, tf.int32), len(rows)
    deferred = DeferredGradients(tf.constant(length))

    def step(index, total, state):
        with contextlib.ExitStack() as stack:
            if defer:
                stack.enter_context(deferred.inside(index))
            chosen = x[: rows[index]] * state
            once = affine(chosen, weights, bias, activation)
            twice = affine(tf.sin(once), weights, bias, activation)
            outputs = affine(twice, others)
        return index + 1, total + tf.reduce_sum(outputs * outputs), state + tf.reduce_mean(tf.tanh(total))

    _, total, state = tf.while_loop(lambda index, *_: index < length, step, (0, 0.0, 1.0))
    loss = total + state + tf.reduce_sum(affine(x, weights, bias))
    for _ in range(times):
        gradients = tf.gradients(loss, [weights, bias, others, x])
    return [loss] + gradients


@pytest.mark.parametrize("activation", [None, tf.nn.elu], ids=["linear", "elu"])
@pytest.mark.parametrize("rows", [[4, 9, 1], [0, 2, 0], [0, 0], [5]], ids=str)
def test_gradients_are_those_of_tensorflow(rows, activation):
    actual, expected = run([loop_of_layers(rows, defer, activation) for defer in (True, False)])
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5 * max(np.max(np.abs(e)), 1))


def test_gradients_can_be_taken_twice():
    first, again = [loop_of_layers([4, 2], True, tf.nn.elu, times) for times in (1, 2)]
    for a, e in zip(*run([again, first])):
        np.testing.assert_allclose(a, e, rtol=1e-5)


def test_products_with_the_weights_shape_are_made_once():
    """The backward loop holds no product that is as large as the weights."""
    loop_of_layers([2, 3], True, tf.nn.elu)
    products = [
        op
        for op in tf.get_default_graph().get_operations()
        if op.type == "MatMul" and op.get_attr("transpose_a")
    ]
    in_loops = [op.name for op in products if op._get_control_flow_context() is not None]  # noqa: SLF001
    assert products and not in_loops


def test_nothing_changes_outside_a_deferring_loop():
    x, weights = tf.ones([2, 3]), tf.ones([3, 4])
    outputs = affine(x, weights)
    assert outputs.op.type == "MatMul"
    assert run(outputs).tolist() == [[3.0] * 4] * 2
