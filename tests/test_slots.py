# SPDX-License-Identifier: GPL-3.0-or-later
"""Object slots: which are kept, ids against a loop, logits of the absent, the slot before, the frame before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tf_run import run

from sqair.engine.tensors import take_slots
from sqair.graph_mode import tf
from sqair.model import slots

# Keeping the present objects


def kept_by_a_loop(presence, values, n_keep):
    out = []
    for row, value in zip(presence, values):
        present = [v for p, v in zip(row, value) if p]
        absent = [v for p, v in zip(row, value) if not p]
        out.append((present + absent)[:n_keep])
    return np.array(out)


def keep_present(presence, values, n_keep):
    return take_slots(values, slots.present_first(presence, n_keep))


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
        result = run(slots.next_ids(tf.constant(last, tf.float32), tf.constant(presence, tf.float32)))
    np.testing.assert_array_equal(result[0], expected)
    np.testing.assert_array_equal(result[1], expected_last)


# Logits of the absent


def test_the_logit_of_the_absent_has_probability_zero():
    logit = tf.constant([2.0, -3.0, 1e3])
    presence = tf.constant([1.0, 0.0, 0.0])
    masked = slots.mask_absent_logit(logit, presence)
    value, gradient, prob = run([masked, tf.gradients(masked, logit)[0], tf.sigmoid(masked)])
    np.testing.assert_array_equal(value, [2, -88, -88])
    np.testing.assert_array_equal(gradient, [1, 0, 0])
    np.testing.assert_array_equal(prob[1:], [0, 0])


# The slot before, the frame before


@pytest.mark.parametrize("presence", [0.0, 1.0])
def test_before_the_first_slot_there_is_no_object(presence):
    """Only discovery pretends that there was one; the state is the learned one in every row."""
    rows, hidden = tf.placeholder(tf.int32, []), tf.constant([[1.0, 2.0]])
    previous = slots.before_first_slot(rows, 3, presence, hidden)
    for n_rows in (1, 4):
        what, where, present, state = run(previous, {rows: n_rows})
        np.testing.assert_array_equal(what, np.zeros((n_rows, 3)))
        np.testing.assert_array_equal(where, np.zeros((n_rows, 4)))
        np.testing.assert_array_equal(present, np.full((n_rows, 1), presence))
        np.testing.assert_array_equal(state, [[1, 2]] * n_rows)


@pytest.mark.parametrize("n_frames", [1, 3])
def test_frames_shift_by_one_and_the_first_sees_nothing(n_frames):
    frames = np.arange(1, 1 + n_frames * 2 * 3, dtype=np.float32).reshape(n_frames, 2, 3)
    shifted = run(slots.shift_in_time(tf.constant(frames.reshape(-1, 3)), 2)).reshape(frames.shape)
    np.testing.assert_array_equal(shifted[0], np.zeros((2, 3)))
    np.testing.assert_array_equal(shifted[1:], frames[:-1])
