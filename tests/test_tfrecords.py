# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sqair.data import tfrecords
from sqair.graph_mode import tf


def slow_masked_checksum(data):
    """CRC-32C a bit at a time, then rotated by 15 bits and shifted, as TFRecord has it."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = (checksum >> 1) ^ (0x82F63B78 if checksum & 1 else 0)
    checksum ^= 0xFFFFFFFF
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) % 2**32


def test_known_checksum():
    """The check value of CRC-32C's definition."""
    rotated = (tfrecords.masked_checksums([b"123456789"])[0] - 0xA282EAD8) % 2**32
    assert ((rotated >> 17) | (rotated << 15)) % 2**32 == 0xE3069283


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=6))
def test_checksums_agree_with_the_slow_one(records):
    assert tfrecords.masked_checksums(records) == [slow_masked_checksum(record) for record in records]


def test_files_are_tensorflows(tmp_path):
    rng = np.random.default_rng(0)
    records = [rng.bytes(size) for size in (0, 1, 700, 3, 70_000)]
    content = b"".join(tfrecords.frame(records))
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in records:
            writer.write(record)
    assert (tmp_path / "theirs").read_bytes() == content
    found = [content[offset : offset + length] for offset, length in tfrecords.spans(content).tolist()]
    assert found == records
    assert tfrecords.frame([]) == [] and tfrecords.spans(b"").shape == (0, 2)
