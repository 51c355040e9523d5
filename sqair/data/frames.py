# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a film's frames: cropped, resized, in grey or colour, inverted, freed of their background."""

from typing import NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image

from sqair.errors import UserError

BACKGROUNDS = ("difference", "cutout", "none")
_BACKGROUND_FRAMES = 101  # of a long film, at least
MAX_SIDE = 512  # pixels; a fully connected encoder has a weight for each pixel and unit


class Framing(NamedTuple):
    """How frames are prepared.

    SQAIR draws its objects over black: what its background has learned shows inside of glimpses alone. Hence
    `background`: "difference" puts the absolute difference from the background in place of the frame, so that dark
    objects become as bright as light ones; "cutout" keeps the colours of what differs and blackens the rest; "none" is
    for films whose objects move over black.
    """

    crop: Optional[Tuple[int, int, int, int]] = None  # y, x, h, w in pixels of the film; None: all of it
    size: Tuple[int, ...] = (50,)  # (H, W) in pixels, or the shorter side alone, which keeps the proportions
    colour: bool = False  # three channels instead of one
    invert: bool = False  # light becomes dark
    background: str = "difference"
    min_difference: float = 0.1  # from the background, in [0, 1]; what differs less is black
    gain: float = 1.0  # multiplies brightness in the end


def check(framing):
    """Raises UserError if a setting makes no sense."""
    if len(framing.size) not in (1, 2) or not all(0 < side <= MAX_SIDE for side in framing.size):
        raise UserError(f"The `size` of frames must be 1 to {MAX_SIDE} pixels, not {_sides(framing.size)}.")
    if framing.background not in BACKGROUNDS:
        raise UserError(f"`background={framing.background}` is not known: use {', '.join(BACKGROUNDS)}.")
    if not 0 <= framing.min_difference < 1:
        raise UserError(
            f"`min_difference={framing.min_difference}` is refused: it must be at least 0, below 1."
        )
    if not 0 < framing.gain < np.inf:
        raise UserError(f"`gain={framing.gain}` is refused: it must be greater than 0.")
    if framing.crop is not None and (min(framing.crop) < 0 or min(framing.crop[2:]) < 1):
        raise UserError(f"`crop={','.join(map(str, framing.crop))}` is refused: it must hold a pixel.")


class View(NamedTuple):
    """The part of a film's frames that is used, and its size in the data set."""

    crop: Tuple[int, int, int, int]  # y, x, h, w in pixels of the film
    size: Tuple[int, int]  # H, W

    def boxes(self, boxes):
        """Boxes `[..., 4]` (y, x, h, w) in pixels of the film as boxes in pixels of the data set, float32."""
        y, x, height, width = self.crop
        scale = np.tile([self.size[0] / height, self.size[1] / width], 2)
        return ((np.asarray(boxes, np.float64) - [y, x, 0, 0]) * scale).astype(np.float32)

    def film_boxes(self, boxes):
        """The way back: boxes in pixels of the data set as boxes in pixels of the film, float64."""
        y, x, height, width = self.crop
        scale = np.tile([height / self.size[0], width / self.size[1]], 2)
        return np.asarray(boxes, np.float64) * scale + [y, x, 0, 0]


def view_of(framing, frame_shape, name):
    """`View` of a film of frames `[h, w, ...]`.

    Raises:
        UserError: if the crop reaches beyond the frames; `name` is the film's.
    """
    height, width = frame_shape[:2]
    crop = framing.crop or (0, 0, height, width)
    if crop[0] + crop[2] > height or crop[1] + crop[3] > width:
        raise UserError(
            f"`crop={','.join(map(str, crop))}` (y, x, height, width) reaches beyond the {height}x{width} pixels of"
            f" {name!r}."
        )
    size = framing.size
    if len(size) == 1:
        scale = size[0] / min(crop[2:])
        size = tuple(max(int(round(side * scale)), 1) for side in crop[2:])
    if max(size) > MAX_SIDE:
        raise UserError(
            f"Frames of {name!r} become {_sides(size)} pixels; give a `size` of at most {MAX_SIDE}."
        )
    return View(crop, size)


def prepare(frame, framing, view):
    """Crops and resizes a frame `[h, w, 1 or 3]`, averaging what shrinks: `[H, W, C]` uint8, C = 3 in colour, or 1."""
    y, x, height, width = view.crop
    image = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    image = image.crop((x, y, x + width, y + height)).convert("RGB" if framing.colour else "L")
    frame = np.asarray(image.resize(view.size[::-1], Image.BILINEAR))
    frame = frame.reshape(view.size + (-1,))
    return 255 - frame if framing.invert else frame


def background_of(frames):
    """Median over time of the prepared frames of a film, of 101 to 201 evenly spaced ones where it is long.

    Args:
        frames: iterable of `[H, W, C]` uint8, at least one.

    Returns:
        `[H, W, C]` float32.
    """
    kept, step = [], 1
    for t, frame in enumerate(frames):
        if t % step == 0:
            kept.append(frame)
        if len(kept) > 2 * _BACKGROUND_FRAMES - 1:
            kept, step = kept[::2], 2 * step
    return np.median(kept, axis=0).astype(np.float32)


def remove_background(frames, background, framing):
    """Blackens what does not differ from a film's background.

    Args:
        frames: `[T, H, W, C]` uint8.
        background: `[H, W, C]`, the median over time.
        framing: `Framing`; `min_difference` is compared with the largest difference of a pixel's channels.

    Returns:
        `[T, H, W, C]` uint8.
    """
    if framing.background != "none":
        difference = np.abs(frames.astype(np.float32) - background)
        stands_out = difference.max(-1, keepdims=True) >= 255 * framing.min_difference
        frames = np.where(stands_out, frames if framing.background == "cutout" else difference, 0)
    if framing.gain != 1:
        frames = frames * np.float32(framing.gain)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _sides(size):
    return "x".join(map(str, size))
