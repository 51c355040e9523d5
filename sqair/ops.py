# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tensor functions: shape checks, straight-through clipping, row compaction, keeping the present objects."""

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


def split_like(tensor, structure):
    """Splits the last axis into parts as wide as those of a structure of tensors: the inverse of `concat`."""
    widths = [part.shape.as_list()[-1] for part in tf.nest.flatten(structure)]
    return tf.nest.pack_sequence_as(structure, tf.split(tensor, widths, axis=-1))


def call_where(function, mask, inputs, defaults, compact=True):
    """Runs a function of rows on the rows where a mask holds: gather, call, scatter.

    The function treats each row by itself and need not know which rows it is given, or how many.

    Args:
        function: maps a structure of tensors with m rows to a structure of float32 `[m, n]` tensors.
        mask: `[rows]` bool, the rows to run.
        inputs: structure of float32 `[rows, n]` and int32 `[rows]` tensors, the arguments of `function`.
        defaults: what the other rows take: a float, or a structure of floats like the function's result.
        compact: if False, all rows run, with static shapes as accelerators want them, and the result is
            overwritten where the mask does not hold; the values are the same.

    Returns:
        The function's result, structure of `[rows, n]`.
    """
    rows = mask.shape[0].value
    if compact:
        indices = tf.compat.v2.where(mask)
        outputs = function(*_gather_rows(inputs, indices))
        packed = concat(outputs)
        width = packed.shape.as_list()[-1]
        shape = np.int64([rows, width]) if rows else tf.stack([tf.shape(mask, out_type=tf.int64)[0], width])
        packed = tf.scatter_nd(indices, packed, shape)
        packed.set_shape([rows, width])
    else:
        outputs = function(*inputs)
        packed = concat(outputs)
        runs = tf.tile(mask[:, None], [1, packed.shape.as_list()[-1]])
        packed = tf.compat.v2.where(runs, packed, tf.zeros_like(packed))
    flat = tf.nest.flatten(outputs)
    defaults = [defaults] * len(flat) if isinstance(defaults, float) else tf.nest.flatten(defaults)
    fill = np.repeat(np.float32(defaults), [output.shape.as_list()[-1] for output in flat])
    if fill.any():
        packed += (1.0 - tf.cast(mask, tf.float32))[:, None] * fill
    return split_like(packed, outputs)


def sum_where(function, mask, inputs, compact=True):
    """Runs a function on the slots where a mask holds and sums its results over the slots of each row.

    Args:
        function: maps a structure of tensors with m rows to a float32 `[m, k]` tensor.
        mask: `[rows, N]` bool, the slots to run.
        inputs: list of `[rows * N, ...]` tensors, the arguments of `function`.
        compact: if False, all slots run, with static shapes; the values are the same.

    Returns:
        `[rows, k]`, zeros where no slot runs.
    """
    rows, n_slots = rows_of(mask), mask.shape.as_list()[1]
    if not compact:
        outputs = function(*inputs)
        outputs *= tf.reshape(tf.cast(mask, tf.float32), [-1, 1])
        return tf.reduce_sum(tf.reshape(outputs, [-1, n_slots, outputs.shape.as_list()[-1]]), axis=1)
    indices = tf.compat.v2.where(tf.reshape(mask, [-1]))
    outputs = function(*[tf.gather_nd(x, indices) for x in inputs])
    return tf.math.unsorted_segment_sum(outputs, tf.squeeze(indices, -1) // n_slots, rows)


def _gather_rows(inputs, indices):
    flat = tf.nest.flatten(inputs)
    real = [x for x in flat if x.dtype.is_floating]
    packed = iter(split_like(tf.gather_nd(concat(real), indices), real))
    gathered = [next(packed) if x.dtype.is_floating else tf.gather_nd(x, indices) for x in flat]
    return tf.nest.pack_sequence_as(inputs, gathered)


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
    keys = tf.stop_gradient(presence) * n_slots - np.arange(n_slots, dtype=np.float32)
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


def sample_presence(noise, prob, allowed):
    """1 where `noise < prob` and `allowed` is 1, else 0, without a gradient; all of one shape."""
    return tf.stop_gradient(tf.cast(noise < prob, tf.float32) * allowed)


def next_ids(last_id, presence):
    """Ids of new objects: each row counts on from its last one.

    Args:
        last_id: `[rows, 1]` float32, the last id used in each row, -1 if none.
        presence: `[rows, N]` float32, which slots hold a new object.

    Returns:
        Tuple of ids `[rows, N]` float32, -1 in empty slots, and the new last id `[rows, 1]`.
    """
    running = last_id + tf.cumsum(presence, axis=-1)
    last_id += tf.reduce_sum(presence, axis=-1, keepdims=True)
    return presence * (running + 1.0) - 1.0, last_id
