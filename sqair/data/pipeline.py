# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of sequences for TensorFlow, in an order that is a function of (seed, epoch)."""

import copy
from typing import Any, NamedTuple

import numpy as np

from sqair.data import storage
from sqair.graph_mode import tf

_PARALLEL_DECODING, _PREFETCHED_BATCHES = 2, 4
_MAX_BATCHES = np.iinfo(np.int64).max


class SequenceBatch(NamedTuple):
    """A batch of annotated videos, time-major. What is not annotated has M = 0."""

    images: Any  # [T, B, H, W, C] float32 in [0, 1]
    boxes: Any  # [T, B, M, 4] float32 (y, x, h, w) in pixels, may reach beyond the image
    presence: (
        Any  # [T, B, M] float32, 1 where the object has a box in the frame (off the canvas still counts)
    )
    labels: Any  # [B, M] int32 class of each object, -1 where there is none
    visible: Any  # [T, B, M] float32 in [0, 1], share of the object's area that can be seen

    def first_sequences(self, count):
        """The batch without what follows its first `count` sequences."""
        return SequenceBatch(
            images=self.images[:, :count],
            boxes=self.boxes[:, :count],
            presence=self.presence[:, :count],
            labels=self.labels[:count],
            visible=self.visible[:, :count],
        )

    def first_frames(self, count):
        """The batch without what follows its first `count` frames."""
        return self._replace(
            images=self.images[:count],
            boxes=self.boxes[:count],
            presence=self.presence[:count],
            visible=self.visible[:count],
        )


class SequenceDataset:
    """A split of a data set on disk, opened and checked. It stays on disk: a batch is read when it is needed.

    Attributes:
        num_sequences: number of sequences.
        seq_len: number of frames T of each.
        image_shape: `(H, W, C)`.
        max_objects: largest number M of annotated objects.
    """

    def __init__(self, directory, split):
        """Opens the data set in folder `directory`; `split` is "train" or "valid".

        Raises:
            UserError: if the data set is missing, truncated, corrupt, or of another format.
        """
        self._reader = storage.SplitReader(directory, split)
        self.num_sequences = self._reader.num_sequences
        self._numbers = np.arange(self.num_sequences)  # of the records that are its sequences
        self.seq_len, self.image_shape, self.max_objects = self._reader.layout

    def mean_image(self):
        """`[H, W, C]` float32 in [0, 1], the mean over all frames of the split."""
        return self._reader.mean_image.copy()

    def only(self, numbers):
        """The same without other sequences than these: `numbers` are their places, a list of int or `[n]`."""
        chosen = copy.copy(self)
        chosen._numbers = self._numbers[numbers]
        chosen.num_sequences = len(chosen._numbers)
        return chosen

    def labels(self):
        """`[num_sequences, M]` int32 class of each object, -1 where there is none; all sequences are read for it."""
        return self._reader.read_field("labels", self._numbers)

    def batches(self, batch_size, seed=None, start=0, repeat=True, part=(0, 1)):
        """A `tf.data.Dataset` of batches, or of the same part of each.

        Args:
            batch_size: number of sequences B.
            seed: int, at least 0, that fixes the order of every epoch; None: the order on disk.
            start: int, number of batches to leave out at the beginning. They are not read.
            repeat: whether to go on for ever. Then all batches are full, and where the split's end falls
                within a batch, the next epoch fills it. Otherwise one pass, whose last batch may be smaller.
            part: (index, count): which of as many equal parts of each batch, in its order; nothing else is read. More
                than one part have batches that repeat alone.

        Returns:
            Dataset of time-major `SequenceBatch`; B is static where `repeat` is true, other sizes always.

        Raises:
            ValueError: if an argument is out of range, or batches are not divisible.
        """
        if batch_size < 1 or start < 0 or (seed is not None and seed < 0):
            raise ValueError(
                "batch_size must be at least 1, start and seed at least 0, "
                f"not batch_size={batch_size}, start={start}, seed={seed}."
            )
        index, count = part
        if batch_size % count or not (repeat or count == 1):
            raise ValueError(f"Batches of {batch_size} have no {count} equal parts with repeat={repeat}.")
        size = batch_size // count  # of what is read
        num_batches = _MAX_BATCHES if repeat else -(-self.num_sequences // batch_size)
        order = Order(self.num_sequences, seed)
        end = None if repeat else self.num_sequences

        def read(batch):
            first = int(batch) * batch_size + index * size
            last = first + size if end is None else min(first + size, end)
            return np.array(self._reader.read(self._numbers[order.sequences(first, last)]), dtype=object)

        def load(batch):
            records = tf.numpy_function(read, [batch], tf.string)
            records.set_shape([size if repeat else None])
            return self._decode(records)

        dataset = tf.data.Dataset.range(min(start, num_batches), num_batches)
        return dataset.map(load, num_parallel_calls=_PARALLEL_DECODING).prefetch(_PREFETCHED_BATCHES)

    def first(self, count):
        """The first `count` sequences on disk, or as many as there are: `SequenceBatch` of NumPy arrays."""
        with tf.Graph().as_default(), tf.Session() as session:
            batches = self.batches(min(count, self.num_sequences), repeat=False)
            return session.run(tf.data.make_one_shot_iterator(batches).get_next())

    def _decode(self, records):
        """Time-major `SequenceBatch` of records `[B]` string."""
        content = tf.io.decode_raw(tf.io.decode_compressed(records, "ZLIB"), tf.uint8)
        # Not -1, which cannot be inferred for fields without objects.
        batch_size = [records.shape.as_list()[0] or tf.shape(records)[0]]
        fields, offset = {}, 0
        for name, dtype, shape in self._reader.layout.fields:
            num_bytes = dtype.itemsize * int(np.prod(shape))
            field = content[:, offset : offset + num_bytes]
            offset += num_bytes
            if dtype.itemsize > 1:
                items = [num_bytes // dtype.itemsize, dtype.itemsize]
                field = tf.bitcast(tf.reshape(field, batch_size + items), dtype.name)
            fields[name] = tf.reshape(field, batch_size + list(shape))
        time_major = {name: _swap_leading(fields[name]) for name in ("images", "boxes", "visible")}
        in_frame = tf.cast(tf.reduce_any(time_major["boxes"][..., 2:] > 0, axis=-1), tf.float32)
        return SequenceBatch(
            images=tf.cast(time_major["images"], tf.float32) / 255.0,
            boxes=time_major["boxes"],
            presence=in_frame * tf.cast(fields["presence"], tf.float32),
            labels=fields["labels"],
            visible=time_major["visible"],
        )


class Order:
    """Which sequence comes when: position p is in epoch `p // n`, a permutation that (seed, epoch) fixes."""

    def __init__(self, num_sequences, seed=None):
        """Takes the number n of sequences and the seed; without one, every epoch has the order on disk."""
        self._num_sequences, self._seed = num_sequences, seed
        self._epochs = {}  # the last two; a batch may lie on the border of epochs

    def sequences(self, first, last):
        """Numbers of the sequences at positions `first` to `last - 1`, int64."""
        numbers = []
        while first < last:
            epoch, offset = divmod(first, self._num_sequences)
            count = min(last - first, self._num_sequences - offset)
            numbers.append(self._permutation(epoch)[offset : offset + count])
            first += count
        return np.concatenate(numbers)

    def _permutation(self, epoch):
        if self._seed is None:
            epoch = 0
        cached = self._epochs.get(epoch)
        if cached is not None:
            return cached
        if self._seed is None:
            permutation = np.arange(self._num_sequences)
        else:  # raw bits, because what NumPy's generators make of them may change between its releases
            bits = np.random.PCG64(np.random.SeedSequence([self._seed, epoch])).random_raw(
                self._num_sequences
            )
            permutation = np.argsort(bits, kind="stable")
        self._epochs = {**{key: self._epochs[key] for key in list(self._epochs)[-1:]}, epoch: permutation}
        return permutation


def _swap_leading(tensor):
    return tf.transpose(tensor, [1, 0] + list(range(2, tensor.shape.ndims)))
