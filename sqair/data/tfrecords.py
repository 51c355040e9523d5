# SPDX-License-Identifier: GPL-3.0-or-later
"""TFRecord framing without TensorFlow: each record between its length and the checksums of both (CRC-32C)."""

import struct

import numpy as np

HEADER_BYTES, FOOTER_BYTES = 12, 4

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8


def frame(records):
    """These records (list of bytes) as they stand in a TFRecord file, one after the other (list of bytes)."""
    lengths = [struct.pack("<Q", len(record)) for record in records]
    length_checks, record_checks = masked_checksums(lengths), masked_checksums(records)
    return [
        length + struct.pack("<I", length_check) + record + struct.pack("<I", record_check)
        for length, length_check, record, record_check in zip(lengths, length_checks, records, record_checks)
    ]


def spans(content):
    """Where the records lie in the bytes of a TFRecord file: `[records, 2]` int64, offset and length."""
    found, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        found.append((position + HEADER_BYTES, length))
        position += HEADER_BYTES + length + FOOTER_BYTES
    return np.array(found, np.int64).reshape(-1, 2)


def masked_checksums(records):
    """Masked CRC-32C of each record (list of int from list of bytes): byte by byte, all records at once."""
    lengths = np.array([len(record) for record in records], np.int64)
    order = np.argsort(-lengths, kind="stable")  # longest first: those not at their end are the first ones
    columns = np.zeros((lengths.max(initial=0), len(records)), np.uint8)
    for column, i in enumerate(order):
        columns[: lengths[i], column] = np.frombuffer(records[i], np.uint8)
    active = np.searchsorted(-lengths[order], -np.arange(len(columns)), side="left")
    checksums = np.full(len(records), 0xFFFFFFFF, np.uint32)
    for byte, count in zip(columns, active.tolist()):
        current = checksums[:count]
        checksums[:count] = _TABLE.take(current.astype(np.uint8) ^ byte[:count]) ^ (current >> 8)
    checksums = (~checksums).astype(np.uint64)
    masked = np.empty(len(records), np.uint64)
    masked[order] = (((checksums >> 15) | (checksums << 17)) + _MASK_DELTA) & 0xFFFFFFFF
    return masked.tolist()


def _make_table():
    """The checksum of each byte alone, `[256]` uint32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()
