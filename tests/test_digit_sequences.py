# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest
from stub_data_set import content_of

from sqair.data import digit_sequences, storage
from sqair.data.digit_sequences import CHUNK_SEQUENCES, Sequence
from sqair.data.mnist import Digits, DigitSplits
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError

LAYOUT = storage.Layout(2, (3, 4, 1), 1)
DIGITS = DigitSplits(*(Digits(np.full((1, 28, 28), 9, np.uint8), np.array([label])) for label in (3, 5)))


def make_chunk(digits, split, number, count):
    """Sequences of a brightness that tells the chunk, the place and the split."""
    rng = digit_sequences.random_stream(7, split, number)
    for brightness in rng.integers(256, size=CHUNK_SEQUENCES)[:count]:
        images = np.full((LAYOUT.seq_len,) + LAYOUT.image_shape, brightness, np.uint8)
        boxes = np.full((LAYOUT.seq_len, 1, 4), 1, np.float32)
        labels = np.array(digits.labels, np.int32)
        yield Sequence(images, boxes, np.ones([LAYOUT.seq_len, 1], np.float32), labels, np.ones(1, np.uint8))


def write(folder, num_workers, counts, **options):
    return digit_sequences.write(
        str(folder), "test", DIGITS, LAYOUT, make_chunk, counts, 7, {"size": 3}, num_workers, **options
    )


def test_the_same_bytes_for_any_number_of_workers_and_what_is_read_is_what_was_made(tmp_path):
    counts = {"train": 2 * CHUNK_SEQUENCES + 3, "valid": 4}
    contents = []
    for num_workers in (1, 3):
        index = write(tmp_path / str(num_workers), num_workers, counts)
        contents.append(content_of(tmp_path / str(num_workers)))
    assert contents[0] == contents[1]
    assert (index["name"], index["seed"], index["options"]) == ("test", 7, {"size": 3})
    for split, label in (("train", 3), ("valid", 5)):
        batch = SequenceDataset(str(tmp_path / "1"), split).first(counts[split])
        made = [
            sequence.images[0, 0, 0, 0]
            for number in range(-(-counts[split] // CHUNK_SEQUENCES))
            for sequence in make_chunk(getattr(DIGITS, split), split, number, CHUNK_SEQUENCES)
        ]
        np.testing.assert_allclose(
            batch.images[1, :, 2, 3, 0], np.array(made[: counts[split]]) / 255, atol=1e-6
        )
        assert set(batch.labels.ravel()) == {label}
        mean = index["splits"][split]["statistics"]["mean_pixel"]
        np.testing.assert_allclose(mean, batch.images.mean(), atol=1e-6)


def test_streams_of_seeds_splits_and_chunks_differ():
    streams = [("train", 0, 0), ("valid", 0, 0), ("train", 1, 0), ("train", 0, 1)]
    numbers = [
        tuple(digit_sequences.random_stream(seed, split, number).integers(2**32, size=4))
        for split, number, seed in streams
    ]
    assert len(set(numbers)) == len(streams)


def test_a_chunk_that_fails_leaves_nothing(tmp_path):
    def failing(digits, split, number, count):
        raise UserError("no")

    for num_workers in (1, 2):
        with pytest.raises(UserError, match="no"):
            digit_sequences.write(
                str(tmp_path / "set"),
                "x",
                DIGITS,
                LAYOUT,
                failing,
                {"train": 1, "valid": 1},
                0,
                {},
                num_workers,
            )
    assert os.listdir(str(tmp_path)) == []


def test_the_visible_share_is_that_of_the_area_on_the_canvas():
    boxes = np.float32(
        [[0, 0, 4, 4], [-1, 2, 4, 4], [8, -3, 4, 4], [-9, 0, 4, 4], [3, 3, 0, 0], [1, 1, 0.5, 0.5]]
    )
    share = digit_sequences.visible_share(boxes, (10, 20))
    np.testing.assert_allclose(share, [1, 0.75, 0.125, 0, 0, 1])
