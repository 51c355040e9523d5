# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tensor functions: row compaction against running every row, sorting against a loop."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_run import run

from sqair import ops
from sqair.evaluation import session_config


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
                return Pair(
                    tf.tanh(tf.matmul(ops.concat(pair), weights)), tf.gather(table, index) * pair.second
                )

            self.results = []
            for compact in (True, False):
                outputs = ops.call_where(function, self.mask, (self.inputs, self.index), DEFAULTS, compact)
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
def test_call_where_runs_the_rows_that_the_mask_names(mask, rows):
    check_rows(rows, [letter == "1" for letter in mask])


@settings(max_examples=40, deadline=None)
@given(mask=st.lists(st.booleans(), max_size=12))
def test_call_where_is_the_same_compact_and_not(rows, mask):
    check_rows(rows, mask)


def test_call_where_gives_the_function_only_the_rows_that_run():
    seen = []

    def function(x):
        seen.append(tf.shape(x)[0])
        return x

    mask = tf.constant([True, False, True])
    for compact in (True, False):
        outputs = ops.call_where(function, mask, (tf.ones([3, 2]),), 0.0, compact)
        assert outputs.shape.as_list() == [3, 2]
    assert run(seen) == [2, 3]


def test_call_where_keeps_integers_beyond_float32_exact():
    """Indices are not carried along in a float tensor."""
    big = 2**24 + 1
    index = tf.constant([0, big, big + 2], tf.int32)
    outputs = ops.call_where(
        lambda x, i: tf.cast((i - big)[:, None], tf.float32) + 0.0 * x,
        tf.constant([False, True, True]),
        (tf.ones([3, 1]), index),
        -1.0,
    )
    assert run(outputs).ravel().tolist() == [-1, 0, 2]


def test_call_where_keeps_out_what_the_rows_that_do_not_run_would_make_infinite():
    x = tf.constant([[0.0], [4.0]])
    mask = tf.constant([False, True])
    outputs = ops.call_where(tf.math.log, mask, (x,), 7.0)
    value, gradient = run([outputs, tf.convert_to_tensor(tf.gradients(outputs, x)[0])])
    np.testing.assert_allclose(value, [[7.0], [np.log(4.0)]], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0.0], [0.25]])


# Keeping the present objects


def kept_by_a_loop(presence, values, n_keep):
    out = []
    for row, value in zip(presence, values):
        present = [v for p, v in zip(row, value) if p]
        absent = [v for p, v in zip(row, value) if not p]
        out.append((present + absent)[:n_keep])
    return np.array(out)


def keep_present(presence, values, n_keep):
    return ops.take_slots(values, ops.present_first(presence, n_keep))


@pytest.mark.parametrize("n_slots, n_keep", [(2, 1), (6, 3), (4, 4), (10, 5)])
def test_the_present_come_first_as_in_a_loop(n_slots, n_keep):
    presence = np.random.RandomState(0).uniform(size=(64, n_slots)) < 0.5
    presence[0], presence[1] = 0, 1
    values = np.arange(64 * n_slots * 3, dtype=np.float32).reshape(64, n_slots, 3)
    kept = keep_present(tf.constant(presence, tf.float32), tf.constant(values), n_keep)
    assert kept.shape.as_list() == [64, n_keep, 3]
    np.testing.assert_array_equal(run(kept), kept_by_a_loop(presence, values, n_keep))


def test_slots_are_taken_from_any_number_of_rows():
    presence, values = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.float32, [None, 4, 2])
    kept = keep_present(presence, values, 2)
    for rows in (1, 5):
        numbers = np.arange(rows * 8, dtype=np.float32).reshape(rows, 4, 2)
        feed = {presence: [[0.0, 1.0, 0.0, 1.0]] * rows, values: numbers}
        np.testing.assert_array_equal(run(kept, feed), numbers[:, [1, 3]])


def test_gradients_pass_to_the_slots_kept_alone():
    values = tf.ones([1, 4, 1])
    kept = keep_present(tf.constant([[0.0, 1.0, 0.0, 1.0]]), values, 3)
    gradient = tf.gradients(kept * tf.constant([[[1.0], [2.0], [3.0]]]), values)[0]
    np.testing.assert_array_equal(run(gradient)[0, :, 0], [3, 1, 0, 2])


# Ids


@settings(max_examples=30, deadline=None)
@given(presence=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=4))
def test_next_ids_count_on_from_the_last_one(presence):
    last = np.arange(len(presence))[:, None] * 5 - 1
    expected, expected_last = [], []
    for row, n in zip(presence, last[:, 0]):
        ids = []
        for present in row:
            n += present
            ids.append(n if present else -1)
        expected.append(ids)
        expected_last.append([n])
    with tf.Graph().as_default():
        result = run(ops.next_ids(tf.constant(last, tf.float32), tf.constant(presence, tf.float32)))
    np.testing.assert_array_equal(result[0], expected)
    np.testing.assert_array_equal(result[1], expected_last)


# The rest


def test_straight_through_clip_bounds_values_but_not_gradients():
    x = tf.constant([-2.0, 0.3, 5.0])
    clipped = ops.straight_through_clip(x, 0.0, 1.0)
    value, gradient = run([clipped, tf.gradients(tf.square(clipped), x)[0]])
    np.testing.assert_allclose(value, [0, 0.3, 1], atol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0.6, 2], atol=1e-6)


def test_the_logit_of_the_absent_has_probability_zero():
    logit = tf.constant([2.0, -3.0, 1e3])
    presence = tf.constant([1.0, 0.0, 0.0])
    masked = ops.mask_absent_logit(logit, presence)
    value, gradient, prob = run([masked, tf.gradients(masked, logit)[0], tf.sigmoid(masked)])
    np.testing.assert_array_equal(value, [2, -88, -88])
    np.testing.assert_array_equal(gradient, [1, 0, 0])
    np.testing.assert_array_equal(prob[1:], [0, 0])


def test_concat_and_split_like_are_inverse():
    rng = np.random.RandomState(0)
    parts = Pair(tf.constant(rng.normal(size=(2, 3))), (tf.constant(rng.normal(size=(2, 1))),) * 2)
    joined = ops.concat(parts)
    assert joined.shape.as_list() == [2, 5]
    split = ops.split_like(joined, parts)
    tf.nest.assert_same_structure(split, parts)
    for actual, expected in zip(*run([tf.nest.flatten(split), tf.nest.flatten(parts)])):
        np.testing.assert_array_equal(actual, expected)


def test_check_shape_names_the_tensor_and_both_shapes():
    images = tf.placeholder(tf.float32, [None, 4])
    ops.check_shape(images, [None, 4], "images")
    ops.check_shape(images, [7, 4], "images")
    for shape in ([None, 3], [None, None, 4]):
        with pytest.raises(ValueError, match=r"images must have shape .*, not \(\?, 4\)"):
            ops.check_shape(images, shape, "images")
