# SPDX-License-Identifier: GPL-3.0-or-later
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_data_set import content_of

from sqair.data import mnist, mnist_mot
from sqair.data.digit_sequences import CHUNK_SEQUENCES
from sqair.data.mnist import Digits
from sqair.data.mnist_mot import Lives, Options
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation import suggestions

OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
NAMES = list(OPPOSITE)


@pytest.fixture(scope="module")
def bundle():
    return mnist.load_bundle()


def corner_at(border, share, height, width):
    """Where the top-left corner of a digit is that lies just outside of a border."""
    if border in ("top", "bottom"):
        return (-28.0 if border == "top" else height), share * (width - 28)
    return share * (height - 28), (-28.0 if border == "left" else width)


def slow_slot(chances, borders, begins, ends, options):
    """A slot, frame by frame: list of None or (y, x, frame of birth)."""
    height, width = options.canvas_size
    frames, digit, empty = [], None, 0
    for t in range(len(chances)):
        if digit is not None:
            digit["steps"] += 1
            if digit["steps"] >= digit["length"] / options.speed:
                digit, empty = None, 0
        if digit is None and empty >= options.wait and chances[t] < options.birth_prob:
            y1, x1 = corner_at(NAMES[borders[t]], begins[t], height, width)
            y2, x2 = corner_at(OPPOSITE[NAMES[borders[t]]], ends[t], height, width)
            length = np.hypot(y2 - y1, x2 - x1)
            direction = (y2 - y1) / length, (x2 - x1) / length
            digit = dict(start=(y1, x1), direction=direction, length=length, steps=1, born=t)
        elif digit is None:
            empty += 1
        if digit is None:
            frames.append(None)
        else:
            way = digit["steps"] * options.speed
            y, x = (s + way * d for s, d in zip(digit["start"], digit["direction"]))
            frames.append((y, x, digit["born"]))
    return frames


OPTIONS = st.builds(
    Options,
    canvas_size=st.tuples(st.integers(28, 60), st.integers(28, 60)),
    max_digits=st.integers(1, 3),
    seq_len=st.integers(1, 30),
    speed=st.floats(0.3, 28),
    wait=st.integers(0, 6),
    birth_prob=st.sampled_from([0.2, 0.5, 1.0]),
    history=st.sampled_from([0, 3, 40]),
)


@settings(max_examples=60, deadline=None)
@given(options=OPTIONS, seed=st.integers(0, 2**32))
def test_lives_agree_with_the_slow_ones(options, seed):
    rng = np.random.default_rng(seed)
    shape = options.seq_len + options.history, options.max_digits
    chances, begins, ends = rng.random((3,) + shape)
    borders = rng.integers(4, size=shape)
    lives = mnist_mot.live(chances, borders, begins, ends, options)
    for n in range(options.max_digits):
        slow = slow_slot(chances[:, n], borders[:, n], begins[:, n], ends[:, n], options)
        assert [frame is not None for frame in slow] == lives.alive[:, n].tolist()
        for t, frame in enumerate(slow):
            if frame is not None:
                np.testing.assert_allclose(lives.corners[t, n], frame[:2], atol=1e-9)
                assert lives.birth[t, n] == frame[2]


@settings(max_examples=40, deadline=None)
@given(options=OPTIONS, seed=st.integers(0, 2**32))
def test_drawing_agrees_with_the_slow_one(options, seed):
    rng = np.random.default_rng(seed)
    digits = Digits(rng.integers(0, 256, (4, 28, 28)).astype(np.uint8), rng.integers(0, 10, 4))
    shape = options.seq_len, options.max_digits
    corners = rng.uniform(-40, 70, shape + (2,))
    birth = np.sort(rng.integers(-1, 2, shape), axis=0)
    chosen = rng.integers(0, 4, (3, options.max_digits))[birth, np.arange(options.max_digits)]
    lives = Lives(corners, rng.random(shape) < 0.7, birth)
    max_objects = 3 * options.max_digits
    sequence = mnist_mot.draw_sequence(digits, lives, chosen, options.canvas_size, max_objects)

    height, width = options.canvas_size
    place_of, labels = {}, []
    images, boxes, visible = np.zeros((shape[0], height, width)), {}, {}
    for n in range(options.max_digits):
        for t in range(options.seq_len):
            top, left = (int(np.rint(value)) for value in corners[t, n])
            seen = 0
            if lives.alive[t, n]:
                for r in range(28):
                    for c in range(28):
                        if 0 <= top + r < height and 0 <= left + c < width:
                            images[t, top + r, left + c] += digits.images[chosen[t, n], r, c]
                            seen += 1
            if seen:
                if (n, birth[t, n]) not in place_of:
                    place_of[n, birth[t, n]] = len(labels)
                    labels.append(digits.labels[chosen[t, n]])
                boxes[t, place_of[n, birth[t, n]]] = (top, left, 28, 28)
                visible[t, place_of[n, birth[t, n]]] = seen / 28**2
    np.testing.assert_array_equal(sequence.images[..., 0], np.minimum(images, 255))
    assert sequence.labels.tolist() == labels + [-1] * (max_objects - len(labels))
    assert sequence.presence.tolist() == [1] * len(labels) + [0] * (max_objects - len(labels))
    for place in np.ndindex(*sequence.visible.shape):
        np.testing.assert_array_equal(sequence.boxes[place], boxes.get(place, (0, 0, 0, 0)))
        np.testing.assert_allclose(sequence.visible[place], visible.get(place, 0), atol=1e-6)


def test_reduced_frames_are_means_over_areas_and_boxes_move_with_them(bundle):
    options = Options(canvas_size=(96, 60), history=20, seq_len=2)
    drawn = next(mnist_mot.make_chunk(bundle.train, options, 5, "train", 0, 1))
    options = options._replace(frame_size=(64, 45))  # one pixel of 3 / 2 by 4 / 3
    found = next(mnist_mot.make_chunk(bundle.train, options, 5, "train", 0, 1))
    fine = drawn.images[..., 0].repeat(2, axis=1).repeat(3, axis=2) / 1.0
    for t, row, column in np.ndindex(2, 64, 45):
        wanted = fine[t, 3 * row : 3 * row + 3, 4 * column : 4 * column + 4].mean()
        assert abs(found.images[t, row, column, 0] - wanted) <= 0.5 + 1e-4
    assert found.images.max() > 100
    ratio = 64 / 96, 45 / 60, 64 / 96, 45 / 60
    np.testing.assert_allclose(found.boxes, drawn.boxes * ratio, atol=1e-5)
    for name in ("visible", "labels", "presence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(drawn, name))
    assert options.layout().image_shape == (64, 45, 1)


@pytest.mark.parametrize("seed", range(12))
def test_any_options_give_sequences_whose_digits_have_places(bundle, seed):
    rng = np.random.RandomState(seed)
    options = Options(
        canvas_size=tuple(rng.randint(28, 61, 2)),
        max_digits=rng.randint(1, 4),
        seq_len=rng.randint(1, 31),
        speed=rng.choice([rng.uniform(0.3, 28), 7.0, 14.0, 28.0]),
        wait=rng.randint(0, 7),
        birth_prob=rng.choice([0.2, 0.5, 1.0]),
        history=rng.choice([0, 3, 40]),
    )
    for sequence in mnist_mot.make_chunk(bundle.train, options, seed, "train", 0, 20):
        assert (sequence.boxes[..., 2] > 0).sum(-1).max() <= options.max_digits


def test_there_are_places_for_all_digits_that_a_slot_can_hold_and_no_more(bundle):
    # A digit lives for 3 frames, as these take it from 14 to 42 of 56 pixels; in 12 there are at most
    # 1 of the first, 2 empty ones, 3 of the second, 2 empty ones and 3 of the third.
    options = Options(
        canvas_size=(28, 28), max_digits=1, seq_len=12, speed=14.0, wait=2, birth_prob=1.0, history=20
    )
    sequences = mnist_mot.make_chunk(bundle.train, options, 0, "train", 0)
    assert max(sequence.presence.sum() for sequence in sequences) == options.layout().max_objects == 3


def test_without_history_everything_comes_in_and_moves_at_its_speed(bundle):
    """The second way to say what the paper's parameters mean, of whole sequences."""
    options = Options(history=0)
    born, borders = [], []
    for sequence in mnist_mot.make_chunk(bundle.train, options, 1, "train", 0):
        there = sequence.boxes[..., 2] > 0
        assert not there[:5].any()  # every slot waits five frames
        for place in np.flatnonzero(there.any(0)):
            corners = sequence.boxes[there[:, place], place, :2]
            first = np.flatnonzero(there[:, place])[0]
            born.append(first)
            borders.append(np.argmin(np.abs(corners[0] - [[-28, np.inf]] * 2)))
            outside = np.maximum(-corners[0], corners[0] + 28 - 128)
            assert (
                20 < outside.max() < 28 and outside.min() <= 0
            )  # a step in from one border, between the others
            if len(corners) > 1:
                way = np.linalg.norm(corners[-1] - corners[0]) / (len(corners) - 1)
                assert abs(way - 5.3) < 1.5 / (len(corners) - 1)
    waits = np.bincount(born, minlength=20)[5:10] / len(born)
    np.testing.assert_allclose(waits[:4], [0.5, 0.25, 0.125, 0.0625], atol=4 * 0.5 / math.sqrt(len(born)))


def test_with_history_the_first_frame_is_as_full_as_the_last(bundle):
    counts = [
        (sequence.boxes[..., 2] > 0).sum(-1)
        for sequence in mnist_mot.make_chunk(bundle.train, Options(), 2, "train", 0)
    ]
    means = np.mean(counts, axis=0)
    # A slot is empty for 6 frames on average, and full for about 31.
    np.testing.assert_allclose(means, 3 * 31 / 37, atol=0.25)
    assert np.max(counts) == 3


def test_borders_are_equally_likely(bundle):
    options = Options(history=0, seq_len=7, max_digits=1, birth_prob=1.0)
    counts = np.zeros((2, 2))
    for sequence in mnist_mot.make_chunk(bundle.train, options, 3, "train", 0):
        y, x = sequence.boxes[-1, 0, :2]
        axis = 0 if not 0 <= y <= 100 else 1
        counts[axis, int((y, x)[axis] > 0)] += 1
    expected = CHUNK_SEQUENCES / 4
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # 0.999 quantile, 3 degrees of freedom


def test_the_same_bytes_for_any_number_of_workers_and_a_smaller_set_is_the_beginning(bundle, tmp_path):
    options = Options(canvas_size=(40, 50), seq_len=3)
    contents = []
    for name, num_train, num_workers in (("1", 260, 1), ("2", 260, 2), ("small", 10, 1)):
        mnist_mot.create(str(tmp_path / name), bundle, options, num_train, 5, 9, num_workers)
        contents.append(content_of(tmp_path / name))
    assert contents[0] == contents[1]
    large, _, small = (content["train-00000-of-00001.tfrecord"] for content in contents)
    assert large.startswith(small) and len(large) > len(small)
    mnist_mot.create(str(tmp_path / "other"), bundle, options, 5, 5, seed=10, num_workers=1)
    name = "valid-00000-of-00001.tfrecord"
    assert content_of(tmp_path / "other")[name] != contents[0][name]


def test_a_data_set_is_read_and_measured_like_others(bundle, tmp_path):
    mnist_mot.create(str(tmp_path / "set"), bundle, num_train=20, num_valid=2, num_workers=1)
    data = SequenceDataset(str(tmp_path / "set"), "train")
    assert (data.seq_len, data.image_shape, data.max_objects) == (20, (128, 128, 1), 6)
    batch = data.first(20)
    made = next(mnist_mot.make_chunk(bundle.train, Options(), 0, "train", 0, 1))
    np.testing.assert_allclose(batch.images[:, 0], made.images / 255, atol=1e-6)
    np.testing.assert_array_equal(batch.presence[:, 0], made.boxes[..., 2] > 0)
    suggested = {
        found.flag: found.value
        for found in suggestions.suggest(
            suggestions.measure(batch.images, batch.boxes, batch.presence), data.image_shape[:2]
        )
    }
    assert suggested["n_steps_per_image"] == "3"
    assert suggested["scale_prior"] == "-2.6,-2.6"


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(options=Options(canvas_size=(128, 27))), "`canvas_size=27` is refused: it must be at least 28"),
        (dict(options=Options(max_digits=0)), "`max_digits=0`"),
        (dict(options=Options(frame_size=(64, 129))), "`frame_size=64x129` is refused: it must be at most"),
        (dict(options=Options(seq_len=0)), "`seq_len=0`"),
        (dict(options=Options(wait=-1)), "`wait=-1`"),
        (dict(options=Options(history=-1)), "`history=-1`"),
        (dict(options=Options(birth_prob=0.0)), "`birth_prob=0.0`"),
        (dict(options=Options(birth_prob=float("nan"))), "`birth_prob=nan`"),
        (dict(options=Options(speed=0.0)), "`speed=0.0`"),
        (dict(options=Options(speed=28.5)), "`speed=28.5`"),
        (dict(num_valid=0), "`num_valid=0`"),
        (dict(seed=-1), "`seed=-1`"),
    ],
)
def test_senseless_options_are_named(bundle, tmp_path, change, sentence):
    arguments = {**dict(num_train=5, num_valid=5, num_workers=1), **change}
    with pytest.raises(UserError, match=sentence):
        mnist_mot.create(str(tmp_path / "set"), bundle, **arguments)
    assert not list(tmp_path.iterdir())
