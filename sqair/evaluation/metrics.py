# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be counted of boxes and presences, in NumPy.

Boxes are `(y, x, h, w)` in pixels; they cover `[y, y + h) x [x, x + w)` and may reach beyond the image.
`...` are any leading axes, in practice `[T, B]`; `N` are predicted slots, `M` annotated objects. Presence is
1 or 0.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

MEETING_OVERLAP = 0.25
LEAST_VISIBLE = 0.25  # share of a box inside the image from which on an object can be asked for


def box_overlap(a, b):
    """Intersection over union of boxes; 0 where either has no area.

    Args:
        a, b: `[..., 4]` boxes in pixels, of shapes that broadcast.

    Returns:
        `[...]` float64 in [0, 1].

    Raises:
        ValueError: if the last axis of either is not 4.
    """
    a, b = _as_boxes("a", a), _as_boxes("b", b)
    start = np.maximum(a[..., :2], b[..., :2])
    end = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    both = np.prod(np.maximum(end - start, 0.0), -1)
    either = _area(a) + _area(b) - both
    return np.divide(both, either, out=np.zeros_like(both), where=either > 0)


def visible_part(boxes, image_shape):
    """The part of each box inside the image; a box beyond it keeps an edge on the border and no area.

    Args:
        boxes: `[..., 4]` in pixels.
        image_shape: `(H, W)` or `(H, W, C)`.

    Returns:
        `[..., 4]` float64.
    """
    boxes = _as_boxes("boxes", boxes)
    size = np.asarray(image_shape[:2], np.float64)
    start = np.clip(boxes[..., :2], 0.0, size)
    end = np.clip(boxes[..., :2] + boxes[..., 2:], 0.0, size)
    return np.concatenate([start, end - start], -1)


def visible_share(boxes, image_shape):
    """Share of each box's area that is inside the image.

    Args:
        boxes: `[..., 4]` in pixels.
        image_shape: `(H, W)` or `(H, W, C)`.

    Returns:
        `[...]` float64 in [0, 1]; 0 for boxes without area.
    """
    area, seen = _area(_as_boxes("boxes", boxes)), _area(visible_part(boxes, image_shape))
    return np.divide(seen, area, out=np.zeros_like(seen), where=area > 0)


def match(pred_boxes, pred_presence, true_boxes, true_presence, threshold=0.5):
    """Pairs predicted with annotated objects, frame by frame, one to one.

    Of all pairings of present boxes whose overlap reaches the threshold, that of the largest total overlap.

    Args:
        pred_boxes: `[..., N, 4]` in pixels.
        pred_presence: `[..., N]`.
        true_boxes: `[..., M, 4]` in pixels.
        true_presence: `[..., M]`.
        threshold: least overlap of a pair, in (0, 1].

    Returns:
        `(index, overlap)`, both `[..., N]`: which annotated object the slot found (int64, -1 for none) and
        their intersection over union (float64, 0 for none).

    Raises:
        ValueError: if shapes disagree or the threshold is outside (0, 1].
    """
    pairs = pairwise_overlap(pred_boxes, pred_presence, true_boxes, true_presence, threshold)
    index = np.full(pairs.shape[:-1], -1, np.int64)
    overlap = np.zeros(pairs.shape[:-1])
    for frame in np.ndindex(*pairs.shape[:-2]):
        slots, objects = linear_sum_assignment(-pairs[frame])
        chosen = pairs[frame][slots, objects]
        paired = chosen > 0
        index[frame][slots[paired]] = objects[paired]
        overlap[frame][slots[paired]] = chosen[paired]
    return index, overlap


def pairwise_overlap(pred_boxes, pred_presence, true_boxes, true_presence, threshold):
    """Intersection over union of every predicted with every annotated object of its frame.

    Args:
        pred_boxes: `[..., N, 4]` in pixels.
        pred_presence: `[..., N]`.
        true_boxes: `[..., M, 4]` in pixels.
        true_presence: `[..., M]`.
        threshold: least overlap of a pair, in (0, 1].

    Returns:
        `[..., N, M]` float64 in [0, 1]; 0 below the threshold and where either is absent.

    Raises:
        ValueError: if shapes disagree or the threshold is outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, but an overlap in (0, 1] is needed.")
    pred_boxes, pred_presence = _as_objects("pred", pred_boxes, pred_presence)
    true_boxes, true_presence = _as_objects("true", true_boxes, true_presence)
    _check_frames(pred_presence, true_presence)
    both = pred_presence[..., :, None] & true_presence[..., None, :]
    pairs = _pairwise_overlap(pred_boxes, true_boxes)
    return np.where(both & (pairs >= threshold), pairs, 0.0)


def count_accuracy(pred_presence, true_presence):
    """Share of frames with the right number of objects.

    Args:
        pred_presence: `[..., N]`.
        true_presence: `[..., M]`.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: if the leading axes disagree or there is no frame.
    """
    pred_presence, true_presence = np.asarray(pred_presence), np.asarray(true_presence)
    _check_frames(pred_presence, true_presence)
    right = np.sum(pred_presence > 0.5, -1) == np.sum(true_presence > 0.5, -1)
    if right.size == 0:
        raise ValueError(f"presences of shape {pred_presence.shape} hold no frame to count in.")
    return float(np.mean(right))


def share_of_boxes_on_objects(pred_boxes, pred_presence, true_boxes, true_presence, image_shape):
    """Share of the predicted boxes that meet an annotated object.

    A present predicted box meets a present object of the same frame when the centre of the object's visible
    part lies inside the box, or when the box's visible part overlaps the object's by more than
    `MEETING_OVERLAP` (intersection over union). What is wholly outside of the image is not met. Several boxes
    may meet one object.

    Args:
        pred_boxes: `[..., N, 4]` in pixels.
        pred_presence: `[..., N]`.
        true_boxes: `[..., M, 4]` in pixels.
        true_presence: `[..., M]`.
        image_shape: `(H, W)` or `(H, W, C)`.

    Returns:
        A float in [0, 1]; 0 when no box is predicted.

    Raises:
        ValueError: if shapes disagree.
    """
    pred_boxes, pred_presence = _as_objects("pred", pred_boxes, pred_presence)
    true_boxes, true_presence = _as_objects("true", true_boxes, true_presence)
    _check_frames(pred_presence, true_presence)
    seen = visible_part(true_boxes, image_shape)
    centre = (seen[..., :2] + seen[..., 2:] / 2)[..., None, :, :]
    start = pred_boxes[..., :, None, :2]
    inside = np.all((start <= centre) & (centre <= start + pred_boxes[..., :, None, 2:]), -1)
    overlaps = _pairwise_overlap(visible_part(pred_boxes, image_shape), seen) > MEETING_OVERLAP
    there = true_presence & (_area(seen) > 0)
    meets = np.any((inside | overlaps) & there[..., None, :], -1)
    return float(np.sum(meets & pred_presence) / max(np.sum(pred_presence), 1))


def share_of_kept_ids(pred_boxes, pred_presence, object_ids, true_boxes, true_presence):
    """Share of the moves from frame to frame in which an annotated object keeps the id it is found under.

    An object is found by the slot that `match` pairs it with at an overlap of `MEETING_OVERLAP`; counted are the moves
    in whose both frames it is found.

    Args:
        pred_boxes: `[T, ..., N, 4]` in pixels.
        pred_presence: `[T, ..., N]`.
        object_ids: `[T, ..., N]`, -1 where absent.
        true_boxes: `[T, ..., M, 4]` in pixels.
        true_presence: `[T, ..., M]`.

    Returns:
        A float in [0, 1]; 0 when no object is found twice in a row.

    Raises:
        ValueError: if shapes disagree.
    """
    index, _ = match(pred_boxes, pred_presence, true_boxes, true_presence, MEETING_OVERLAP)
    objects = np.arange(np.shape(true_presence)[-1])
    pairs = index[..., :, None] == objects  # [T, ..., N, M]
    ids = np.max(np.where(pairs, np.asarray(object_ids)[..., :, None], -1), axis=-2, initial=-1)
    moves = (ids[:-1] >= 0) & (ids[1:] >= 0)
    return float(np.sum(moves & (ids[:-1] == ids[1:])) / max(np.sum(moves), 1))


def _area(boxes):
    return np.prod(np.maximum(boxes[..., 2:], 0.0), -1)


def _pairwise_overlap(pred_boxes, true_boxes):
    return box_overlap(pred_boxes[..., :, None, :], true_boxes[..., None, :, :])


def _as_boxes(name, boxes):
    boxes = np.asarray(boxes, np.float64)
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} has shape {boxes.shape}, but boxes [..., 4] as (y, x, h, w) are needed.")
    return boxes


def _as_objects(kind, boxes, presence):
    boxes = _as_boxes(kind + "_boxes", boxes)
    presence = np.asarray(presence)
    if boxes.shape[:-1] != presence.shape:
        text = "{0}_presence has shape {1}, but {0}_boxes of shape {2} need {3}."
        raise ValueError(text.format(kind, presence.shape, boxes.shape, boxes.shape[:-1]))
    return boxes, presence > 0.5


def _check_frames(pred_presence, true_presence):
    if pred_presence.ndim < 1 or pred_presence.shape[:-1] != true_presence.shape[:-1]:
        text = "pred_presence has shape {} and true_presence {}, but all axes before the last must agree."
        raise ValueError(text.format(pred_presence.shape, true_presence.shape))
