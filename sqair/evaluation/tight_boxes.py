# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes of what objects draw, in NumPy: a glimpse's own box also holds the dark ground around the object."""

import numpy as np

from sqair.evaluation.metrics import visible_part
from sqair.evaluation.rendering import glimpse_span, render

INK_THRESHOLD = 0.2  # of a pixel's largest possible value, 1

_OBJECTS_AT_ONCE = 1024  # keeps what is rendered in a few MB


def tight_boxes(boxes, glimpses, image_shape, threshold=INK_THRESHOLD):
    """The box around the canvas's pixels where an object draws more than the threshold.

    The object is rendered as by the decoder, on a canvas without borders: a box may reach beyond the image. Its sides
    are whole pixels, as those of annotated boxes.

    Args:
        boxes: `[..., 4]` (y, x, h, w) of the glimpses, in pixels.
        glimpses: `[..., g, g, C]`, where 1 is the largest value of a pixel; the brightest channel counts.
        image_shape: `(H, W)` or `(H, W, C)`.
        threshold: float.

    Returns:
        `[..., 4]` float64 in pixels; the box of the glimpse where nothing exceeds the threshold.

    Raises:
        ValueError: if the glimpses' shape does not fit the boxes', or boxes are not finite.
    """
    boxes = np.asarray(boxes, np.float64)
    if not np.all(np.isfinite(boxes)):
        raise ValueError("boxes holds a value that is not finite.")
    tight = _in_blocks(lambda *some: _tighten(*some, image_shape, threshold), boxes, glimpses)
    return tight.reshape(boxes.shape)


def seen_boxes(boxes, glimpses, image_shape, threshold=INK_THRESHOLD):
    """The box around the image's pixels where an object draws more than the threshold: `tight_boxes` of what is seen.

    Returns:
        `[..., 4]` float64 in pixels; all zero where nothing is drawn inside the image.
    """

    def inside(boxes, glimpses):
        return _around(np.max(render(boxes, glimpses, image_shape), axis=-1) > threshold)

    boxes = np.asarray(boxes, np.float64)
    return _in_blocks(inside, boxes, glimpses).reshape(boxes.shape)


def seen_annotations(true_boxes, images, threshold=INK_THRESHOLD):
    """The box around the image's pixels brighter than the threshold in each annotated box.

    An annotated box tells how far an object extends beyond the image, which nobody sees; this is the box of what can be
    seen, comparable with `seen_boxes`. Where objects overlap, it may also hold some of another one, up to the border of
    the annotated box.

    Args:
        true_boxes: `[T, B, M, 4]` in pixels.
        images: `[T, B, H, W, C]`, on a black ground; the brightest channel counts.
        threshold: float.

    Returns:
        `[T, B, M, 4]` float64; the part of the annotated box inside the image where nothing exceeds the threshold.
    """
    images, true_boxes = np.asarray(images), np.asarray(true_boxes)
    image_shape = images.shape[2:4]
    rows, columns = [
        pixels_within(true_boxes[..., i], true_boxes[..., 2 + i], image_shape[i]) for i in (0, 1)
    ]
    bright = np.max(images, axis=-1)[:, :, None] > threshold
    found = _around(bright & rows[..., :, None] & columns[..., None, :])
    return np.where(found[..., 2:3] > 0, found, visible_part(true_boxes, image_shape))


def pixels_within(start, size, length):
    """Whether the centres of pixels lie in `[start, start + size)`: `[..., length]` bool."""
    centres = np.arange(length) + 0.5
    return (start[..., None] <= centres) & (centres < (start + size)[..., None])


def _in_blocks(function, boxes, glimpses):
    """A function of `[n, 4]` boxes and `[n, g, g, C]` glimpses, applied to all of them block by block."""
    boxes = boxes.reshape(-1, boxes.shape[-1])
    glimpses = np.asarray(glimpses).reshape((-1,) + np.shape(glimpses)[-3:])
    starts = range(0, max(len(boxes), 1), _OBJECTS_AT_ONCE)
    blocks = [slice(start, start + _OBJECTS_AT_ONCE) for start in starts]
    return np.concatenate([function(boxes[some], glimpses[some]) for some in blocks])


def _tighten(boxes, glimpses, image_shape, threshold):
    """`tight_boxes` of `[n, 4]` boxes and `[n, g, g, C]` glimpses."""
    span = glimpse_span(boxes, image_shape)
    step = span / max(glimpses.shape[-2] - 1, 1)  # an edge pixel fades out over one more pixel of the glimpse
    first_pixel = np.floor(boxes[:, :2] - step)
    size = np.ceil(np.max(span + 2.0 * step, axis=0, initial=0.0)).astype(int) + 2
    ink = np.max(render(boxes, glimpses, image_shape, first_pixel, size), axis=-1) > threshold
    found = _around(ink)
    found[:, :2] += first_pixel
    return np.where(found[:, 2:3] > 0, found, boxes)


def _around(ink):
    """The box around the pixels that are true: `[..., h, w]` bool to `[..., 4]` float64, all zero if none is."""
    box = np.zeros(ink.shape[:-2] + (4,))
    for axis, others in enumerate((-1, -2)):
        inked = np.any(ink, axis=others)
        box[..., axis] = np.argmax(inked, axis=-1)
        last = inked.shape[-1] - np.argmax(inked[..., ::-1], axis=-1)
        box[..., 2 + axis] = np.where(np.any(inked, axis=-1), last - box[..., axis], 0)
    return box
