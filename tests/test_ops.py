# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tensor functions: sorting against a loop, clipping, ids."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_run import run

from sqair.engine import ops


class Pair(NamedTuple):
    first: Any
    second: Any


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
