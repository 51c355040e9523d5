# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of weights that are made after a loop, against TensorFlow's own."""

import contextlib
import threading

import numpy as np
import pytest
from tf_run import run

from sqair.engine.loop_gradients import DeferredGradients, affine
from sqair.graph_mode import tf

SIZE = 3


def build_loop(weights, bias, others, x, rows, defer, activation, between=lambda: None):
    """The loss of a loop over steps with different numbers of rows.

    A layer is called twice in it, and once outside; another has no bias. `between` is called amid the loop's body.
    """
    rows, length = tf.constant(rows, tf.int32), len(rows)
    deferred = DeferredGradients(tf.constant(length))

    def step(index, total, state):
        with contextlib.ExitStack() as stack:
            if defer:
                stack.enter_context(deferred.inside(index))
            between()
            once = affine(x[: rows[index]] * state, weights, bias, activation)
            between()
            twice = affine(tf.sin(once), weights, bias, activation)
            outputs = affine(twice, others)
        return index + 1, total + tf.reduce_sum(outputs * outputs), state + tf.reduce_mean(tf.tanh(total))

    _, total, state = tf.while_loop(lambda index, *_: index < length, step, (0, 0.0, 1.0))
    return total + state + tf.reduce_sum(affine(x, weights, bias))


def loop_of_layers(rows, defer, activation, first=(), between=lambda: None):
    """The loss of such a loop and its gradients towards weights, bias, other weights and inputs.

    Those of `first`, lists of places among these four, are asked for before, by themselves.
    """
    rng = np.random.RandomState(0)
    shapes = [SIZE, SIZE], [SIZE], [SIZE, SIZE], [9, SIZE]
    wanted = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    loss = build_loop(*wanted, rows, defer, activation, between)
    for asked in first:
        tf.gradients(loss, [wanted[place] for place in asked])
    return [loss] + tf.gradients(loss, wanted)


@pytest.mark.parametrize("activation", [None, tf.nn.elu], ids=["linear", "elu"])
@pytest.mark.parametrize("rows", [[4, 9, 1], [0, 2, 0], [0, 0], [5]], ids=str)
def test_gradients_are_those_of_tensorflow(rows, activation):
    actual, expected = run([loop_of_layers(rows, defer, activation) for defer in (True, False)])
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5 * max(np.max(np.abs(e)), 1))


@pytest.mark.parametrize("before", [[[0, 1, 2, 3]], [[3]], [[0]], [[3], [1], [3, 2]]], ids=str)
def test_gradients_can_be_taken_again(before):
    """Of the same or of others; each time the backward loop is another one."""
    again, first = [loop_of_layers([4, 2], True, tf.nn.elu, asked) for asked in (before, ())]
    for a, e in zip(*run([again, first])):
        np.testing.assert_allclose(a, e, rtol=1e-5)


def test_gradients_asked_for_one_by_one_are_those_asked_for_together():
    with tf.Graph().as_default():
        expected = run(loop_of_layers([4, 9, 1], False, tf.nn.elu))[1:]
    rng = np.random.RandomState(0)
    shapes = [SIZE, SIZE], [SIZE], [SIZE, SIZE], [9, SIZE]
    wanted = [tf.constant(rng.normal(size=shape), tf.float32) for shape in shapes]
    loss = build_loop(*wanted, [4, 9, 1], True, tf.nn.elu)
    for place in (3, 0, 1, 2):
        actual = run(tf.gradients(loss, wanted[place])[0])
        np.testing.assert_allclose(actual, expected[place], rtol=1e-4, atol=1e-5)


def test_threads_build_their_loops_apart():
    """One thread builds the body of its loop while the other is in the middle of its own."""
    turns, results = threading.Barrier(2, timeout=60), {}

    def build(rows):
        with tf.Graph().as_default():
            results[rows] = run(loop_of_layers([rows, 2], True, tf.nn.elu, between=turns.wait))

    threads = [threading.Thread(target=build, args=[rows]) for rows in (3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rows, actual in results.items():
        for a, e in zip(actual, run(loop_of_layers([rows, 2], False, tf.nn.elu))):
            np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)
    assert set(results) == {3, 7}


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
