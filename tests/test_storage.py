# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import shutil
import zlib

import numpy as np
import pytest
from stub_data_set import SHARD, sharded_sequences, sharded_set

from sqair.data import storage
from sqair.data.storage import SplitReader
from sqair.errors import UserError
from sqair.graph_mode import tf


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sharded_set(str(tmp_path_factory.mktemp("data") / "set"))


def test_the_shards_are_tfrecords(folder):
    """Whoever does not use this package reads them with TensorFlow and the layout in dataset.json."""
    with open(os.path.join(folder, "dataset.json")) as stream:
        index = json.load(stream)
    names = [os.path.join(folder, shard["file"]) for shard in index["splits"]["train"]["shards"]]
    assert len(names) == 3
    records = list(tf.io.tf_record_iterator(names[0]))
    content, sequence = zlib.decompress(records[2]), sharded_sequences()[2]
    for field in index["record"]:
        dtype, shape = np.dtype(field["dtype"]), field["shape"]
        num_bytes = dtype.itemsize * int(np.prod(shape))
        values = np.frombuffer(content[:num_bytes], dtype).reshape(shape)
        np.testing.assert_array_equal(values, getattr(sequence, field["name"]))
        content = content[num_bytes:]
    assert content == b""


def edit_index(change, keep_checksum=False):
    def edit(path):
        name = os.path.join(path, "dataset.json")
        with open(name) as stream:
            index = json.load(stream)
        change(index)
        if not keep_checksum:
            index["checksum"] = storage._checksum(index)
        with open(name, "w") as stream:
            json.dump(index, stream)

    return edit


def edit_file(name, change):
    def edit(path):
        name_there = os.path.join(path, name)
        with open(name_there, "rb") as stream:
            content = stream.read()
        with open(name_there, "wb") as stream:
            stream.write(change(content))

    return edit


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (shutil.rmtree, "There is no data set in"),
        (lambda path: os.remove(os.path.join(path, "dataset.json")), "There is no data set in"),
        (lambda path: os.remove(os.path.join(path, SHARD)), f"{SHARD} is missing"),
        (edit_file(SHARD, lambda content: content[:-10]), f"{SHARD} is truncated"),
        (edit_file(SHARD, lambda content: b""), f"{SHARD} is truncated"),
        (edit_file(SHARD, lambda content: content + b"x"), f"{SHARD} is too long"),
        (edit_file(SHARD, lambda content: content[:500] + b"?" + content[501:]), f"{SHARD} is corrupt"),
        (edit_file(SHARD, lambda content: bytes(len(content))), f"{SHARD} is corrupt"),
        (
            lambda path: (os.remove(os.path.join(path, SHARD)), os.mkdir(os.path.join(path, SHARD))),
            "cannot be read",
        ),
        (edit_file("dataset.json", lambda content: content[:-50]), "dataset.json is damaged .it is not JSON"),
        (
            edit_file("dataset.json", lambda content: b"\xff\xfe\x00"),
            "dataset.json is damaged .it is not JSON",
        ),
        (edit_file("dataset.json", lambda content: b"[1, 2]"), "does not describe a data set"),
        (edit_index(lambda index: index.update(format="other")), "does not describe a data set"),
        (edit_index(lambda index: index.update(format_version=2)), "has format version 2"),
        (edit_index(lambda index: index.update(seed=5), keep_checksum=True), "was edited"),
        (edit_index(lambda index: index["splits"]["train"].update(num_sequences=46)), "hold 45 sequences"),
        (edit_index(lambda index: index["splits"]["train"]["shards"].pop()), "hold 40 sequences"),
        (
            edit_index(lambda index: index.update(image_shape=[40, 40, 1])),
            "describes sequences of|mean image",
        ),
        (edit_index(lambda index: index.update(seq_len=5)), "describes sequences of"),
        (edit_index(lambda index: index["splits"].pop("train")), "has no split 'train', only valid"),
        (edit_index(lambda index: index.pop("splits")), "lacks"),
    ],
)
def test_damage_is_named_on_opening(folder, tmp_path, damage, sentence):
    path = str(tmp_path / "copy")
    shutil.copytree(folder, path)
    SplitReader(path, "train")
    damage(path)
    with pytest.raises(UserError, match=sentence) as caught:
        SplitReader(path, "train")
    assert "\n" not in str(caught.value) and path in str(caught.value)


def test_a_data_set_from_elsewhere(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "nothing", "."):
        with pytest.raises(UserError, match="There is no data set in"):
            SplitReader(str(tmp_path / name), "train")


def test_files_are_closed(folder):
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(5):
        SplitReader(folder, "train")
    assert count() <= before + 1
