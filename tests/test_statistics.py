# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from sqair.data import mnist, mnist_mot, moving_mnist
from sqair.data.moving_mnist import Options


@pytest.fixture(scope="module")
def bundle():
    return mnist.load_bundle()


def test_statistics_are_the_references(bundle, tmp_path):
    """Of 10,000 sequences of the reference; here of 4,000, whose mean pixel has a standard error of 1.4%."""
    index = moving_mnist.create(
        str(tmp_path / "set"), bundle, num_train=4_000, num_valid=1, seed=1, num_workers=1
    )
    statistics = index["splits"]["train"]["statistics"]
    assert abs(statistics["digits_per_frame"] - 1.0) < 0.04
    assert abs(statistics["mean_pixel"] - 0.0297) < 0.0015
    assert abs(statistics["mean_digit_height"] - 19.7) < 0.15
    assert abs(statistics["mean_digit_width"] - 15.6) < 0.5  # the bundled ones are 15.8 wide
    assert abs(statistics["invisible_share"] - 0.015) < 0.004
    assert abs(statistics["under_quarter_share"] - 0.133) < 0.012
    assert abs(statistics["visible_share"] - 0.756) < 0.012


def test_statistics_agree_with_a_count(bundle, tmp_path):
    options = Options(seq_len=4)
    index = moving_mnist.create(
        str(tmp_path / "set"), bundle, options, num_train=300, num_valid=20, seed=5, num_workers=1
    )
    chunks = [moving_mnist.make_chunk(bundle.train, options, 5, "train", 0)]
    chunks.append(moving_mnist.make_chunk(bundle.train, options, 5, "train", 1, 50))
    sequences = [sequence for chunk in chunks for sequence in chunk]
    visible = np.concatenate([s.visible[:, s.presence == 1].ravel() for s in sequences])
    heights = np.concatenate([s.boxes[:, s.presence == 1, 2].ravel() for s in sequences])
    statistics = index["splits"]["train"]["statistics"]
    assert index["splits"]["train"]["num_sequences"] == len(sequences) == 300
    assert statistics["mean_pixel"] == pytest.approx(np.mean([s.images.mean() / 255 for s in sequences]))
    assert statistics["visible_share"] == pytest.approx(visible.mean())
    assert statistics["invisible_share"] == pytest.approx((visible == 0).mean())
    assert statistics["under_quarter_share"] == pytest.approx((visible < 0.25).mean())
    assert statistics["mean_digit_height"] == pytest.approx(heights.mean())
    assert statistics["digits_per_frame"] == pytest.approx(np.mean([s.presence.sum() for s in sequences]))


def test_digits_count_in_the_frames_that_they_are_in(bundle, tmp_path):
    index = mnist_mot.create(str(tmp_path / "set"), bundle, num_train=8, num_valid=1, num_workers=1)
    sequences = mnist_mot.make_chunk(bundle.train, mnist_mot.Options(), 0, "train", 0, 8)
    boxes = np.stack([sequence.boxes for sequence in sequences])
    statistics = index["splits"]["train"]["statistics"]
    assert statistics["digits_per_frame"] == pytest.approx((boxes[..., 2] > 0).sum(-1).mean())
    assert (statistics["mean_digit_height"], statistics["invisible_share"]) == (28, 0)
