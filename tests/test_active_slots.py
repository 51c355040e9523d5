# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what exists: running some rows against running all of them and choosing."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_run import run

from sqair.engine.active_slots import ActiveSlots, masked_call, masked_sum, scan_slots
from sqair.engine.tensors import pack
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf


class Pair(NamedTuple):
    first: Any
    second: Any


# Running a function where a mask holds

DEFAULTS = Pair(0.0, -88.0)


class Rows:
    """A function of rows, compact and not, with gradients; rows unknown. Built once, run with many masks."""

    def __init__(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            rng = np.random.RandomState(0)
            self.mask = tf.placeholder(tf.bool, [None])
            self.inputs = Pair(tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.float32, [None, 2]))
            self.index = tf.placeholder(tf.int32, [None])
            weights = tf.constant(rng.normal(size=(5, 4)), tf.float32)
            table = tf.constant(rng.normal(size=(3, 2)), tf.float32)
            upstream = [tf.constant(rng.normal(size=(1, n)), tf.float32) for n in (4, 2)]

            def function(pair, index):
                return Pair(tf.tanh(tf.matmul(pack(pair), weights)), tf.gather(table, index) * pair.second)

            self.results = []
            for compact in (True, False):
                outputs = masked_call(function, self.mask, (self.inputs, self.index), DEFAULTS, compact)
                loss = sum(tf.reduce_sum(tf.sin(x) * u) for x, u in zip(outputs, upstream))
                gradients = tf.gradients(loss, [*self.inputs, weights, table])
                self.results.append((outputs, [tf.convert_to_tensor(g) for g in gradients]))
            self.everywhere = function(self.inputs, self.index)
            self.session = tf.Session(config=session_config(1))

    def __call__(self, mask):
        rng = np.random.RandomState(len(mask))
        feed = {
            self.mask: mask,
            self.inputs.first: rng.normal(size=(len(mask), 3)),
            self.inputs.second: rng.normal(size=(len(mask), 2)),
            self.index: rng.randint(3, size=len(mask)),
        }
        return self.session.run((self.results, self.everywhere), feed)


@pytest.fixture(scope="module")
def rows():
    built = Rows()
    yield built
    built.session.close()


def check_rows(rows, mask):
    mask = np.array(mask, bool)
    ((compact, compact_gradients), (dense, dense_gradients)), everywhere = rows(mask)
    for c, d, full, default in zip(compact, dense, everywhere, DEFAULTS):
        expected = np.where(mask[:, None], full, np.float32(default))
        np.testing.assert_allclose(c, expected, atol=1e-5)
        np.testing.assert_allclose(d, expected, atol=1e-5)
    for c, d in zip(compact_gradients, dense_gradients):
        np.testing.assert_allclose(c, d, atol=1e-4)
    for gradient in compact_gradients[:2]:
        assert not np.any(gradient[~mask])
        assert np.all(np.any(gradient[mask], axis=-1))
    for gradient in compact_gradients[2:]:
        assert np.any(gradient) == mask.any()


@pytest.mark.parametrize(
    "mask",
    [[0] * 4, [1] * 4, [0, 1, 1, 0, 1], [1], [0], []],
    ids=lambda mask: "".join(map(str, mask)) or "no_rows",
)
def test_masked_call_runs_the_rows_that_the_mask_names(mask, rows):
    check_rows(rows, [letter == "1" for letter in mask])


@settings(max_examples=40, deadline=None)
@given(mask=st.lists(st.booleans(), max_size=12))
def test_masked_call_is_the_same_compact_and_not(rows, mask):
    check_rows(rows, mask)


def test_masked_call_gives_the_function_only_the_rows_that_run():
    seen = []

    def function(x):
        seen.append(tf.shape(x)[0])
        return x

    mask = tf.constant([True, False, True])
    for compact in (True, False):
        outputs = masked_call(function, mask, [tf.ones([3, 2])], compact=compact)
        assert outputs.shape.as_list() == [3, 2]
    assert run(seen) == [2, 3]


def test_masked_call_keeps_integers_beyond_float32_exact():
    """Indices are not carried along in a float tensor."""
    big = 2**24 + 1
    index = tf.constant([0, big, big + 2], tf.int32)
    outputs = masked_call(
        lambda x, i: tf.cast((i - big)[:, None], tf.float32) + 0.0 * x,
        tf.constant([False, True, True]),
        (tf.ones([3, 1]), index),
        -1.0,
    )
    assert run(outputs).ravel().tolist() == [-1, 0, 2]


def test_masked_call_keeps_out_what_the_rows_that_do_not_run_would_make_infinite():
    x = tf.constant([[0.0], [4.0]])
    mask = tf.constant([False, True])
    outputs = masked_call(tf.math.log, mask, (x,), 7.0)
    value, gradient = run([outputs, tf.convert_to_tensor(tf.gradients(outputs, x)[0])])
    np.testing.assert_allclose(value, [[7.0], [np.log(4.0)]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.0], [0.25]])


# Sums over slots


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("mask", [[[0, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 1], [0, 0]], [[1, 0], [1, 1]]])
def test_masked_sum_sums_the_slots_that_the_mask_names(mask, compact):
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3) + 1.0
    inputs = tf.constant(x)
    outputs = masked_sum(lambda x: x * x, tf.constant(np.array(mask, bool)), [inputs], compact)
    value, gradient = run([outputs, tf.convert_to_tensor(tf.gradients(outputs, inputs)[0])])
    chosen = np.float32(mask)[..., None]
    np.testing.assert_allclose(value, np.sum(x * x * chosen, axis=1))
    np.testing.assert_allclose(gradient, 2 * x * chosen)


@pytest.mark.parametrize("compact", [True, False])
def test_masked_call_takes_slots_and_structures(compact):
    """A mask of rows and slots; an argument that is a structure, one that is a tensor."""
    rng = np.random.RandomState(0)
    a, b, c = [rng.normal(size=(4, 3, n)).astype(np.float32) for n in (2, 1, 2)]
    mask = rng.uniform(size=(4, 3)) < 0.5
    arguments = Pair(tf.constant(a), tf.constant(b)), tf.constant(c)
    function = lambda pair, c: Pair(pair.first * c, pair.second)  # noqa: E731
    actual = run(masked_call(function, tf.constant(mask), arguments, Pair(0.0, 5.0), compact))
    np.testing.assert_allclose(actual.first, np.where(mask[..., None], a * c, 0))
    np.testing.assert_allclose(actual.second, np.where(mask[..., None], b, 5))


# Slots one after another


@pytest.mark.parametrize("compact", [True, False])
@settings(max_examples=15, deadline=None)
@given(counts=st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_slots_are_gathered_split_and_scattered_back(compact, counts):
    masks = np.arange(3) < np.array(counts)[:, None]
    x = np.random.RandomState(0).normal(size=masks.shape + (2,)).astype(np.float32)
    with tf.Graph().as_default():
        active, tensor = ActiveSlots.known(tf.constant(masks), compact), tf.constant(x)
        slots = active.split(active.gather(tensor))
        tripled = active.scatter(tf.concat([3.0 * slot for slot in slots], axis=0))
        default = tf.constant([[7.0, 7.0]])
        order = tf.tile([[4, 0, 2]], [len(counts), 1])  # slot 4 is none of the three
        selected = active.select(active.gather(tensor), order, default)
        gradient = tf.convert_to_tensor(tf.gradients(tripled, tensor)[0])
        tripled, selected, gradient = run([tripled, selected, gradient])
    np.testing.assert_allclose(tripled, 3 * x * masks[..., None], rtol=1e-6)
    np.testing.assert_allclose(gradient, 3 * np.ones_like(x) * masks[..., None])
    expected = np.where(masks[..., None], x, 7)
    np.testing.assert_allclose(selected, np.stack([0 * x[:, 0] + 7, expected[:, 0], expected[:, 2]], 1))


def test_a_slot_follows_the_rows_of_the_one_before():
    """Masks of later slots are found as they come; each adds one where it runs."""
    active = ActiveSlots(tf.constant([True, False, True, True]), 3)
    first = active.take(tf.constant([[0.0], [1.0], [2.0], [3.0]]))
    active.add(tf.constant([True, False, True]))
    second = active.follow(first)
    active.add(second[:, 0] > 1.0)
    third = active.follow(second)
    found = run(active.scatter(tf.concat([x + 1.0 for x in (first, second, third)], axis=0)))
    expected = [[1, 1, 0], [0, 0, 0], [3, 0, 0], [4, 4, 4]]
    np.testing.assert_array_equal(found[..., 0], expected)
    assert run(active.follow(second, 2)).ravel().tolist() == [3]


# Scans over slots, against a loop over rows


def scan(inputs, scale, carry, n_slots, masks, compact):
    """`h_n = tanh(x_n + a h_{n-1})` and `x_n h_n`: where masks hold, or else as long as h is positive."""

    def step(x, h, scale=None):
        h = tf.tanh(x + (tf.constant(0.5) if scale is None else scale) * h)
        return (Pair(h, x * h), 2.0 * h), h

    if masks is not None:
        active = ActiveSlots.known(masks, compact)
        slot_inputs = active.split(active.gather(inputs))
        return active, scan_slots(step, active, slot_inputs, carry)
    active = ActiveSlots(tf.fill([tf.shape(inputs)[0]], True), n_slots, compact)
    found = lambda outputs: outputs.first[:, 0] > 0  # noqa: E731
    return active, scan_slots(step, active, tf.unstack(inputs, axis=1), carry, (scale,), found)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_scan_slots_is_a_loop_over_rows_and_slots(known, compact):
    rng = np.random.RandomState(3)
    inputs, carry = rng.normal(size=(7, 3, 2)).astype(np.float32), rng.normal(size=(7, 2)).astype(np.float32)
    scale = rng.normal(size=(7, 1)).astype(np.float32)
    masks = np.arange(3) < rng.randint(4, size=7)[:, None]
    expected = np.zeros((3, 7, 3, 2))
    for row in range(7):
        h, goes_on = carry[row], True
        for n in range(3):
            if not (masks[row, n] if known else goes_on):
                break
            h = np.tanh(inputs[row, n] + (0.5 if known else scale[row]) * h)
            expected[:, row, n] = h, inputs[row, n] * h, 2 * h
            goes_on = h[0] > 0
    tensors = [tf.constant(x) for x in (inputs, scale, carry)]
    active, (pair, doubled) = scan(*tensors, 3, tf.constant(masks) if known else None, compact)
    actual = run([active.scatter(x) for x in (*pair, doubled)])
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    assert 0.2 < np.mean(expected[0] != 0) < 0.9
