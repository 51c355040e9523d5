# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects draw, in NumPy: glimpses written by the sampling geometry of `sqair.model.spatial_transformer`.

Boxes are `(y, x, h, w)` in pixels as of `boxes_from_logits`: the first and the last pixel of a glimpse are centred on
the canvas's pixels `y` and `y + h (H - 1) / (H + 1)`, which need not be whole, and likewise in x.
"""

import numpy as np

_LEAST_SPAN = 1e-9  # pixels; a box without size draws nothing, or a single pixel


def glimpse_span(boxes, image_shape):
    """Distance in pixels between the centres of a glimpse's first and last pixel: `[..., 2]` (y, x)."""
    length = np.asarray(image_shape[:2], np.float64)
    return np.asarray(boxes, np.float64)[..., 2:] * (length - 1.0) / (length + 1.0)


def render(boxes, glimpses, image_shape, first_pixel=(0, 0), size=None):
    """What each object draws in a window of a canvas without borders, bilinear as the model's decoder.

    Args:
        boxes: `[..., 4]` in pixels.
        glimpses: `[..., g, g, C]`.
        image_shape: `(H, W)` or `(H, W, C)`, the size of the image that the boxes belong to.
        first_pixel: `[..., 2]` or `(y, x)`, whole pixels, may be negative: where the window begins.
        size: ints `(h, w)` of the window, the image's by default.

    Returns:
        `[..., h, w, C]` float64.

    Raises:
        ValueError: if the glimpses' shape does not fit the boxes'.
    """
    boxes, glimpses = np.asarray(boxes, np.float64), np.asarray(glimpses, np.float64)
    side = glimpses.shape[-2] if glimpses.ndim > 2 else 0
    if boxes.shape[-1:] != (4,) or glimpses.shape[:-1] != boxes.shape[:-1] + (side, side) or not side:
        text = "glimpses has shape {} and boxes {}, but [..., g, g, C] and [..., 4] are needed."
        raise ValueError(text.format(glimpses.shape, boxes.shape))
    offset = np.asarray(first_pixel, np.float64) - boxes[..., :2]
    span = np.maximum(glimpse_span(boxes, image_shape), _LEAST_SPAN)
    by_row, by_column = [
        _bilinear_weights((offset[..., axis, None] + np.arange(length)) / span[..., axis, None], side)
        for axis, length in enumerate(image_shape[:2] if size is None else size)
    ]
    channels_first = np.moveaxis(glimpses, -1, -3)
    drawn = by_row[..., None, :, :] @ channels_first @ np.swapaxes(by_column, -1, -2)[..., None, :, :]
    return np.moveaxis(drawn, -3, -1)


def _bilinear_weights(position, side):
    """`[...]` positions, 0 in the centre of a glimpse's first pixel and 1 of its last, to `[..., side]` weights."""
    pixels = position[..., None] * (side - 1.0)
    return np.maximum(1.0 - np.abs(pixels - np.arange(side)), 0.0)
