# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes, and structures of tensors that travel as one tensor."""

import numpy as np

from sqair.graph_mode import tf


def check_shape(tensor, shape, name):
    """Raises ValueError unless the static shape of `tensor` is compatible with `shape` (None: any size)."""
    if not tensor.shape.is_compatible_with(tf.TensorShape(shape)):
        raise ValueError(f"{name} must have shape {list(shape)}, not {tensor.shape}.")


def check_finite(value, name):
    """The same tensor, or named tuple of named tuples of them, which fails by its name if it is not finite."""
    if isinstance(value, tuple):
        return type(value)(*[check_finite(x, f"{name}.{field}") for field, x in zip(value._fields, value)])
    return value if value is None else tf.debugging.check_numerics(value, f"{name} is not finite")


def size(tensor, axis=0):
    """The size of a dimension: an int if it is known, else a scalar tensor."""
    return tensor.shape[axis].value or tf.shape(tensor)[axis]


def range_of(count):
    """`[count]` int32: 0, 1, ...; a NumPy array if `count` is an int, else a tensor."""
    return np.arange(count, dtype=np.int32) if isinstance(count, int) else tf.range(count)


def merge_leading(tensor):
    """Joins the first two dimensions: `[a, b, ...]` to `[a * b, ...]`."""
    a, b, *rest = tensor.shape.as_list()
    return tf.reshape(tensor, [a * b if a and b else -1] + rest)


def split_leading(tensor, count):
    """Undoes `merge_leading`: `[a * count, ...]` to `[a, count, ...]`; `count`: int or scalar tensor."""
    rest = tensor.shape.as_list()[1:]
    return tf.reshape(tensor, [-1, count] + rest if isinstance(count, int) else tf.stack([-1, count] + rest))


def flatten(tensor):
    """`[m, ...]` to `[m, n]`."""
    if tensor.shape.ndims == 2:
        return tensor
    return tf.reshape(tensor, [-1, int(np.prod(tensor.shape.as_list()[1:]))])


def gather_rows(tensor, index):
    """`[n, ...]` and `[m]` int32 to `[m, ...]`; as `tf.gather`, with a gradient that is dense."""
    return tf.gather_nd(tensor, index[:, None])


def take_slots(tensor, slots):
    """Picks slots row by row: `[R, S, n]` and `[R, N]` int32 to `[R, N, n]`."""
    n_slots, width = tensor.shape.as_list()[1:]
    first = range_of(size(slots)) * n_slots
    index = tf.reshape(slots + tf.expand_dims(first, -1), [-1, 1])
    taken = tf.gather_nd(tf.reshape(tensor, [-1, width]), index)
    return tf.reshape(taken, [slots.shape[0].value or -1, slots.shape.as_list()[1], width])


def straight_through_clip(tensor, minimum, maximum):
    """Clips to [minimum, maximum] in the forward pass; the gradient passes as if nothing had been clipped."""
    return tensor + tf.stop_gradient(tf.clip_by_value(tensor, minimum, maximum) - tensor)


def pack(structure):
    """Joins the tensors of a structure on the last axis, so that they can be gathered or stored at once.

    What `unpack` split from one tensor is that tensor again, without a copy.
    """
    flat, parts = tf.nest.flatten(structure), []
    while flat:
        whole, count = _unsplit(flat)
        parts.append(whole)
        flat = flat[count:]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)


def unpack(packed, like):
    """Undoes `pack`: splits the last axis into parts as wide as those of `like`, a structure of tensors or shapes."""
    flat = tf.nest.flatten(like)
    if len(flat) == 1:
        return tf.nest.pack_sequence_as(like, [packed])
    shapes = [part if isinstance(part, tf.TensorShape) else part.shape for part in flat]
    parts = tf.split(packed, [shape.as_list()[-1] for shape in shapes], axis=-1)
    return tf.nest.pack_sequence_as(like, parts)


def map_packed(function, structure):
    """Applies a function that keeps the last axis to all tensors of a structure at once."""
    return unpack(function(pack(structure)), structure)


def _unsplit(flat):
    """The tensor that the first of these were split from on the last axis, and how many they are; else the first."""
    split = flat[0].op
    if split.type == "SplitV":
        source, _, axis = split.inputs
        together = flat[: len(split.outputs)]
        complete = len(together) == len(split.outputs) and all(
            a is b for a, b in zip(together, split.outputs)
        )
        if complete and tf.get_static_value(axis) in (-1, source.shape.ndims - 1):
            return source, len(together)
    return flat[0], 1
