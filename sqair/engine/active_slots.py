# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what exists: runs functions on the rows or slots where a mask holds - gather, call, scatter.

Functions treat each row by itself and need not know which rows they are given, or how many. With `compact=False` every
row runs, with static shapes as accelerators want them, and what should not exist is overwritten: the values are the
same.
"""

import numpy as np
import tensorflow as tf

from sqair.engine import ops


def call_where(function, mask, inputs, defaults, compact=True):
    """Runs a function on the rows where a mask holds.

    Args:
        function: maps tensors with m rows to a structure of float32 `[m, n]` tensors.
        mask: `[rows]` bool, the rows to run.
        inputs: list of (structures of) `[rows, ...]` tensors, the arguments of `function`.
        defaults: what the other rows take: a float, or a structure of floats like the function's result.
        compact: run only these rows?

    Returns:
        The function's result, structure of `[rows, n]`.
    """
    rows = mask.shape[0].value
    if compact:
        indices = tf.compat.v2.where(mask)
        outputs = function(*tf.nest.map_structure(lambda x: tf.gather_nd(x, indices), inputs))
        packed = ops.concat(outputs)
        packed = tf.scatter_nd(indices, packed, _shape(ops.rows_of(mask), packed))
        packed.set_shape([rows, packed.shape[1].value])
    else:
        outputs = function(*inputs)
        packed = _where(mask, ops.concat(outputs))
    flat = tf.nest.flatten(outputs)
    defaults = [defaults] * len(flat) if isinstance(defaults, float) else tf.nest.flatten(defaults)
    fill = np.repeat(np.float32(defaults), [output.shape.as_list()[-1] for output in flat])
    if fill.any():
        packed += (1.0 - tf.cast(mask, tf.float32))[:, None] * fill
    return ops.split_like(packed, outputs)


def sum_where(function, mask, inputs, compact=True):
    """Runs a function on the slots where a mask holds and sums its results over the slots of each row.

    Args:
        function: maps tensors with m rows to a float32 `[m, k]` tensor.
        mask: `[rows, N]` bool, the slots to run.
        inputs: list of `[rows * N, ...]` tensors, the arguments of `function`.
        compact: run only these slots?

    Returns:
        `[rows, k]`, zeros where no slot runs.
    """
    n_slots, flat_mask = mask.shape.as_list()[1], tf.reshape(mask, [-1])
    if not compact:
        outputs = _where(flat_mask, function(*inputs))
        return tf.reduce_sum(tf.reshape(outputs, [-1, n_slots, outputs.shape.as_list()[-1]]), axis=1)
    indices = tf.compat.v2.where(flat_mask)
    outputs = function(*[tf.gather_nd(x, indices) for x in inputs])
    return tf.math.unsorted_segment_sum(outputs, tf.squeeze(indices, -1) // n_slots, ops.rows_of(mask))


class SlotRows:
    """In which of R rows each of N slots runs, where a slot runs only if the one before does.

    A tensor "of a slot" has as many rows as the slot runs in: m, or R if not compact. There is the first slot to begin
    with; `add` adds the next.
    """

    def __init__(self, mask, n_slots, compact=True):
        """Args: mask: `[R]` bool, where the first slot runs; n_slots: int N; compact: run only these rows?"""
        self._mask, self._n_slots, self._compact = mask, n_slots, compact
        self._slots = [tf.compat.v2.where(mask)[:, 0] if compact else mask]
        self._kept = [None]
        # Made when asked for: where all slots are in `[R * N]`, `[M, 1]`; how many rows each has, `[N]`.
        self._at = self._sizes = None

    def add(self, mask):
        """Adds the next slot; `mask`: `[m]` bool, in which rows of the last one it runs."""
        self._at = self._sizes = None
        if self._compact:
            self._kept.append(tf.compat.v2.where(mask))
            self._slots.append(tf.gather_nd(self._slots[-1], self._kept[-1]))
        else:
            self._slots.append(tf.logical_and(self._slots[-1], mask))

    def take(self, tensor, slot=-1):
        """`[R, ...]` to a slot's rows; by default the last one's."""
        return tf.gather_nd(tensor, self._slots[slot][:, None]) if self._compact else tensor

    def follow(self, tensor, slot=-1):
        """A tensor of the slot before to the rows of a slot; by default the last one's."""
        return tf.gather_nd(tensor, self._kept[slot]) if self._compact else tensor

    def gather(self, tensor):
        """`[R, N, ...]` to the rows of the first slot, then those of the second, and so on: `[M, ...]`."""
        if self._compact:
            return tf.gather_nd(ops.merge(tensor), self._positions())
        order = [1, 0] + list(range(2, tensor.shape.ndims))
        return ops.merge(tf.transpose(tensor, order))

    def split(self, tensor):
        """`[M, ...]` from `gather` to a list of N tensors of a slot each."""
        if self._compact:
            if self._sizes is None:
                self._sizes = tf.stack([tf.size(rows) for rows in self._slots])
            return tf.split(tensor, self._sizes, num=self._n_slots)
        return tf.split(tensor, self._n_slots)

    def scatter(self, slots):
        """The inverse: a list of N float32 `[m, n]` tensors of a slot each to `[R, N, n]`; zeros where nothing ran."""
        if not self._compact:
            return tf.stack([_where(*slot) for slot in zip(self._slots, slots)], axis=1)
        return self.scatter_all(tf.concat(slots, axis=0))

    def scatter_all(self, tensor):
        """As `scatter`, from `[M, n]` as `gather` makes it."""
        if not self._compact:
            return self.scatter(self.split(tensor))
        rows, size = ops.rows_of(self._mask), tensor.shape[1].value
        flat = tf.scatter_nd(self._positions(), tensor, _shape(rows * self._n_slots, tensor))
        flat.set_shape([rows * self._n_slots if isinstance(rows, int) else None, size])
        return tf.reshape(flat, [-1, self._n_slots, size])

    def row_numbers(self):
        """`[R, N]` int32: which row of a tensor from `gather` each slot has, counted from 1; 0 where nothing runs."""
        rows = ops.rows_of(self._mask)
        if self._compact:
            positions = self._positions()
            numbers = tf.range(1, tf.size(positions) + 1, dtype=tf.int32)
            flat = tf.scatter_nd(positions, numbers, tf.cast([rows * self._n_slots], tf.int64))
            return tf.reshape(flat, [self._mask.shape[0].value or -1, self._n_slots])
        numbers = tf.reshape(tf.range(1, rows * self._n_slots + 1), [self._n_slots, rows])
        return tf.transpose(numbers * tf.cast(tf.stack(self._slots), tf.int32))

    def _positions(self):
        if self._at is None:
            at = [rows * self._n_slots + slot for slot, rows in enumerate(self._slots)]
            self._at = tf.concat(at, axis=0)[:, None]
        return self._at


def _shape(rows, tensor):
    """`[rows, n]` for a tensor `[m, n]`, as int64."""
    size = tensor.shape.as_list()[-1]
    return np.int64([rows, size]) if isinstance(rows, int) else tf.cast(tf.stack([rows, size]), tf.int64)


def _where(mask, tensor):
    """The tensor `[rows, n]`, zeros in rows where the mask `[rows]` does not hold."""
    wide = tf.tile(mask[:, None], [1, tensor.shape.as_list()[-1]])
    return tf.compat.v2.where(wide, tensor, tf.zeros_like(tensor))
