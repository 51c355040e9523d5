# SPDX-License-Identifier: GPL-3.0-or-later
"""MNIST-MOT: digits that cross a large frame one after the other (He et al. 2019, arXiv:1809.03137).

A slot holds one digit at a time. Empty, it waits some frames, then a digit is born in it with some probability a frame,
and goes at constant speed from one border straight to the opposite one, where it is gone.

Not in the paper: a slot's life begins some frames, a random number for each, before the first frame, as if sequences
were cut from a longer video. With `history=0` all slots begin to wait in the first frame: the first frames are empty.
"""

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np

from sqair.data import digit_sequences, storage
from sqair.data.digit_sequences import CHUNK_SEQUENCES, NO_LABEL, Sequence, visible_share
from sqair.errors import UserError

SIDE = 28  # of a digit's image in pixels, which is drawn whole

# Which axis a digit crosses and in which direction, by the border that it comes from: top, bottom, left, right.
_AXIS = np.array([0, 0, 1, 1])
_DIRECTION = np.array([1, -1, 1, -1])


class Options(NamedTuple):
    """What the sequences are like."""

    canvas_size: Tuple[int, int] = (128, 128)  # H, W in pixels
    max_digits: int = 3  # slots: the most digits in a frame
    frame_size: Optional[Tuple[int, int]] = None  # h, w that the drawn canvas is reduced to; None: as it is
    seq_len: int = 20  # frames
    speed: float = 5.3  # pixels per frame
    wait: int = 5  # frames that a slot stays empty
    birth_prob: float = 0.5  # per frame after that
    history: int = 100  # the most frames before the first one that a slot's life begins

    def layout(self):
        """`storage.Layout` of these sequences: each digit has a place of its own."""
        shortest = math.ceil((min(self.canvas_size) + SIDE) / self.speed) - 1  # frames that a digit lives
        spare = self.seq_len - 2 - self.wait  # frames, if the slot's first and last digit are in one each
        of_slot = 1 if spare < 0 else 2 + spare // (shortest + self.wait)
        frame_size = self.frame_size or self.canvas_size
        return storage.Layout(self.seq_len, tuple(frame_size) + (1,), self.max_digits * of_slot)


class Lives(NamedTuple):
    """What n slots hold in F frames."""

    corners: np.ndarray  # [F, n, 2] float64 (y, x) of the digit's top-left corner in pixels
    alive: np.ndarray  # [F, n] bool
    birth: np.ndarray  # [F, n] int, frame that the slot's last digit was born in


def create(
    directory,
    digits,
    options=None,
    num_train=10_000,
    num_valid=1_000,
    seed=0,
    num_workers=None,
    overwrite=False,
    progress=False,
):
    """Writes a data set into a folder, wholly or not at all; as `moving_mnist.create`, with this module's `Options`."""
    options = Options() if options is None else options
    counts = {"train": num_train, "valid": num_valid}
    check_options(options, counts, seed)

    def chunk(chosen, split, number, count):
        return make_chunk(chosen, options, seed, split, number, count)

    return digit_sequences.write(
        directory, "MNIST-MOT", digits, options.layout(), chunk, counts, seed, options._asdict(), num_workers,
        overwrite, progress,
    )  # fmt: skip


def make_chunk(digits, options, seed, split, number, count=CHUNK_SEQUENCES):
    """Makes the first `count` sequences of a chunk; as `moving_mnist.make_chunk`.

    Yields:
        `Sequence`s.
    """
    rng = digit_sequences.random_stream(seed, split, number)
    num_slots = CHUNK_SEQUENCES * options.max_digits
    shape = options.history + options.seq_len, num_slots
    first = rng.integers(options.history + 1, size=num_slots)
    borders, chosen = rng.integers(4, size=shape), rng.integers(len(digits.images), size=shape)
    chances, begins, ends = rng.random((3,) + shape)
    lives = live(chances, borders, begins, ends, options)
    window = first + np.arange(options.seq_len)[:, None], np.arange(num_slots)
    lives = Lives(*(field[window] for field in lives))
    chosen = chosen[lives.birth, window[1]]
    for i in range(count):
        slots = slice(i * options.max_digits, (i + 1) * options.max_digits)
        own_lives = Lives(*(field[:, slots] for field in lives))
        sequence = draw_sequence(
            digits, own_lives, chosen[:, slots], options.canvas_size, options.layout().max_objects
        )
        yield reduced(sequence, options.frame_size) if options.frame_size else sequence


def live(chances, borders, begins, ends, options):
    """What slots hold from the first frame of their lives on.

    Args:
        chances: `[F, n]` in [0, 1): a digit is born in a slot that has waited if that is below `birth_prob`.
        borders: `[F, n]` int, where a digit born in that frame comes from: top, bottom, left or right.
        begins: `[F, n]` in [0, 1): where on this border, and
        ends: `[F, n]` in [0, 1): where on the opposite one, as shares of what keeps a digit between the others.
        options: `Options`.

    Returns:
        `Lives`.
    """
    starts, velocities, lifetimes = paths(borders, begins, ends, options)
    num_frames, num_slots = chances.shape
    birth, waited = np.full([num_frames, num_slots], -1), np.zeros(num_slots, int)
    alive = np.zeros([num_frames, num_slots], bool)
    last_birth, slot = np.full(num_slots, -1), np.arange(num_slots)
    for t in range(num_frames):
        going = (last_birth >= 0) & (t - last_birth < lifetimes[last_birth, slot])
        born = ~going & (waited >= options.wait) & (chances[t] < options.birth_prob)
        last_birth = np.where(born, t, last_birth)
        alive[t], birth[t] = going | born, last_birth
        waited = np.where(alive[t], 0, waited + 1)
    age = np.arange(num_frames)[:, None] - birth + 1
    corners = starts[birth, slot] + age[..., None] * velocities[birth, slot]
    return Lives(corners, alive, birth)


def paths(borders, begins, ends, options):
    """Straight ways across the canvas, from just outside of it to just outside.

    Args:
        borders, begins, ends: `[...]`, as of `live`.
        options: `Options`.

    Returns:
        Start `[..., 2]` and velocity `[..., 2]` of the top-left corner (y, x) in pixels and pixels per frame, and
        `[...]` int, after how many frames the digit is gone; the first is a step from the start.
    """
    canvas = np.array(options.canvas_size)
    along, across = _AXIS[borders], 1 - _AXIS[borders]
    forward = _DIRECTION[borders] > 0
    starts, stops = np.zeros(borders.shape + (2,)), np.zeros(borders.shape + (2,))
    for points, share, at_far_end in ((starts, begins, ~forward), (stops, ends, forward)):
        np.put_along_axis(points, along[..., None], np.where(at_far_end, canvas[along], -SIDE)[..., None], -1)
        np.put_along_axis(points, across[..., None], (share * (canvas[across] - SIDE))[..., None], -1)
    lengths = np.hypot(*np.moveaxis(stops - starts, -1, 0))
    velocities = (stops - starts) * (options.speed / lengths)[..., None]
    return starts, velocities, np.ceil(lengths / options.speed).astype(int) - 1


def draw_sequence(digits, lives, chosen, canvas_size, max_objects):
    """Draws and annotates a sequence; pixels of digits are added, and clipped at white.

    A digit is annotated in the frames that show some of its image.

    Args:
        digits: `mnist.Digits`.
        lives: `Lives` of `[T, n]`.
        chosen: `[T, n]` int, which digit each slot's last one is.
        canvas_size: ints (H, W).
        max_objects: int, places for annotations.

    Returns:
        `Sequence`.
    """
    corners = np.rint(lives.corners).astype(np.int64)
    there = lives.alive & np.all((corners > -SIDE) & (corners < np.array(canvas_size)), axis=-1)
    padded = np.zeros((len(there), *(np.array(canvas_size) + 2 * SIDE)), np.uint16)
    boxes = np.zeros((len(there), max_objects, 4), np.float32)
    labels = np.full(max_objects, NO_LABEL, np.int32)
    places = {}  # slot and frame of birth -> place
    for n, t in zip(*np.nonzero(there.T)):
        place = places.setdefault((n, lives.birth[t, n]), len(places))
        y, x = corners[t, n]
        padded[t, y + SIDE : y + 2 * SIDE, x + SIDE : x + 2 * SIDE] += digits.images[chosen[t, n]]
        boxes[t, place] = y, x, SIDE, SIDE
        labels[place] = digits.labels[chosen[t, n]]
    images = np.minimum(padded[:, SIDE:-SIDE, SIDE:-SIDE], 255).astype(np.uint8)[..., None]
    presence = (np.arange(max_objects) < len(places)).astype(np.uint8)
    return Sequence(images, boxes, visible_share(boxes, canvas_size), labels, presence)


def reduced(sequence, frame_size):
    """A sequence in smaller frames, whose pixels are means over the areas they cover; boxes are reduced likewise.

    Args:
        sequence: `Sequence`.
        frame_size: ints (h, w), at most the size of its frames.

    Returns:
        `Sequence`.
    """
    canvas_size = sequence.images.shape[1:3]
    rows, columns = [_area_weights(*sizes) for sizes in zip(canvas_size, frame_size)]
    images = np.rint(rows @ sequence.images[..., 0].astype(np.float32) @ columns.T).astype(np.uint8)
    ratio = np.array(frame_size) / np.array(canvas_size)
    boxes = (sequence.boxes * np.tile(ratio, 2)).astype(np.float32)
    return sequence._replace(images=images[..., None], boxes=boxes)


def _area_weights(before, after):
    """`[after, before]` float32: which share of a pixel of a shorter row each pixel of a longer one covers.

    Pillow's box filter is this only for whole ratios: it takes each pixel wholly or not at all.
    """
    ends = np.arange(after + 1) * (before / after)
    pixels = np.arange(before)
    covered = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    return (np.maximum(covered, 0) * (after / before)).astype(np.float32)


def check_options(options, counts, seed):
    """Raises UserError if the options make no sense."""
    for name, value, least in (
        ("canvas_size", min(options.canvas_size), SIDE),
        ("max_digits", options.max_digits, 1),
        ("seq_len", options.seq_len, 1),
        ("wait", options.wait, 0),
        ("history", options.history, 0),
        ("seed", seed, 0),
        *((f"num_{split}", count, 1) for split, count in counts.items()),
    ):
        if not value >= least:
            raise UserError(f"`{name}={value}` is refused: it must be at least {least}.")
    if options.frame_size:
        (height, width), canvas_size = options.frame_size, options.canvas_size
        if not (1 <= height <= canvas_size[0] and 1 <= width <= canvas_size[1]):
            raise UserError(
                f"`frame_size={height}x{width}` is refused: it must be at most"
                f" `canvas_size={canvas_size[0]}x{canvas_size[1]}`."
            )
    if not 0 < options.birth_prob <= 1:
        raise UserError(f"`birth_prob={options.birth_prob}` is refused: it must be above 0 and at most 1.")
    if not 0 < options.speed <= SIDE:
        raise UserError(
            f"`speed={options.speed}` is refused: it must be above 0 and at most {SIDE}, a digit a frame."
        )
