# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sequences of a data set suggest for the model's settings, in NumPy and SciPy."""

from typing import Any, NamedTuple, Optional

import numpy as np
from scipy import ndimage

from sqair.evaluation.metrics import visible_part

FOREGROUND = 0.3  # of the objects' contrast, from which on a pixel is of an object
MIN_AREA = 4  # pixels of a connected piece of foreground; less is a speck
WHOLE = 0.99  # visible share of a box from which on its size counts

_BLACK = 0.05  # brightness, in [0, 1], up to which the ground is as good as black
_LEAST_CONTRAST = 0.05
_CONTRAST_TO_NOISE = 3.0  # below which objects cannot be told from noise
_MOST_FOREGROUND = 0.4  # share of pixels; more is no object
_STD_PER_DEVIATION = 1.4826  # standard deviation of a normal distribution by its median absolute deviation
_STD_PER_CONTRAST = 0.4  # the digits' output_std, 0.3, by the mean contrast of their pixels, 0.75
_STD_PER_NOISE = 2.0
# Moving multi-MNIST is learnt with this output_std, and a scale_prior so much lower than the digits' scale logits.
_DIGITS_STD, _DIGITS_LIGHT, _TIGHTER = 0.3, 75.0, 1.3
# Share of the digits' light, below which discovery gives up unless it starts with this bias.
_WEAK, _WEAK_BIAS = 0.85, 5


class Measures(NamedTuple):
    """What sequences are like; brightness in [0, 1]."""

    ground: float  # mean of the median over all frames
    noise: float  # standard deviation around that median; objects are too small a part to count
    contrast: float  # mean difference of objects from it
    foreground: float  # share of pixels that belong to objects
    light: float  # sum of an object's differences from the ground over its pixels; over channels, the root of squares
    annotated: bool  # whether what follows is of annotated objects, or of connected pieces of foreground
    sizes: Any  # [n, 2] float64 height and width in pixels, of objects wholly on the canvas
    counts: Any  # [T * B] int, objects in each frame


class Suggestion(NamedTuple):
    """A flag with its value, None where it cannot be told, and why."""

    flag: str
    value: Optional[str]
    why: str


def measure(images, boxes, presence):
    """Measures sequences.

    Args:
        images: `[T, B, H, W, C]` in [0, 1].
        boxes: `[T, B, M, 4]` (y, x, h, w) in pixels; with M = 0 nothing is annotated.
        presence: `[T, B, M]`, 1 or 0.

    Returns:
        `Measures`.
    """
    images = np.asarray(images, np.float32).reshape((-1,) + np.shape(images)[2:])
    median = np.median(images, axis=0)
    difference = np.abs(images - median)
    by_channel, difference = difference, difference.max(-1)  # [n, H, W, C], [n, H, W]
    strongest = np.percentile(difference.max((1, 2)), 90)  # in a frame that shows an object
    foreground = difference > FOREGROUND * strongest if strongest > 0 else np.zeros(difference.shape, bool)
    annotated = boxes.shape[2] > 0
    sizes, counts = _annotated(boxes, presence, images.shape[1:3]) if annotated else _connected(foreground)
    return Measures(
        ground=float(median.mean()),
        noise=float(_STD_PER_DEVIATION * np.median(difference)),
        contrast=float(difference[foreground].mean()) if foreground.any() else 0.0,
        foreground=float(foreground.mean()),
        light=float(np.linalg.norm(by_channel[foreground].sum(0)) / max(counts.sum(), 1)),
        annotated=annotated,
        sizes=sizes,
        counts=counts,
    )


def suggest(measures, image_size):
    """What `Measures` of images of size (H, W) suggest: list of `Suggestion`s of the model's flags."""
    trouble = _trouble(measures)
    kind = "annotated objects" if measures.annotated else "connected pieces of foreground"
    no_objects = f"there are no {kind} wholly in a frame"
    if trouble and not measures.annotated:
        no_objects = trouble
    flags = ("scale_prior", "n_steps_per_image")
    if len(measures.sizes) == 0 or (trouble and not measures.annotated):
        found = [Suggestion(flag, None, no_objects) for flag in flags]
    else:
        found = [_scale_prior(measures.sizes, image_size, kind), _slots(measures.counts, kind)]
    if trouble:
        return [*found, Suggestion("output_std", None, trouble)]
    return [*found, _output_std(measures), *_discovery(measures)]


def remarks(measures):
    """What will hinder the model: list of sentences."""
    found = []
    if measures.ground > _BLACK:
        found.append(
            f"The ground has a mean brightness of {measures.ground:.2f}, but the model draws its background inside of"
            " glimpses alone and black elsewhere: it will cover the ground with objects. Import with"
            " --background=difference, or --invert for dark objects on white."
        )
    if not measures.annotated:
        found.append(
            "Nothing is annotated: num_step_acc then compares with no object and is meaningless; judge by the figures."
        )
    return found


def scale_logits(sizes, image_size):
    """Scale logits of objects of `[n, 2]` (h, w) pixels on images of (H, W): `[n, 2]`, also (h, w).

    The inverse of `sqair.model.spatial_transformer.boxes_from_logits`, where `size = (side + 1) * sigmoid(logit)`.
    """
    scale = np.clip(np.asarray(sizes, np.float64) / (np.array(image_size) + 1.0), 1e-3, 1 - 1e-3)
    return np.log(scale) - np.log1p(-scale)


def _annotated(boxes, presence, image_size):
    """Sizes of annotated objects, and how many can be seen in each frame."""
    seen = visible_part(boxes, image_size)
    areas, seen_areas = [np.prod(np.asarray(x, np.float64)[..., 2:], -1) for x in (boxes, seen)]
    there = (np.asarray(presence) > 0.5) & (seen_areas > 0)
    whole = there & (seen_areas >= WHOLE * areas)
    return np.asarray(boxes, np.float64)[whole][:, 2:], there.sum(-1).ravel()


def _connected(foreground):
    """Sizes of connected pieces of foreground `[n, H, W]` that touch no border, and how many each frame has."""
    height, width = foreground.shape[1:]
    sizes, counts = [], []
    for frame in foreground:
        labels, number = ndimage.label(frame, np.ones((3, 3)))
        areas = np.bincount(labels.ravel(), minlength=number + 1)[1:]
        pieces = [piece for piece, area in zip(ndimage.find_objects(labels), areas) if area >= MIN_AREA]
        counts.append(len(pieces))
        for rows, columns in pieces:
            if rows.start > 0 and columns.start > 0 and rows.stop < height and columns.stop < width:
                sizes.append((rows.stop - rows.start, columns.stop - columns.start))
    return np.array(sizes, np.float64).reshape(-1, 2), np.array(counts)


def _trouble(measures):
    """Why objects cannot be told from the ground; None if they can."""
    if measures.contrast < _LEAST_CONTRAST:
        return f"nothing stands out: what changes differs from the ground by {measures.contrast:.2f} of 1"
    if measures.foreground > _MOST_FOREGROUND:
        return (
            f"{measures.foreground:.0%} of the pixels change, as with a moving camera or a background left in"
        )
    if measures.contrast < _CONTRAST_TO_NOISE * measures.noise:
        return f"noise of {measures.noise:.2f} hides objects that differ from the ground by {measures.contrast:.2f}"
    return None


def _scale_prior(sizes, image_size, kind):
    y, x = scale_logits(sizes, image_size).mean(0) - _TIGHTER
    height, width = sizes.mean(0)
    return Suggestion(
        "scale_prior",
        f"{x:.1f},{y:.1f}",
        f"(x, y) mean logit of size / (side + 1) of {len(sizes)} {kind}, {height:.0f}x{width:.0f} pixels on average,"
        f" less {_TIGHTER}, as for digits",
    )


def _slots(counts, kind):
    share = np.mean(counts == counts.max())
    doubt = "" if share >= 0.01 else ", though seldom: fewer may do"
    return Suggestion(
        "n_steps_per_image",
        str(max(counts.max(), 1)),
        f"most {kind} in a frame, in {share:.1%} of them{doubt}",
    )


def _output_std(measures):
    as_digits = _DIGITS_STD * measures.light / _DIGITS_LIGHT
    std = max(min(_STD_PER_CONTRAST * measures.contrast, as_digits), _STD_PER_NOISE * measures.noise)
    return Suggestion(
        "output_std",
        f"{std:.2g}",
        f"{_DIGITS_STD} x {measures.light:.0f} / {_DIGITS_LIGHT:.0f}, the light of an object and of a digit,"
        f" so that a first blur over it is worth as much; at most {_STD_PER_CONTRAST:g} of the contrast of"
        f" {measures.contrast:.2f}, and at least twice the ground's noise of {measures.noise:.3f}",
    )


def _discovery(measures):
    if measures.light < _WEAK * _DIGITS_LIGHT:
        yield Suggestion(
            "disc_step_bias",
            str(_WEAK_BIAS),
            "objects are smaller or dimmer than digits: otherwise discovery may give up before one is drawn well",
        )
