# SPDX-License-Identifier: GPL-3.0-or-later
"""Boxes of what objects draw, in NumPy: a glimpse's own box also holds the dark ground around the object."""

import numpy as np

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


def is_drawn(boxes, glimpses, image_shape, threshold=INK_THRESHOLD):
    """Whether an object draws more than the threshold anywhere in the image: `[...]` bool; arguments as above."""

    def in_image(boxes, glimpses):
        return np.any(render(boxes, glimpses, image_shape) > threshold, axis=(1, 2, 3))

    return _in_blocks(in_image, np.asarray(boxes, np.float64), glimpses).reshape(np.shape(boxes)[:-1])


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
    tight = boxes.copy()
    drawn = np.any(ink, axis=(1, 2))
    for axis, others in enumerate((2, 1)):
        inked = np.any(ink, axis=others)
        before, after = np.argmax(inked, -1), np.argmax(inked[:, ::-1], -1)
        tight[drawn, axis] = (first_pixel[:, axis] + before)[drawn]
        tight[drawn, 2 + axis] = (size[axis] - before - after)[drawn]
    return tight
