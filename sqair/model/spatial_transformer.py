# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing glimpses, and the maps between location logits, coordinates and pixel boxes.

`where` holds logits `(sx, sy, tx, ty)`. Coordinates are scales `sigmoid` in (0, 1) and shifts `tanh` in (-1, 1) on
the image's [-1, 1]^2, whose corners are the centres of the corner pixels. Without shear or rotation the warp is
separable (Jaderberg et al. 2015, arXiv:1506.02025): each axis has a small matrix of bilinear weights.
"""

import numpy as np

from sqair.engine.tensors import straight_through_clip
from sqair.graph_mode import tf

MIN_COORDINATE_SCALE = 1e-4
_HUGE = 1e30


def coordinates(where):
    """Scales and shifts of location logits.

    Args:
        where: `[..., 4]` float32 logits (sx, sy, tx, ty).

    Returns:
        Tuple `(scale, shift)` of `[..., 2]`, ordered x, y; scale in [1e-4, 1), bounded with a straight-through
        gradient, shift in (-1, 1).
    """
    raw_scale, _, shift = _coordinates(where)
    return straight_through_clip(raw_scale, MIN_COORDINATE_SCALE, 1.0), shift


def _coordinates(where):
    """For gradients written by hand: scale before its clipping, scale and shift, `[..., 2]` each."""
    scale_logit, shift_logit = tf.split(where, 2, axis=-1)
    raw_scale = tf.sigmoid(scale_logit)
    return raw_scale, tf.maximum(raw_scale, MIN_COORDINATE_SCALE), tf.tanh(shift_logit)


def _to_logits(to_scale, to_shift, raw_scale, shift):
    """Gradient of the logits `[..., 4]` from those of scale and shift."""
    return tf.concat([to_scale * raw_scale * (1.0 - raw_scale), to_shift * (1.0 - shift * shift)], axis=-1)


def pad_images(images):
    """Adds the border of zeros that `read_glimpses` expects: `[n, H, W, C]` to `[n, P, Q, C]`.

    One pixel before, and after so many that P - 1 and Q - 1 are powers of two: then the division of pixel
    coordinates by them, which the resampling needs, is exact.
    """
    height, width, channels = images.shape.as_list()[1:]
    below, right = [2 ** int(np.ceil(np.log2(size + 1))) - size for size in (height, width)]
    flat = tf.reshape(images, [-1, height, width * channels])
    padded = tf.pad(flat, [[0, 0], [1, below], [channels, right * channels]])  # quicker with fewer dimensions
    return tf.reshape(padded, [-1, height + 1 + below, width + 1 + right, channels])


def read_glimpses(padded_images, image_size, image_index, where, glimpse_size):
    """Samples glimpses bilinearly; everything beyond the image is zero.

    Args:
        padded_images: `[n, P, Q, C]` float32, from `pad_images`.
        image_size: ints (H, W), without the border.
        image_index: `[m]` int32, the image each glimpse is read from.
        where: `[m, 4]` float32 logits.
        glimpse_size: int g.

    Returns:
        `[m, g, g, C]` float32.
    """
    boxes = _padded_boxes(where, image_size, padded_images.shape.as_list()[1:3])
    return tf.image.crop_and_resize(
        padded_images, boxes, box_indices=image_index, crop_size=[glimpse_size] * 2
    )


def _padded_boxes(where, image_size, padded_size):
    """Corners of glimpses `[m, 4]` (y1, x1, y2, x2) in units of the padded image's side less one pixel."""
    unit = 1.0 / (np.array(padded_size, np.float32) - 1.0)
    half = unit * (np.array(image_size, np.float32) - 1.0) / 2.0

    @tf.custom_gradient
    def boxes_of(where):
        raw_scale, scale, shift = _coordinates(where)
        corners = tf.concat([shift - scale, shift + scale], axis=-1)  # x1, y1, x2, y2 in [-1, 1]
        boxes = (tf.gather(corners, [1, 0, 3, 2], axis=-1) + 1.0) * np.tile(half, 2) + np.tile(unit, 2)

        def gradient(to_boxes):
            first, last = tf.split(
                tf.gather(to_boxes, [1, 0, 3, 2], axis=-1) * np.tile(half[::-1], 2), 2, axis=-1
            )
            return _to_logits(last - first, last + first, raw_scale, shift)

        # A box that is NaN would make the kernel read beyond its memory. No other reaches 2.
        return tf.where_v2(boxes < 2.0, boxes, 2.0 * tf.ones_like(boxes)), gradient

    return boxes_of(where)


def glimpse_pixels(where, image_size, glimpse_size):
    """Where the canvas's rows and columns lie in each glimpse: the inverse warp.

    Args:
        where: `[..., 4]` float32 logits.
        image_size: ints (H, W).
        glimpse_size: int g.

    Returns:
        Tuple `(rows [..., H], columns [..., W])` float32, in pixels of the glimpse: 0 is the centre of the first
        and g - 1 that of the last.
    """
    middle = 0.5 * (glimpse_size - 1.0)
    canvas = [np.linspace(-1.0, 1.0, length, dtype=np.float32) for length in image_size]

    @tf.custom_gradient
    def pixels_of(where):
        raw_scale, scale, shift = _coordinates(where)
        factors, shifts = [tf.split(x, 2, axis=-1)[::-1] for x in (middle / scale, shift)]  # y, x
        pixels = [(c - s) * f + middle for c, s, f in zip(canvas, shifts, factors)]

        def gradient(*to_pixels):
            def total(tensors):
                return tf.concat([tf.reduce_sum(x, -1, keepdims=True) for x in tensors[::-1]], -1)  # x, y

            to_scale = total([to * (middle - p) for to, p in zip(to_pixels, pixels)]) / scale
            to_shift = total(to_pixels) * -middle / scale
            return _to_logits(to_scale, to_shift, raw_scale, shift)

        return tuple(pixels), gradient

    return pixels_of(where)


def bilinear_weights(pixels, size):
    """`[...]` pixel coordinates to `[..., size]`: the weight `max(0, 1 - |u - j|)` of pixel j at coordinate u."""

    @tf.custom_gradient
    def weigh(pixels):
        offsets = tf.expand_dims(pixels, -1) - np.arange(size, dtype=np.float32)
        weights = tf.nn.relu(1.0 - tf.abs(offsets))

        def gradient(to_weights):
            # The slope is -sign(offset) where the weight is not 0. Clipping is several times faster than comparing.
            slopes = tf.maximum(tf.minimum(weights * offsets * -_HUGE, 1.0), -1.0)
            return tf.reduce_sum(to_weights * slopes, axis=-1)

        return weights, gradient

    return weigh(pixels)


def bilinear_coverage(pixels, size):
    """The sum of `bilinear_weights` over the last axis: 1 inside a glimpse, 0 outside, linear at its border."""

    @tf.custom_gradient
    def cover(pixels):
        from_middle = pixels - 0.5 * (size - 1.0)
        coverage = tf.maximum(tf.minimum(0.5 * (size + 1.0) - tf.abs(from_middle), 1.0), 0.0)

        def gradient(to_coverage):
            # The slope is -sign(from_middle) at the border, 0 elsewhere.
            at_border = coverage * (1.0 - coverage)
            return to_coverage * tf.maximum(tf.minimum(at_border * from_middle * -_HUGE, 1.0), -1.0)

        return coverage, gradient

    return cover(pixels)


def boxes_from_logits(where, image_size):
    """Pixel boxes of location logits.

    Args:
        where: `[..., 4]` logits (sx, sy, tx, ty), a tensor.
        image_size: ints (H, W).

    Returns:
        `[..., 4]` float32 (y, x, height, width) in pixels.
    """
    scale, shift = coordinates(where)
    scale, shift = scale[..., ::-1], shift[..., ::-1]
    length = np.array(image_size, np.float32)
    start = (length - 1.0) * (shift - scale + 1.0) / 2.0
    return tf.concat([start, (length + 1.0) * scale], axis=-1)


def logits_from_boxes(boxes, image_size, margin=1e-6):
    """Location logits of pixel boxes: the inverse of `boxes_from_logits`.

    Args:
        boxes: `[..., 4]` float32 (y, x, height, width) in pixels.
        image_size: ints (H, W).
        margin: float; scales are clipped to [margin, 1 - margin], shifts to [-1 + margin, 1 - margin].

    Returns:
        `[..., 4]` float32 logits (sx, sy, tx, ty).
    """
    start, size = tf.split(boxes, 2, axis=-1)
    length = np.array(image_size, np.float32)
    scale = size / (length + 1.0)
    shift = 2.0 * start / (length - 1.0) - 1.0 + scale
    scale = tf.clip_by_value(scale, margin, 1.0 - margin)
    shift = tf.clip_by_value(shift, -1.0 + margin, 1.0 - margin)
    logits = tf.concat([tf.math.log(scale) - tf.math.log1p(-scale), tf.atanh(shift)], axis=-1)
    return tf.gather(logits, [1, 0, 3, 2], axis=-1)
