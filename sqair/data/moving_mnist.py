# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving multi-MNIST: sequences of digits that move, leave the canvas and overlap."""

from typing import NamedTuple, Tuple

import numpy as np
from PIL import Image

from sqair.data import digit_sequences, storage, trajectories
from sqair.data.digit_sequences import CHUNK_SEQUENCES, NO_LABEL, SPLITS, Sequence, visible_share
from sqair.errors import UserError

_PLACE_TRIES, _RESTARTS = 100, 100


class Options(NamedTuple):
    """What the sequences are like."""

    canvas_size: Tuple[int, int] = (50, 50)  # H, W in pixels
    digit_scale: float = 1.0  # resizes the digits: 0.7 makes them 30% smaller
    num_digits: Tuple[int, ...] = (0, 1, 2)  # the numbers of digits that occur, equally often
    seq_len: int = 10  # frames
    motion: trajectories.Motion = trajectories.Motion()

    def layout(self):
        """`storage.Layout` of these sequences."""
        return storage.Layout(self.seq_len, tuple(self.canvas_size) + (1,), max(self.num_digits))


def create(
    directory,
    digits,
    options=None,
    num_train=60_000,
    num_valid=10_000,
    seed=0,
    num_workers=None,
    overwrite=False,
    progress=False,
):
    """Writes a data set into a folder, wholly or not at all.

    Args:
        directory: path of a folder that does not exist or is empty.
        digits: `mnist.DigitSplits`.
        options: `Options`, the defaults if None.
        num_train: number of training sequences.
        num_valid: number of validation sequences.
        seed: int, at least 0.
        num_workers: number of processes that make sequences; None: one for each core.
        overwrite: whether a data set in `directory` is replaced.
        progress: whether to show a progress bar on a terminal.

    Returns:
        Dict, the content of `dataset.json`; `["splits"][split]["statistics"]` describes the sequences.

    Raises:
        UserError: if an option makes no sense, or the folder cannot be written or is in use.
    """
    options = Options() if options is None else options
    counts = {"train": num_train, "valid": num_valid}
    check_options(options, digits, counts, seed)

    def chunk(chosen, split, number, count):
        return make_chunk(chosen, options, seed, split, number, count)

    described = {**options._asdict(), "motion": dict(options.motion._asdict())}
    return digit_sequences.write(
        directory, "moving multi-MNIST", digits, options.layout(), chunk, counts, seed, described, num_workers,
        overwrite, progress,
    )  # fmt: skip


def make_chunk(digits, options, seed, split, number, count=CHUNK_SEQUENCES):
    """Makes the first `count` sequences of a chunk.

    Args:
        digits: `mnist.Digits` to choose from.
        options: `Options`.
        seed: int, at least 0.
        split: one of `SPLITS`.
        number: which chunk of the split.
        count: at most `CHUNK_SEQUENCES`.

    Yields:
        `Sequence`s.
    """
    rng = digit_sequences.random_stream(seed, split, number)
    layout = options.layout()
    start = np.zeros((CHUNK_SEQUENCES, layout.max_objects, 2))
    templates, labels = [], []  # of each sequence
    for i, num_digits in enumerate(rng.choice(np.asarray(options.num_digits), CHUNK_SEQUENCES)):
        chosen = _draw_different(rng, len(digits.images), num_digits)
        labels.append(digits.labels[chosen])
        templates.append([crop_and_resize(digits.images[j], options.digit_scale) for j in chosen])
        shapes = [template.shape for template in templates[i]]
        start[i, :num_digits] = _place(rng, shapes, options.canvas_size)
    positions = trajectories.draw(rng, start, options.canvas_size, layout.seq_len, options.motion)
    corners = np.rint(positions).astype(np.int64)  # [T, n, M, 2]
    for i in range(count):
        yield draw_sequence(templates[i], labels[i], corners[:, i, : len(labels[i])], layout)


def draw_sequence(templates, labels, corners, layout):
    """Draws and annotates a sequence.

    Args:
        templates: list of m images `[h, w]` uint8.
        labels: `[m]` int, what they show.
        corners: `[T, m, 2]` int, their top-left corners (y, x) in pixels, at least 0.
        layout: `storage.Layout`, with m at most `max_objects`.

    Returns:
        `Sequence`.
    """
    images = np.zeros((layout.seq_len,) + layout.image_shape, np.uint8)
    boxes = np.zeros((layout.seq_len, layout.max_objects, 4), np.float32)
    for j, template in enumerate(templates):
        boxes[:, j, :2] = corners[:, j]
        boxes[:, j, 2:] = template.shape
        for frame, (y, x) in zip(images[..., 0], corners[:, j].tolist()):
            draw_digit(frame, template, y, x)
    padding = layout.max_objects - len(templates)
    return Sequence(
        images=images,
        boxes=boxes,
        visible=visible_share(boxes, layout.image_shape[:2]),
        labels=np.append(labels, [NO_LABEL] * padding).astype(np.int32),
        presence=np.array([1] * len(templates) + [0] * padding, np.uint8),
    )


def crop_and_resize(image, scale):
    """The tight box of a digit's non-zero pixels, resized: `[h, w]` uint8 from `[28, 28]` uint8."""
    template = _crop(image)
    if scale == 1.0:
        return template
    height, width = (max(1, int(round(side * scale))) for side in template.shape)
    return _crop(np.asarray(Image.fromarray(template).resize((width, height), Image.BILINEAR)))


def draw_digit(frame, template, y, x):
    """Draws `template [h, w]` with its top-left corner at (y, x) >= 0, in place, by maximum."""
    height, width = template.shape
    window = frame[y : y + height, x : x + width]
    np.maximum(window, template[: window.shape[0], : window.shape[1]], out=window)


def check_options(options, digits, counts, seed):
    """Raises UserError if the options make no sense, alone or with the digits that there are."""
    motion = options.motion
    positive = [("canvas size", side) for side in options.canvas_size]
    positive += [("digit scale", options.digit_scale), ("sequence length", options.seq_len)]
    positive += [(f"number of sequences for {split}", count) for split, count in counts.items()]
    for name, value in positive:
        if not value > 0:
            raise UserError(f"The {name} must be greater than 0, not {value}.")
    not_negative = [("seed", seed), ("number of digits", min(options.num_digits, default=0))]
    not_negative += [(name.replace("_", " "), value) for name, value in motion._asdict().items()]
    for name, value in not_negative:
        if not value >= 0:
            raise UserError(f"The {name} must not be less than 0, not {value}.")
    if not options.num_digits or len(set(options.num_digits)) != len(options.num_digits):
        raise UserError(
            f"The numbers of digits must be different and at least one, not {options.num_digits}."
        )
    fewest = min(len(getattr(digits, split).images) for split in SPLITS)
    if max(options.num_digits) > fewest:
        raise UserError(f"{max(options.num_digits)} different digits cannot be drawn from {fewest}.")


def _crop(image):
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    if not len(rows):  # a digit that was made too small to see
        return image
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _draw_different(rng, num_choices, count):
    while True:
        indices = rng.integers(num_choices, size=count)
        if len(set(indices.tolist())) == count:
            return indices


def _place(rng, shapes, canvas_size):
    """Uniform top-left corners `[len(shapes), 2]` of boxes inside the canvas that do not overlap."""
    for height, width in shapes:
        if height > canvas_size[0] or width > canvas_size[1]:
            raise UserError(
                f"A digit of {height}x{width} pixels does not fit "
                f"a canvas of {canvas_size[0]}x{canvas_size[1]}; "
                "choose a larger canvas or a smaller digit scale."
            )
    for _ in range(_RESTARTS):
        corners = []
        for height, width in shapes:
            for _ in range(_PLACE_TRIES):
                y, x = (rng.random(2) * (canvas_size[0] - height + 1, canvas_size[1] - width + 1)).astype(int)
                if not any(
                    y < y2 + h2 and y2 < y + height and x < x2 + w2 and x2 < x + width
                    for (y2, x2), (h2, w2) in zip(corners, shapes)
                ):
                    corners.append((y, x))
                    break
            else:
                break
        if len(corners) == len(shapes):
            return np.array(corners).reshape(-1, 2)
    raise UserError(
        f"{len(shapes)} digits do not fit a canvas of {canvas_size[0]}x{canvas_size[1]} side by side; "
        "choose a larger canvas, fewer digits, or a smaller digit scale."
    )
