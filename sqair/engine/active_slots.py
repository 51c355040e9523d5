# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what exists is computed: functions run on the rows or slots where a mask holds - gather, call, scatter.

Functions treat each row by itself and need not know which rows they are given, or how many. With `compact=False` every
row runs, with static shapes as accelerators want them, and what should not exist is overwritten: the values are the
same. A structure of tensors that is one argument or one result travels as one tensor.
"""

import numpy as np

from sqair.engine.tensors import map_packed, merge_leading, pack, size, take_slots, unpack
from sqair.graph_mode import tf


def masked_call(function, mask, arguments, defaults=0.0, compact=True):
    """Runs a function where a mask holds.

    Args:
        function: maps arguments of m rows to a structure of float32 `[m, n]` tensors.
        mask: `[R]` or `[R, N]` bool, where to run.
        arguments: list of (structures of) tensors that begin with the mask's dimensions.
        defaults: what there is elsewhere: a float, or a structure of floats like the function's result.
        compact: run only there?

    Returns:
        The function's result, structure of `[R, n]` or `[R, N, n]`.
    """
    outer, mask = mask.shape.as_list()[1:], tf.reshape(mask, [-1])
    indices, outputs, packed = _call(function, mask, arguments, len(outer), compact)
    if compact:
        width = packed.shape[1].value
        packed = tf.scatter_nd(indices, packed, _shape(size(mask), packed))
        packed.set_shape([mask.shape[0].value, width])
    else:
        packed = _where(mask, packed)
    flat = tf.nest.flatten(outputs)
    defaults = [defaults] * len(flat) if isinstance(defaults, float) else tf.nest.flatten(defaults)
    fill = np.repeat(np.float32(defaults), [output.shape.as_list()[-1] for output in flat])
    if fill.any():
        packed += (1.0 - tf.cast(mask, tf.float32))[:, None] * fill
    if outer:
        packed = tf.reshape(packed, [-1] + outer + packed.shape.as_list()[1:])
    return unpack(packed, outputs)


def masked_sum(function, mask, arguments, compact=True):
    """Runs a function on the slots where a mask holds and sums its results over the slots of each row.

    Args:
        function: maps arguments of m rows to a float32 `[m, k]` tensor.
        mask: `[R, N]` bool, the slots to run.
        arguments: list of (structures of) `[R, N, ...]` tensors.
        compact: run only these slots?

    Returns:
        `[R, k]`, zeros where no slot runs.
    """
    n_slots, rows, mask = mask.shape.as_list()[1], size(mask), tf.reshape(mask, [-1])
    indices, _, packed = _call(function, mask, arguments, 1, compact)
    if compact:
        return tf.math.unsorted_segment_sum(packed, tf.squeeze(indices, -1) // n_slots, rows)
    packed = _where(mask, packed)
    return tf.reduce_sum(tf.reshape(packed, [-1, n_slots, packed.shape.as_list()[-1]]), axis=1)


def _call(function, mask, arguments, outer, compact):
    """The rows that run, `[m, 1]`, and the function's result there, as it returns it and packed."""
    indices, rows = None, [pack(argument) for argument in arguments]
    for _ in range(outer):
        rows = [merge_leading(x) for x in rows]
    if compact:
        indices = tf.where_v2(mask)
        rows = [tf.gather_nd(x, indices) for x in rows]
    outputs = function(*[unpack(x, like) for x, like in zip(rows, arguments)])
    return indices, outputs, pack(outputs)


class ActiveSlots:
    """In which of R rows each of N slots runs, where a slot runs only if the one before does.

    A tensor "of a slot" has as many rows as the slot runs in: m, or R if not compact. There is the first slot to begin
    with; `add` adds the next.
    """

    def __init__(self, first, n_slots, compact=True):
        """Args: first: `[R]` bool, where the first slot runs; n_slots: int N; compact: run only these rows?"""
        self._mask, self.n_slots, self._compact = first, n_slots, compact
        self._slots = [tf.where_v2(first)[:, 0] if compact else first]
        self._kept = [None]
        # Made when asked for: where all slots are in `[R * N]`, `[M, 1]`; how many rows each has, `[N]`; the index.
        self._at = self._sizes = self._index = None

    @classmethod
    def known(cls, masks, compact=True):
        """All slots at once: `masks` is `[R, N]` bool and falls along the slots."""
        first, *others = tf.unstack(masks, axis=1)
        active = cls(first, masks.shape[1].value, compact)
        for mask in others:
            active.add(active.take(mask))
        return active

    def add(self, mask):
        """Adds the next slot; `mask`: `[m]` bool, in which rows of the last one it runs."""
        self._at = self._sizes = self._index = None
        if self._compact:
            self._kept.append(tf.where_v2(mask))
            self._slots.append(tf.gather_nd(self._slots[-1], self._kept[-1]))
        else:
            self._slots.append(tf.logical_and(self._slots[-1], mask))

    def take(self, tensor, slot=-1):
        """`[R, ...]` to a slot's rows; by default the last one's."""
        return tf.gather_nd(tensor, self._slots[slot][:, None]) if self._compact else tensor

    def follow(self, tensor, slot=-1):
        """A tensor of the slot before to the rows of a slot; by default the last one's."""
        return tf.gather_nd(tensor, self._kept[slot]) if self._compact else tensor

    def gather(self, structure):
        """`[R, N, ...]` to the rows of the first slot, then those of the second, and so on: `[M, ...]`."""
        return map_packed(self._gather, structure)

    def _gather(self, tensor):
        if self._compact:
            return tf.gather_nd(merge_leading(tensor), self._positions())
        return merge_leading(tf.transpose(tensor, [1, 0] + list(range(2, tensor.shape.ndims))))

    def split(self, structure):
        """`[M, ...]` from `gather` to a list of N structures of a slot each."""
        slots = zip(*map(self._split, tf.nest.flatten(structure)))
        return [tf.nest.pack_sequence_as(structure, slot) for slot in slots]

    def _split(self, tensor):
        if not self._compact:
            return tf.split(tensor, self.n_slots)
        if self._sizes is None:
            self._sizes = tf.stack([tf.size(rows) for rows in self._slots])
        return tf.split(tensor, self._sizes, num=self.n_slots)

    def scatter(self, structure):
        """Undoes `gather`: float32 `[M, n]` to `[R, N, n]`, zeros where nothing runs."""
        return map_packed(self._scatter, structure)

    def _scatter(self, tensor):
        if not self._compact:
            slots = [_where(*slot) for slot in zip(self._slots, self._split(tensor))]
            return tf.stack(slots, axis=1)
        rows, width = size(self._mask), tensor.shape[1].value
        flat = tf.scatter_nd(self._positions(), tensor, _shape(rows * self.n_slots, tensor))
        flat.set_shape([rows * self.n_slots if isinstance(rows, int) else None, width])
        return tf.reshape(flat, [-1, self.n_slots, width])

    def select(self, tensor, slots, default):
        """What slots hold of a tensor from `gather`.

        Args:
            tensor: `[M, n]`.
            slots: `[R, S]` int32, slots of each row; those from N to 2 N are none of these.
            default: `[1, n]`, what there is where a slot does not run.

        Returns:
            `[R, S, n]`.
        """
        if self._index is None:
            self._index = self._packed_index()
        index = self._index[:, :, None]
        index = merge_leading(take_slots(tf.concat([index, tf.zeros_like(index)], axis=1), slots))
        selected = tf.gather_nd(tf.concat([default, tensor], 0), index)
        return tf.reshape(selected, [-1, slots.shape[1].value, default.shape[1].value])

    def _packed_index(self):
        """`[R, N]` int32: which row of a tensor from `gather` each slot has, counted from 1; 0 where nothing runs."""
        rows = size(self._mask)
        if self._compact:
            positions = self._positions()
            numbers = tf.range(1, tf.size(positions) + 1, dtype=tf.int32)
            flat = tf.scatter_nd(positions, numbers, tf.cast([rows * self.n_slots], tf.int64))
            return tf.reshape(flat, [self._mask.shape[0].value or -1, self.n_slots])
        numbers = tf.reshape(tf.range(1, rows * self.n_slots + 1), [self.n_slots, rows])
        return tf.transpose(numbers * tf.cast(tf.stack(self._slots), tf.int32))

    def _positions(self):
        if self._at is None:
            at = [rows * self.n_slots + slot for slot, rows in enumerate(self._slots)]
            self._at = tf.concat(at, axis=0)[:, None]
        return self._at


def split_slots(structure):
    """`[R, N, n]` to a list of N structures of `[R, n]`."""
    return [unpack(slot, structure) for slot in tf.unstack(pack(structure), axis=1)]


def scan_slots(step, active, slot_inputs, carry, row_inputs=(), found=None):
    """Runs a step on one slot after another, each in the rows where it is active.

    Args:
        step: `step(inputs of the slot, carry of the slot before, *row_inputs)` returns a tuple of outputs (structures
            of `[m, n]`) and what the next slot sees of this one.
        active: `ActiveSlots`: of all slots, or, if `found` is given, of the first, in all rows; the others are added.
        slot_inputs: list of N structures: `[m, ...]` of a slot, or `[R, ...]` if `found` is given.
        carry: structure of `[R, n]`, what the first slot sees.
        row_inputs: tuple of structures of `[R, ...]`, the same for all slots; only with `found`.
        found: maps the first output of a slot to `[m]` bool, where the next slot is active.

    Returns:
        Tuple of the outputs of all slots one below the other: `[M, n]`, in the order of `ActiveSlots.gather`.
    """
    packed, outputs = [], None
    for slot, inputs in enumerate(slot_inputs):
        if slot and found:
            active.add(found(outputs[0]))
            inputs = map_packed(active.take, inputs)
            row_inputs = tf.nest.map_structure(active.follow, row_inputs)
        if slot:
            carry = map_packed(lambda x, slot=slot: active.follow(x, slot), carry)
        elif not found:
            carry = map_packed(lambda x: active.take(x, 0), carry)
        outputs, carry = step(inputs, carry, *row_inputs)
        packed.append([pack(output) for output in outputs])
    return tuple(unpack(tf.concat(slots, axis=0), like) for slots, like in zip(zip(*packed), outputs))


def _shape(rows, tensor):
    """`[rows, n]` for a tensor `[m, n]`, as int64."""
    width = tensor.shape.as_list()[-1]
    return np.int64([rows, width]) if isinstance(rows, int) else tf.cast(tf.stack([rows, width]), tf.int64)


def _where(mask, tensor):
    """The tensor `[rows, n]`, zeros in rows where the mask `[rows]` does not hold."""
    wide = tf.tile(mask[:, None], [1, tensor.shape.as_list()[-1]])
    return tf.where_v2(wide, tensor, tf.zeros_like(tensor))
