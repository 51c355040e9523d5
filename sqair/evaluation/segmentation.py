# SPDX-License-Identifier: GPL-3.0-or-later
"""Which object a pixel belongs to, by the model and by the annotation, and how well the two agree, in NumPy.

Arrays are time-major: `T` frames, `B` sequences, `N` slots, `M` annotated objects, `H x W x C` images in [0, 1].
Boxes are `(y, x, h, w)` in pixels. A segmentation is `[T, B, H, W]` int64: the object of each pixel, -1 for none.
"""

import numpy as np

from sqair.evaluation.rendering import render
from sqair.evaluation.tight_boxes import INK_THRESHOLD, pixels_within


def drawn_segments(boxes, presence, object_ids, glimpses, image_shape):
    """The segmentation by what objects draw: a pixel is of the one that draws it brightest.

    The canvas is a sum over objects, and the largest summand takes the pixel; where none is above 0, it has no object.

    Args:
        boxes: `[T, B, N, 4]`.
        presence: `[T, B, N]`.
        object_ids: `[T, B, N]`, whole numbers, at least 0 where present.
        glimpses: `[T, B, N, g, g, C]`; the brightest channel counts.
        image_shape: `(H, W)` or `(H, W, C)`.

    Returns:
        `[T, B, H, W]` int64 object ids.

    Raises:
        ValueError: if shapes disagree.
    """
    present, object_ids = np.asarray(presence) > 0.5, np.asarray(object_ids).astype(np.int64)
    if present.ndim != 3 or object_ids.shape != present.shape or np.shape(boxes) != present.shape + (4,):
        text = "boxes has shape {}, presence {} and object_ids {}, but [T, B, N, 4] and twice [T, B, N] are needed."
        raise ValueError(text.format(np.shape(boxes), present.shape, object_ids.shape))
    segments = np.full(present.shape[:2] + tuple(image_shape[:2]), -1, np.int64)
    for t in range(len(present)):
        brightest = np.zeros(segments.shape[1:])
        for n in range(present.shape[2]):
            drawn = np.max(render(boxes[t, :, n], glimpses[t, :, n], image_shape), axis=-1)
            takes = (drawn > brightest) & present[t, :, n, None, None]
            segments[t] = np.where(takes, object_ids[t, :, n, None, None], segments[t])
            brightest = np.where(takes, drawn, brightest)
    return segments


def annotated_segments(images, true_boxes, true_presence, threshold=INK_THRESHOLD):
    """The segmentation by annotated boxes: ink belongs to the object in whose box it lies.

    Ink is what is brighter than the threshold, on a black ground. Where several boxes overlap, boxes do not tell whose
    it is, so that these pixels have no object, and neither have those without ink.

    Args:
        images: `[T, B, H, W, C]`; the brightest channel counts.
        true_boxes: `[T, B, M, 4]`.
        true_presence: `[T, B, M]`.
        threshold: float.

    Returns:
        `[T, B, H, W]` int64 indices of objects.

    Raises:
        ValueError: if shapes disagree.
    """
    images, boxes, present = np.asarray(images), np.asarray(true_boxes), np.asarray(true_presence) > 0.5
    frames = images.shape[:2]
    if images.ndim != 5 or present.shape[:2] != frames or boxes.shape != present.shape + (4,):
        text = "images has shape {}, true_boxes {} and true_presence {}, but {} are needed."
        wanted = "[T, B, H, W, C], [T, B, M, 4] and [T, B, M]"
        raise ValueError(text.format(images.shape, boxes.shape, present.shape, wanted))
    rows, columns = [pixels_within(boxes[..., i], boxes[..., 2 + i], images.shape[2 + i]) for i in (0, 1)]
    inside = rows[..., :, None] & columns[..., None, :] & present[..., None, None]  # [T, B, M, H, W]
    clear = (np.sum(inside, axis=2) == 1) & (np.max(images, axis=-1) > threshold)
    return np.where(clear, np.argmax(inside, axis=2), -1) if present.shape[2] else np.full(clear.shape, -1)


def foreground_ari(segments, true_segments):
    """Adjusted Rand index of each video over its foreground: the pixels that truly belong to an object.

    A video's pixels of all frames are one clustering, so that an object whose id changes is split. 1 is agreement, 0
    what is expected by chance (Hubert & Arabie 1985). Pixels that the model gives to none are a cluster as well. A
    video of one object has nothing to tell apart: there one stray pixel makes the index 0, and it is left out.

    Args:
        segments: `[T, B, H, W]` int, -1 for none.
        true_segments: `[T, B, H, W]` int, -1 for what is left out.

    Returns:
        `[B]` float64 in [-1, 1], NaN for videos with foreground of fewer than two objects.

    Raises:
        ValueError: if shapes disagree.
    """
    segments, true_segments = np.asarray(segments), np.asarray(true_segments)
    if segments.shape != true_segments.shape or segments.ndim != 4:
        text = "segments has shape {} and true_segments {}, but both must be [T, B, H, W]."
        raise ValueError(text.format(segments.shape, true_segments.shape))
    foreground = true_segments >= 0
    sequence = np.nonzero(foreground)[1]
    clusters, objects = segments[foreground] + 1, true_segments[foreground]
    counts = np.zeros([segments.shape[1], np.max(objects, initial=0) + 1, np.max(clusters, initial=0) + 1])
    np.add.at(counts, (sequence, objects, clusters), 1)
    both = np.sum(_pairs(counts), axis=(1, 2))
    by_object, by_cluster = [np.sum(_pairs(np.sum(counts, axis=axis)), axis=1) for axis in (2, 1)]
    total = _pairs(np.sum(counts, axis=(1, 2)))
    several = np.sum(np.any(counts > 0, axis=2), axis=1) > 1
    expected = by_object * by_cluster / np.maximum(total, 1.0)
    spread = (
        by_object + by_cluster
    ) / 2.0 - expected  # 0 where every pixel is an object and a cluster of its own
    index = np.divide(both - expected, spread, out=np.ones_like(spread), where=spread > 0)
    return np.where(several, index, np.nan)


def _pairs(count):
    return count * (count - 1.0) / 2.0
