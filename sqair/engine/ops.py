# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tensor functions: shape checks, straight-through clipping, joining, keeping the present objects."""

import numpy as np
import tensorflow as tf

ABSENT_LOGIT = -88.0  # its sigmoid underflows to 0 in float32


def check_shape(tensor, shape, name):
    """Raises ValueError unless the static shape of `tensor` is compatible with `shape` (None: any size)."""
    if not tensor.shape.is_compatible_with(tf.TensorShape(shape)):
        raise ValueError(f"{name} must have shape {list(shape)}, not {tensor.shape}.")


def straight_through_clip(tensor, minimum, maximum):
    """Clips to [minimum, maximum] in the forward pass; the gradient passes as if nothing had been clipped."""
    return tensor + tf.stop_gradient(tf.clip_by_value(tensor, minimum, maximum) - tensor)


def mask_absent_logit(logit, presence):
    """The logit where `presence` is 1, `ABSENT_LOGIT` where it is 0; all tensors of the same shape."""
    return presence * logit + (presence - 1.0) * -ABSENT_LOGIT


def concat(tensors):
    """Concatenates a list or (flattened) structure of tensors on the last axis."""
    return tf.concat(tf.nest.flatten(tensors), axis=-1)


def split(tensor, widths):
    """Splits the last axis into parts as wide as a structure of ints says."""
    return tf.nest.pack_sequence_as(widths, tf.split(tensor, tf.nest.flatten(widths), axis=-1))


def split_like(tensor, structure):
    """Splits the last axis into parts as wide as those of a structure of tensors: the inverse of `concat`."""
    return split(tensor, tf.nest.map_structure(lambda part: part.shape.as_list()[-1], structure))


def present_first(presence, n_keep):
    """The order that moves present slots to the front and keeps `n_keep`; stable among present and among absent.

    Every slot has a key of its own, so that no sort needs to be stable.

    Args:
        presence: `[rows, S]` float32, 0 or 1.
        n_keep: int, at most S.

    Returns:
        `[rows, n_keep]` int32, the slots kept.
    """
    n_slots = presence.shape.as_list()[1]
    keys = presence * n_slots - np.arange(n_slots, dtype=np.float32)
    return tf.nn.top_k(keys, n_keep, sorted=True).indices


def take_slots(tensor, slots):
    """Picks slots row by row: `[rows, S, n]` and `[rows, N]` int32 to `[rows, N, n]`."""
    n_slots, size = tensor.shape.as_list()[1:]
    n_keep = slots.shape.as_list()[1]
    first = range_of(rows_of(slots)) * n_slots
    index = tf.reshape(slots + tf.expand_dims(first, -1), [-1, 1])
    taken = tf.gather_nd(tf.reshape(tensor, [-1, size]), index)
    return tf.reshape(taken, [slots.shape[0].value or -1, n_keep, size])


def merge(tensor):
    """Joins the first two dimensions: `[a, b, ...]` to `[a * b, ...]`."""
    a, b, *rest = tensor.shape.as_list()
    return tf.reshape(tensor, [a * b if a and b else -1] + rest)


def split_first(tensor, size):
    """Undoes `merge`: `[a * size, ...]` to `[a, size, ...]`; `size` an int or a scalar tensor."""
    rest = tensor.shape.as_list()[1:]
    return tf.reshape(tensor, [-1, size] + rest if isinstance(size, int) else tf.stack([-1, size] + rest))


def rows_of(tensor, axis=0):
    """The size of a dimension: an int if it is known, else a scalar tensor."""
    return tensor.shape[axis].value or tf.shape(tensor)[axis]


def range_of(size):
    """`[size]` int32: 0, 1, ...; a NumPy array if `size` is an int, else a tensor."""
    return np.arange(size, dtype=np.int32) if isinstance(size, int) else tf.range(size)


def image_of_rows(rows, k_particles):
    """`[rows]` int32, as `range_of`: the image of each row; row `b * K + k` is particle k of image b."""
    return range_of(rows) // k_particles


def sample_presence(noise, prob):
    """1 where `noise < prob`, else 0; a comparison has no gradient."""
    return tf.cast(noise < prob, tf.float32)


def next_ids(last_id, presence):
    """Ids of new objects: each row counts on from its last one.

    Args:
        last_id: `[rows, 1]` float32, the last id used in each row, -1 if none.
        presence: `[rows, N]` float32, which slots hold a new object.

    Returns:
        Tuple of ids `[rows, N]` float32, -1 in empty slots, and the new last id `[rows, 1]`.
    """
    running = last_id + tf.cumsum(presence, axis=-1)
    return presence * (running + 1.0) - 1.0, running[:, -1:]
