# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes, and structures that travel as one tensor."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from tf_run import run

from sqair.engine import tensors
from sqair.graph_mode import tf


class Pair(NamedTuple):
    first: Any
    second: Any


def pair(rows=4):
    rng = np.random.RandomState(0)
    draw = lambda n: tf.constant(rng.normal(size=(rows, n)), tf.float32)  # noqa: E731
    return Pair(draw(3), (draw(1), draw(2)))


def test_pack_and_unpack_are_inverse():
    structure = pair()
    packed = tensors.pack(structure)
    assert packed.shape.as_list() == [4, 6]
    unpacked = tensors.unpack(packed, structure)
    tf.nest.assert_same_structure(unpacked, structure)
    for actual, expected in zip(*run([tf.nest.flatten(unpacked), tf.nest.flatten(structure)])):
        np.testing.assert_array_equal(actual, expected)


def test_shapes_say_how_to_unpack_too():
    shapes = Pair(tf.TensorShape([2, 3]), tf.TensorShape([2, 1]))
    first, second = tensors.unpack(tf.zeros([5, 2, 4]), shapes)
    assert (first.shape.as_list(), second.shape.as_list()) == ([5, 2, 3], [5, 2, 1])


def test_what_was_unpacked_is_packed_without_a_copy():
    structure = pair()
    packed = tensors.pack(structure)
    unpacked = tensors.unpack(packed, structure)
    assert tensors.pack(unpacked) is packed
    with_more = tensors.pack([unpacked, structure.first])
    assert [x.name for x in with_more.op.inputs[:2]] == [packed.name, structure.first.name]


@pytest.mark.parametrize("change", ["order", "part", "axis"])
def test_what_is_not_all_of_a_split_is_joined(change):
    a, b = tf.split(tf.constant([[1.0, 2.0], [3.0, 4.0]]), [1, 1], axis=0 if change == "axis" else 1)
    structure = {"order": [b, a], "part": [a, a], "axis": [a, b]}[change]
    np.testing.assert_array_equal(run(tensors.pack(structure)), np.concatenate(run(structure), -1))


def test_map_packed_maps_all_at_once():
    calls = []

    def double(x):
        calls.append(x)
        return 2.0 * x

    structure = pair()
    actual, expected = run([tensors.map_packed(double, structure), structure])
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        np.testing.assert_array_equal(a, 2 * e)
    assert len(calls) == 1


def test_leading_dimensions_are_merged_and_split():
    x = np.arange(24.0).reshape(2, 3, 4)
    merged = tensors.merge_leading(tf.constant(x))
    assert merged.shape.as_list() == [6, 4]
    for count in (3, tf.constant(3)):
        np.testing.assert_array_equal(run(tensors.split_leading(merged, count)), x)
    assert tensors.merge_leading(tf.placeholder(tf.float32, [None, 3, 4])).shape.as_list() == [None, 4]
    np.testing.assert_array_equal(run(tensors.flatten(tf.constant(x))), x.reshape(2, 12))


def test_size_and_range_are_static_where_they_can_be():
    known, unknown = tf.zeros([2, 3]), tf.placeholder(tf.float32, [None, 3])
    assert (tensors.size(known), tensors.size(unknown, axis=1)) == (2, 3)
    np.testing.assert_array_equal(tensors.range_of(3), [0, 1, 2])
    assert run(tensors.range_of(tensors.size(unknown)), {unknown: np.zeros((2, 3))}).tolist() == [0, 1]


def test_slots_are_taken_row_by_row():
    values = np.arange(30.0).reshape(3, 5, 2)
    slots = np.array([[0, 4], [2, 2], [1, 0]], np.int32)
    expected = np.stack([row[chosen] for row, chosen in zip(values, slots)])
    taken = tensors.take_slots(tf.constant(values), tf.constant(slots))
    assert taken.shape.as_list() == [3, 2, 2]
    np.testing.assert_array_equal(run(taken), expected)
    rows = tf.placeholder_with_default(values, [None, 5, 2])
    np.testing.assert_array_equal(run(tensors.take_slots(rows, tf.constant(slots))), expected)


def test_gradients_pass_to_the_slots_taken_alone():
    values = tf.ones([1, 4, 1])
    taken = tensors.take_slots(values, tf.constant([[1, 3, 0]])) * [[[1.0], [2.0], [3.0]]]
    np.testing.assert_array_equal(run(tf.gradients(taken, values)[0])[0, :, 0], [3, 1, 0, 2])


def test_straight_through_clip_bounds_values_but_not_gradients():
    x = tf.constant([-2.0, 0.3, 5.0])
    clipped = tensors.straight_through_clip(x, 0.0, 1.0)
    value, gradient = run([clipped, tf.gradients(tf.square(clipped), x)[0]])
    np.testing.assert_allclose(value, [0, 0.3, 1], atol=1e-6)
    np.testing.assert_allclose(gradient, [0, 0.6, 2], atol=1e-6)


def test_check_shape_names_the_tensor_and_both_shapes():
    images = tf.placeholder(tf.float32, [None, 4])
    tensors.check_shape(images, [None, 4], "images")
    tensors.check_shape(images, [7, 4], "images")
    for shape in ([None, 3], [None, None, 4]):
        with pytest.raises(ValueError, match=r"images must have shape .*, not \(\?, 4\)"):
            tensors.check_shape(images, shape, "images")


def test_what_is_not_finite_fails_by_its_name():
    x = tf.placeholder(tf.float32, [2])
    nested = tensors.check_finite(Pair(x, Pair(None, 2.0 * x)), "outer")
    assert nested.second.first is None
    np.testing.assert_array_equal(run(nested.second.second, {x: [1, 2]}), [2, 4])
    with pytest.raises(tf.errors.InvalidArgumentError, match="outer.second.second is not finite"):
        run(nested.second.second, {x: [1, np.inf]})
