# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_data_set import content_of

from sqair.data import mnist, moving_mnist
from sqair.data.mnist import Digits
from sqair.data.moving_mnist import CHUNK_SEQUENCES, Options
from sqair.data.trajectories import Motion
from sqair.errors import UserError


@pytest.fixture(scope="module")
def bundle():
    return mnist.load_bundle()


def slow_drawing(templates, corners, height, width):
    """Frames [T, H, W] and visible shares [T, m], a pixel at a time; `corners [T, m, 2]`."""
    frames = np.zeros((len(corners), height, width), np.uint8)
    visible = np.zeros(corners.shape[:2])
    for t in range(len(corners)):
        for j, template in enumerate(templates):
            on_canvas = 0
            for r in range(template.shape[0]):
                for c in range(template.shape[1]):
                    y, x = corners[t, j, 0] + r, corners[t, j, 1] + c
                    if y < height and x < width:
                        frames[t, y, x] = max(frames[t, y, x], template[r, c])
                        on_canvas += 1
            visible[t, j] = on_canvas / template.size
    return frames, visible


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    seq_len=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    num_digits=st.integers(0, 3),
    spare=st.integers(0, 2),
)
def test_drawing_agrees_with_the_slow_one(seed, seq_len, height, width, num_digits, spare):
    rng = np.random.default_rng(seed)
    templates = [rng.integers(0, 256, rng.integers(1, 9, 2)).astype(np.uint8) for _ in range(num_digits)]
    corners = rng.integers(0, (height + 1, width + 1), (seq_len, num_digits, 2))
    labels = rng.integers(0, 10, num_digits)
    layout = moving_mnist.storage.Layout(seq_len, (height, width, 1), num_digits + spare)
    sequence = moving_mnist.draw_sequence(templates, labels, corners, layout)

    frames, visible = slow_drawing(templates, corners, height, width)
    np.testing.assert_array_equal(sequence.images[..., 0], frames)
    np.testing.assert_allclose(sequence.visible[:, :num_digits], visible, atol=1e-6)
    np.testing.assert_array_equal(sequence.boxes[:, :num_digits, :2], corners)
    for j, template in enumerate(templates):
        np.testing.assert_array_equal(sequence.boxes[:, j, 2:], np.broadcast_to(template.shape, (seq_len, 2)))
    np.testing.assert_array_equal(sequence.presence, [1] * num_digits + [0] * spare)
    np.testing.assert_array_equal(sequence.labels, list(labels) + [-1] * spare)
    assert not sequence.boxes[:, num_digits:].any() and not sequence.visible[:, num_digits:].any()


def test_digits_are_cropped_to_their_tight_box(bundle):
    for image in bundle.train.images[:50]:
        template = moving_mnist.crop_and_resize(image, 1.0)
        assert template[0].any() and template[-1].any() and template[:, 0].any() and template[:, -1].any()
        assert template.sum() == image.sum()


@pytest.mark.parametrize("scale", [0.05, 0.5, 0.7, 1.5, 3.0])
def test_digits_are_resized(bundle, scale):
    for image in bundle.train.images[:20]:
        original = moving_mnist.crop_and_resize(image, 1.0)
        resized = moving_mnist.crop_and_resize(image, scale)
        wanted = np.maximum(np.array(original.shape) * scale, 1)
        assert (np.abs(np.array(resized.shape) - wanted) <= 2).all()  # edges may fade to 0 and be cropped
        if scale >= 0.5:
            assert abs(resized.sum() / (original.sum() * scale**2) - 1) < 0.25


def test_sequences_start_inside_and_apart(bundle):
    options = Options(canvas_size=(45, 60), num_digits=(2, 3), digit_scale=0.8)
    for sequence in moving_mnist.make_chunk(bundle.train, options, 3, "train", 0):
        boxes = sequence.boxes[0, sequence.presence == 1]
        assert len(boxes) in (2, 3)
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= (45, 60)).all()
        covered = np.zeros((45, 60), int)
        for y, x, height, width in boxes.astype(int):
            covered[y : y + height, x : x + width] += 1
        assert covered.max() == 1
        np.testing.assert_array_equal(sequence.visible[0, sequence.presence == 1], 1)


def test_digits_of_a_sequence_are_different():
    images = np.zeros((3, 28, 28), np.uint8)
    for i in range(3):
        images[i, : 4 + i, :5] = 255
    options = Options(num_digits=(3,), seq_len=1)
    for sequence in moving_mnist.make_chunk(Digits(images, np.array([4, 5, 6])), options, 0, "train", 0, 50):
        assert sorted(sequence.labels) == [4, 5, 6]
        assert sorted(sequence.boxes[0, :, 2]) == [4, 5, 6]


def test_start_is_uniform():
    """Chi-squared of the corner of a digit of 28x28: on 30x30 it has 3 x 3 places."""
    images = np.full((1, 28, 28), 255, np.uint8)
    options = Options(canvas_size=(30, 30), num_digits=(1,), seq_len=1)
    counts = np.zeros((3, 3))
    for number in range(8):
        for sequence in moving_mnist.make_chunk(Digits(images, np.array([0])), options, 0, "train", number):
            y, x = sequence.boxes[0, 0, :2].astype(int)
            counts[y, x] += 1
    expected = counts.sum() / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # 0.999 quantile, 8 degrees of freedom


def test_the_same_bytes_for_any_number_of_workers(bundle, tmp_path):
    contents = []
    for num_workers in (1, 2, 3):
        folder = tmp_path / str(num_workers)
        moving_mnist.create(
            str(folder),
            bundle,
            num_train=CHUNK_SEQUENCES * 3 + 7,
            num_valid=5,
            seed=9,
            num_workers=num_workers,
        )
        contents.append(content_of(folder))
    assert contents[0] == contents[1] == contents[2]
    assert sorted(contents[0]) == [
        "dataset.json",
        "train-00000-of-00001.tfrecord",
        "valid-00000-of-00001.tfrecord",
    ]
    other = tmp_path / "other"
    moving_mnist.create(str(other), bundle, num_train=5, num_valid=5, seed=10, num_workers=1)
    assert content_of(other)["valid-00000-of-00001.tfrecord"] != contents[0]["valid-00000-of-00001.tfrecord"]


def test_a_smaller_set_is_the_beginning_of_a_larger_one(bundle, tmp_path):
    for count in (10, 260):
        moving_mnist.create(str(tmp_path / str(count)), bundle, num_train=count, num_valid=1, num_workers=1)
    small, large = (content_of(tmp_path / name)["train-00000-of-00001.tfrecord"] for name in ("10", "260"))
    assert large.startswith(small) and len(large) > len(small)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(options=Options(canvas_size=(0, 50))), "canvas size"),
        (dict(options=Options(digit_scale=0.0)), "digit scale"),
        (dict(options=Options(digit_scale=float("nan"))), "digit scale"),
        (dict(options=Options(seq_len=0)), "sequence length"),
        (dict(options=Options(num_digits=())), "numbers of digits"),
        (dict(options=Options(num_digits=(1, 1))), "numbers of digits"),
        (dict(options=Options(num_digits=(-1,))), "number of digits"),
        (dict(options=Options(num_digits=(1, 1001))), "1001 different digits cannot be drawn from 1000"),
        (dict(options=Options(motion=Motion(max_speed=-1.0))), "max speed"),
        (dict(options=Options(canvas_size=(12, 12))), "does not fit a canvas of 12x12"),
        (dict(options=Options(num_digits=(12,))), "12 digits do not fit"),
        (dict(num_train=0), "number of sequences for train"),
        (dict(num_workers=0), "number of worker processes"),
        (dict(seed=-1), "seed"),
    ],
)
def test_senseless_options_are_named(bundle, tmp_path, change, sentence):
    arguments = {**dict(num_train=5, num_valid=5, num_workers=1), **change}
    with pytest.raises(UserError, match=sentence):
        moving_mnist.create(str(tmp_path / "set"), bundle, **arguments)
    assert os.listdir(str(tmp_path)) == []


def test_no_digits_at_all_is_a_data_set(bundle, tmp_path):
    moving_mnist.create(str(tmp_path / "set"), bundle, Options(num_digits=(0,)), 3, 3, num_workers=1)
