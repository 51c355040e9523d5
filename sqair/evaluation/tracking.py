# SPDX-License-Identifier: GPL-3.0-or-later
"""Multiple-object tracking metrics, by `motmetrics`: CLEAR MOT and identity measures, pooled over sequences.

Arrays are time-major: `T` frames, `B` sequences, `N` slots, `M` annotated objects, whose index is their identity.
Boxes are `(y, x, h, w)` in pixels.

Sources: Bernardin & Stiefelhagen 2008 (CLEAR MOT), Ristani et al. 2016, arXiv:1609.01775 (IDF1), Milan et al. 2016,
arXiv:1603.00831 (mostly tracked, mostly lost, objects that are left out).
"""

from typing import NamedTuple

import motmetrics
import numpy as np

from sqair.evaluation import metrics

# The pairing for IDF1 takes the cube of the number of tracks in one accumulator, each accumulator a few ms.
_SEQUENCES_AT_ONCE = 50
_POOLED = (
    "mota motp idf1 num_switches num_misses num_false_positives num_objects num_predictions "
    "num_unique_objects mostly_tracked mostly_lost"
).split()


class TrackingScores(NamedTuple):
    """How well objects are tracked, over all frames of all sequences."""

    mota: float  # 1 - (misses + false positives + switches) / objects; at most 1, NaN without objects
    motp: float  # mean intersection over union of what is paired; NaN if nothing is
    idf1: float  # F1 score of the best one-to-one pairing of whole tracks with whole objects; NaN without either
    switches: int  # times that an object is paired with another track than the last time it was paired
    misses: int  # objects in a frame without a prediction
    false_positives: int  # predictions in a frame without an object
    objects: int  # objects to find, counted in every frame
    predictions: int  # likewise what is predicted
    trajectories: int  # objects to find, counted once in a sequence
    mostly_tracked: int  # of those, how many are paired in at least 0.8 of their frames
    mostly_lost: int  # and how many in less than 0.2 of them
    mota_by_frame: list  # of T floats: MOTA of each frame alone, NaN where there are no objects


def track(boxes, presence, object_ids, true_boxes, true_presence, ignored=None, iou=0.5):
    """Scores tracks against annotated objects.

    In a frame, a pair of the frame before stays one while it overlaps enough; the rest is paired for the least total
    distance, 1 - IoU. What is ignored is taken out before: the object, and the prediction that finds it. That is one
    that is left over when predictions are paired with the other objects, and overlaps the ignored one by
    `metrics.MEETING_OVERLAP`, or as much as a pair must if that is less: of a corner, no more can be told.

    Args:
        boxes: `[T, B, N, 4]`.
        presence: `[T, B, N]`.
        object_ids: `[T, B, N]`, whole numbers, different within a frame; what they are where absent is irrelevant.
        true_boxes: `[T, B, M, 4]`.
        true_presence: `[T, B, M]`.
        ignored: `[T, B, M]` bool, objects that are neither demanded nor held against a prediction; None for none.
        iou: least intersection over union of a pair, in (0, 1].

    Returns:
        `TrackingScores`.

    Raises:
        ValueError: if shapes disagree, the threshold is outside (0, 1], a present box is not finite, or a present
            slot has no id or that of another one of its frame.
    """
    presence, true_presence = np.asarray(presence) > 0.5, np.asarray(true_presence) > 0.5
    object_ids = _as_ids(object_ids, presence)
    for name, some, present in (("boxes", boxes, presence), ("true_boxes", true_boxes, true_presence)):
        if not np.all(np.isfinite(some) | ~present[..., None]):
            raise ValueError(f"{name} holds a value that is not finite where an object is present.")
    if ignored is not None:
        presence, true_presence = _without_ignored(
            boxes, presence, true_boxes, true_presence, _as_mask(ignored, true_presence), iou
        )
    pairs = metrics.pairwise_overlap(boxes, presence, true_boxes, true_presence, iou)
    distances = np.swapaxes(np.where(pairs > 0, 1.0 - pairs, np.nan), -1, -2)  # objects in rows
    host = motmetrics.metrics.create()
    partials, mistakes = [], np.zeros(len(presence), np.int64)
    for some in _blocks(presence.shape[1]):
        events = _accumulate(
            object_ids[:, some], presence[:, some], true_presence[:, some], distances[:, some]
        )
        partials.append(host.compute(events, metrics=_POOLED, return_dataframe=False, return_cached=True))
        mistakes += _mistakes(events, len(presence))
    objects = np.sum(true_presence, axis=(1, 2))
    by_frame = np.where(objects > 0, 1.0 - mistakes / np.maximum(objects, 1), np.nan)
    pooled = host.compute_overall(partials, metrics=_POOLED, return_dataframe=False)
    return _scores(pooled, by_frame.tolist())


def _blocks(num_sequences):
    starts = range(0, max(num_sequences, 1), _SEQUENCES_AT_ONCE)
    return [slice(start, start + _SEQUENCES_AT_ONCE) for start in starts]


def _accumulate(object_ids, presence, true_presence, distances):
    """The events of some sequences, one after the other in one accumulator, each with identities of its own."""
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    num_ids, num_objects = np.max(object_ids, initial=0) + 1, true_presence.shape[-1]
    for b in range(presence.shape[1]):
        for t in range(presence.shape[0]):
            found, true = presence[t, b], np.flatnonzero(true_presence[t, b])
            accumulator.update(
                b * num_objects + true, b * num_ids + object_ids[t, b, found], distances[t, b][true][:, found]
            )
    return accumulator


def _mistakes(accumulator, num_frames):
    """`[T]` misses, false positives and switches in each frame, of sequences one after the other."""
    events = accumulator.mot_events
    wrong = events[events["Type"].isin(["MISS", "FP", "SWITCH"])].index.get_level_values("FrameId")
    return np.bincount(np.asarray(wrong, np.int64) % max(num_frames, 1), minlength=num_frames)


def _scores(pooled, mota_by_frame):
    objects = int(pooled["num_objects"])
    return TrackingScores(
        mota=float(pooled["mota"]) if objects else float("nan"),
        motp=1.0 - float(pooled["motp"]),
        idf1=float(pooled["idf1"]),
        switches=int(pooled["num_switches"]),
        misses=int(pooled["num_misses"]),
        false_positives=int(pooled["num_false_positives"]),
        objects=objects,
        predictions=int(pooled["num_predictions"]),
        trajectories=int(pooled["num_unique_objects"]),
        mostly_tracked=int(pooled["mostly_tracked"]),
        mostly_lost=int(pooled["mostly_lost"]),
        mota_by_frame=mota_by_frame,
    )


def _without_ignored(boxes, presence, true_boxes, true_presence, ignored, iou):
    """Both presences without the ignored objects and the predictions that find them."""
    demanded = true_presence & ~ignored
    found, _ = metrics.match(boxes, presence, true_boxes, demanded, iou)
    left_over = presence & (found < 0)
    least = min(iou, metrics.MEETING_OVERLAP)
    excused, _ = metrics.match(boxes, left_over, true_boxes, true_presence & ignored, least)
    return presence & (excused < 0), demanded


def _as_mask(ignored, true_presence):
    ignored = np.asarray(ignored, bool)
    if ignored.shape != true_presence.shape:
        text = "ignored has shape {} and true_presence {}, but both must be [T, B, M]."
        raise ValueError(text.format(ignored.shape, true_presence.shape))
    return ignored


def _as_ids(object_ids, presence):
    """`[T, B, N]` int64; those of absent slots are made different from all others."""
    object_ids = np.asarray(object_ids)
    if object_ids.shape != presence.shape or presence.ndim != 3:
        text = "object_ids has shape {} and presence {}, but both must be [T, B, N]."
        raise ValueError(text.format(object_ids.shape, presence.shape))
    object_ids = np.where(presence, object_ids, -1 - np.arange(presence.shape[-1])).astype(np.int64)
    in_order = np.sort(object_ids, axis=-1)
    if np.any(presence & (object_ids < 0)) or np.any(in_order[..., 1:] == in_order[..., :-1]):
        raise ValueError(
            "object_ids must be at least 0 where an object is present, and differ within a frame."
        )
    return object_ids
