# SPDX-License-Identifier: GPL-3.0-or-later
"""How data sets lie on disk: a folder of TFRecord shards and a `dataset.json` that describes and checks them.

A record is one sequence: the arrays of `Layout.fields`, one after the other, little-endian, zlib-compressed.
Records are found by their offsets, so any order can be read without going through the file.
"""

import base64
import hashlib
import json
import os
import weakref
import zlib
from typing import NamedTuple, Tuple

import numpy as np

from sqair.data import tfrecords
from sqair.errors import UserError

INDEX = "dataset.json"
SHARD_ENDING = ".tfrecord"
SHARD_SEQUENCES = 10_000
FORMAT, FORMAT_VERSION = "sqair-sequences", 1

_COMPRESSION_LEVEL = 3  # of zlib; 6 saves a quarter of the space and takes three times as long


class Layout(NamedTuple):
    """Sizes of every sequence of a data set."""

    seq_len: int
    image_shape: Tuple[int, int, int]  # H, W, C
    max_objects: int

    @property
    def fields(self):
        """List of `(name, dtype, shape)` of the arrays of a record, in order.

        An object that is not in one of the frames has a box of zeros there.
        """
        frames, objects = self.seq_len, self.max_objects
        return [
            ("images", np.dtype("u1"), (frames,) + tuple(self.image_shape)),
            ("boxes", np.dtype("<f4"), (frames, objects, 4)),
            ("visible", np.dtype("<f4"), (frames, objects)),
            ("labels", np.dtype("<i4"), (objects,)),
            ("presence", np.dtype("u1"), (objects,)),
        ]

    @property
    def num_bytes(self):
        """Size of an unpacked record."""
        return sum(dtype.itemsize * int(np.prod(shape)) for _, dtype, shape in self.fields)


def encode(layout, arrays):
    """One sequence as the bytes of a record; `arrays` is a dict by the names of `layout.fields`."""
    parts = []
    for name, dtype, shape in layout.fields:
        if arrays[name].shape != shape:
            raise ValueError(f"{name} must have shape {list(shape)}, not {list(arrays[name].shape)}.")
        parts.append(arrays[name].astype(dtype).tobytes())
    return zlib.compress(b"".join(parts), _COMPRESSION_LEVEL)


class SplitWriter:
    """Writes the shards of one split, in order."""

    def __init__(self, directory, split, layout, num_sequences):
        """Takes the folder, the split's name, its `Layout` and how many sequences will come."""
        self._directory, self._split, self._layout = directory, split, layout
        self._num_shards = -(-num_sequences // SHARD_SEQUENCES)
        self._shards, self._num_written = [], 0
        self._stream = None
        self._pixel_sum = np.zeros(layout.image_shape, np.uint64)

    def write(self, framed_records, pixel_sum):
        """Appends records (from `tfrecords.frame`); `pixel_sum [H, W, C]` sums their frames' uint8 pixels."""
        for record in framed_records:
            if self._num_written % SHARD_SEQUENCES == 0:
                self._next_shard()
            self._stream.write(record)
            self._shards[-1]["num_bytes"] += len(record)
            self._shards[-1]["crc32"] = zlib.crc32(record, self._shards[-1]["crc32"])
            self._num_written += 1
        self._pixel_sum += pixel_sum

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._stream is not None:
            self._stream.close()

    def entry(self):
        """The split's entry in the index, when all is written."""
        num_frames = self._num_written * self._layout.seq_len
        mean_image = (self._pixel_sum / (255.0 * num_frames)).astype("<f4")
        return {
            "num_sequences": self._num_written,
            "shards": self._shards,
            "mean_image": base64.b64encode(mean_image.tobytes()).decode(),
        }

    def _next_shard(self):
        if self._stream is not None:
            self._stream.close()
        name = f"{self._split}-{len(self._shards):05d}-of-{self._num_shards:05d}{SHARD_ENDING}"
        self._stream = open(os.path.join(self._directory, name), "wb")  # noqa: SIM115  closed on exit
        self._shards.append({"file": name, "num_bytes": 0, "crc32": 0})


def write_index(directory, layout, splits, **description):
    """Writes `dataset.json`, the last file of a data set; `splits` has what `SplitWriter.entry` gives."""
    index = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **description,
        "seq_len": layout.seq_len,
        "image_shape": list(layout.image_shape),
        "max_objects": layout.max_objects,
        "record": [
            {"name": name, "dtype": dtype.str, "shape": list(shape)} for name, dtype, shape in layout.fields
        ],
        "splits": splits,
    }
    index["checksum"] = _checksum(index)
    with open(os.path.join(directory, INDEX), "w", encoding="utf-8") as stream:
        json.dump(index, stream, indent=1)
        stream.write("\n")
    return index


def read_index(directory):
    """The dict in `dataset.json`.

    Raises:
        UserError: if there is none, or it is damaged or of another format.
    """
    path = os.path.join(directory, INDEX)
    try:
        with open(path, encoding="utf-8") as stream:
            index = json.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"There is no data set in {directory!r} (it has no {INDEX}); "
            "create one with scripts/create_multi_mnist_dataset.sh, or name its folder with `data_dir`."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError:  # JSONDecodeError, UnicodeDecodeError
        raise UserError(f"{path} is damaged (it is not JSON); create the data set again.") from None
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise UserError(f"{path} does not describe a data set of sequences; name another folder.")
    if index.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {index.get('format_version')}, but this program reads version "
            f"{FORMAT_VERSION}; create the data set again."
        )
    if index.get("checksum") != _checksum(index):
        raise UserError(f"{path} is damaged or was edited (its checksum differs); create the data set again.")
    return index


def _checksum(index):
    content = {key: value for key, value in index.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class SplitReader:
    """A split of a data set on disk, checked; reads records by number.

    Attributes:
        layout: `Layout`.
        num_sequences: number of records.
        mean_image: `[H, W, C]` float32 in [0, 1], mean over all frames.
    """

    def __init__(self, directory, split):
        """Opens split `split` of the data set in `directory`.

        Raises:
            UserError: if anything is missing, truncated, corrupt or does not match the index.
        """
        index = read_index(directory)
        for key in ("splits", "seq_len", "image_shape", "max_objects"):
            if key not in index:
                raise UserError(f"{os.path.join(directory, INDEX)} lacks {key!r}; create the data set again.")
        if split not in index["splits"]:
            known = ", ".join(sorted(index["splits"]))
            raise UserError(f"The data set in {directory!r} has no split {split!r}, only {known}.")
        entry = index["splits"][split]
        self.layout = Layout(index["seq_len"], tuple(index["image_shape"]), index["max_objects"])
        self.num_sequences = entry["num_sequences"]
        self._descriptors, spans = [], []
        self._finalizer = weakref.finalize(self, _close_all, self._descriptors)
        for number, shard in enumerate(entry["shards"]):
            path = os.path.join(directory, shard["file"])
            descriptor, shard_spans = self._open_shard(path, shard)
            self._descriptors.append(descriptor)
            spans.append(np.insert(shard_spans, 0, number, axis=1))
        self._spans = np.concatenate(spans)  # [records, 3]: shard, offset, length
        if len(self._spans) != self.num_sequences:
            raise UserError(
                f"The shards of split {split!r} in {directory!r} hold {len(self._spans)} sequences, "
                f"but {INDEX} says {self.num_sequences}; create the data set again."
            )
        self._check_record(directory)
        mean_image = np.frombuffer(base64.b64decode(entry["mean_image"]), "<f4")
        self.mean_image = mean_image.reshape(self.layout.image_shape)

    def read(self, numbers):
        """The records (list of bytes) with these numbers."""
        records = []
        for shard, offset, length in self._spans[numbers].tolist():
            record = os.pread(self._descriptors[shard], length, offset)
            if len(record) != length:
                raise UserError(
                    "A shard of the data set became shorter while it was read; create the data set again."
                )
            records.append(record)
        return records

    def read_field(self, name, numbers):
        """One of `Layout.fields` of the records with these numbers: array `[len(numbers), ...]`."""
        offset = 0
        for field, dtype, shape in self.layout.fields:
            if field == name:
                break
            offset += dtype.itemsize * int(np.prod(shape))
        values = np.zeros((len(numbers), *shape), dtype)
        for value, number in zip(values, numbers):
            (record,) = self.read([number])
            value[...] = np.frombuffer(zlib.decompress(record), dtype, value.size, offset).reshape(shape)
        return values

    @staticmethod
    def _open_shard(path, entry):
        """File descriptor, and `[records, 2]` offset and length of each record."""
        remedy = "create the data set again"
        try:
            with open(path, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size != entry["num_bytes"]:
                    kind = "truncated" if size < entry["num_bytes"] else "too long"
                    raise UserError(
                        f"{path} is {kind} ({size} instead of {entry['num_bytes']} bytes); {remedy}."
                    )
                content = stream.read()
                descriptor = os.dup(stream.fileno())
        except FileNotFoundError:
            raise UserError(f"{path} is missing; {remedy}.") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
        if zlib.crc32(content) != entry["crc32"]:
            os.close(descriptor)
            raise UserError(f"{path} is corrupt (its checksum differs); {remedy}.")
        return descriptor, tfrecords.spans(content)

    def _check_record(self, directory):
        found = len(zlib.decompress(self.read([0])[0]))
        if found != self.layout.num_bytes:
            raise UserError(
                f"The sequences in {directory!r} take {found} bytes each, but {INDEX} describes sequences of "
                f"{self.layout.num_bytes}; create the data set again."
            )


def _close_all(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)
