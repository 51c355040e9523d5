# SPDX-License-Identifier: GPL-3.0-or-later
"""A cell scanned over time, in one stream and in two, against a loop in NumPy."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from tf_run import run

from sqair.engine.loop_gradients import affine
from sqair.engine.unroll import unroll
from sqair.graph_mode import snt, tf

T, B, K = 5, 4, 2


class Inputs(NamedTuple):
    x: Any  # [B, 3]
    pair: Any  # two of [B, K, 2]


class Outputs(NamedTuple):
    state: Any  # [R, 3]
    parts: Any  # [R, 2, 3] and [R, 2, 1]


class Cell(snt.RNNCore):
    """`s = tanh(s W + x)`, with noise of each particle."""

    def __init__(self):
        super().__init__(name="cell")
        with self._enter_variable_scope():
            self.weights = tf.get_variable("w", [3, 3])

    def initial_state(self, rows):
        return tf.fill([rows, 3], 0.5)

    def _build(self, inputs, state):
        noise = tf.reshape(inputs.pair[0] * inputs.pair[1], [-1, 2])
        x = tf.gather(inputs.x, np.repeat(np.arange(inputs.x.shape[0].value or B), K))
        state = tf.tanh(affine(state, self.weights) + x) + noise[:, :1]
        slots = tf.stack([state, 2.0 * state], axis=1)
        return Outputs(state, (slots, slots[:, :, :1])), state

    @property
    def state_size(self):
        return tf.TensorShape([3])

    @property
    def output_size(self):
        return Outputs(tf.TensorShape([3]), (tf.TensorShape([2, 3]), tf.TensorShape([2, 1])))


def values():
    rng = np.random.RandomState(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    return Inputs(draw(T, B, 3), (draw(T, B, K, 2), draw(T, B, K, 2)))


def by_a_loop(inputs, weights):
    states = np.full((B * K, 3), 0.5, np.float32)
    found = []
    for t in range(T):
        for b in range(B):
            for k in range(K):
                row = b * K + k
                noise = inputs.pair[0][t, b, k, 0] * inputs.pair[1][t, b, k, 0]
                states[row] = np.tanh(states[row].dot(weights) + inputs.x[t, b]) + noise
        found.append(states.copy())
    return np.array(found)


@pytest.mark.parametrize("streams, batch_size", [(1, B), (2, B), (4, B), (3, B), (2, None)])
def test_unrolled_is_a_loop(streams, batch_size):
    """3 streams do not divide the batch, and a batch of unknown size is not divided: one stream takes it."""
    inputs = values()
    fed = tf.nest.map_structure(
        lambda x: tf.placeholder_with_default(x, (None, batch_size) + x.shape[2:]), inputs
    )
    cell = Cell()
    outputs, states = unroll(cell, fed, K, streams)
    rows = batch_size and batch_size * K
    assert outputs.state.shape.as_list() == [None, rows, 3]
    assert [x.shape.as_list() for x in outputs.parts] == [[None, rows, 2, 3], [None, rows, 2, 1]]
    weights = np.random.RandomState(1).normal(size=(3, 3)).astype(np.float32)
    gradient = tf.gradients(tf.reduce_sum(tf.square(outputs.parts[0])), cell.weights)[0]
    outputs, gradient, states = run([outputs, gradient, states], {cell.weights: weights})
    expected = by_a_loop(inputs, weights)
    np.testing.assert_allclose(np.concatenate(states), expected[-1], atol=1e-5)
    np.testing.assert_allclose(outputs.state, expected, atol=1e-5)
    np.testing.assert_allclose(outputs.parts[0], np.stack([expected, 2 * expected], 2), atol=1e-5)
    np.testing.assert_allclose(outputs.parts[1][..., 0], outputs.parts[0][..., 0])

    step, direction = 1e-3, np.eye(3, dtype=np.float32)
    losses = [
        5
        * np.sum(
            np.square(by_a_loop(inputs, np.float32(weights + sign * step * direction)), dtype=np.float64)
        )
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(np.sum(gradient * direction), (losses[0] - losses[1]) / (2 * step), rtol=1e-2)


def test_it_goes_on_from_a_state():
    inputs, cell = values(), Cell()
    begin, end = [
        tf.nest.map_structure(lambda x, part=part: x[part], inputs) for part in (slice(2), slice(2, T))
    ]
    first, states = unroll(cell, tf.nest.map_structure(tf.constant, begin), K, streams=1)
    second, _ = unroll(cell, tf.nest.map_structure(tf.constant, end), K, streams=2, first_state=states[0])
    weights = np.random.RandomState(1).normal(size=(3, 3)).astype(np.float32)
    found = run([first.state, second.state], {cell.weights: weights})
    np.testing.assert_allclose(np.concatenate(found), by_a_loop(inputs, weights), atol=1e-5)
