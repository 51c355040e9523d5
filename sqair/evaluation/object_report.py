# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a prediction finds, tracks and segments objects: every number of it in one dictionary, in NumPy."""

import numpy as np

from sqair.errors import UserError
from sqair.evaluation import metrics, segmentation
from sqair.evaluation.tight_boxes import seen_annotations, seen_boxes, tight_boxes
from sqair.evaluation.tracking import track

SCORING = 3  # raised whenever what is compared, or how, changes


def object_report(prediction, iou=0.5, inside=True):
    """Tracking and segmentation of a prediction.

    Args:
        prediction: `sqair.evaluation.prediction.Prediction`, with annotated objects.
        iou: least intersection over union of a tracked object with its box, in (0, 1].
        inside: whether what is seen is compared, since nobody knows how an object goes on beyond the image: what draws
            nothing inside it is no prediction, tight boxes, predicted and annotated, are those around what is bright
            inside it, and glimpses are compared with the parts of annotated boxes inside it.

    Returns:
        Dict of plain numbers, lists and dicts:

        tight: `TrackingScores` as a dict, of the boxes around what is drawn; objects of which less than
            `metrics.LEAST_VISIBLE` is inside the image are ignored.
        tight_plain: likewise, with nothing ignored.
        glimpse, glimpse_plain: likewise, of the glimpses' own boxes.
        foreground_ari: mean adjusted Rand index of videos as wholes (`segmentation.foreground_ari`), NaN if no video
            shows two objects.
        foreground_ari_videos: the number of those that do.

    Raises:
        UserError: if nothing is annotated, or a box or glimpse is not finite.
        ValueError: if the threshold is outside (0, 1].
    """
    _check(prediction)
    image_shape = prediction.images.shape[2:]
    true_boxes, true_presence = prediction.true_boxes, np.asarray(prediction.true_presence) > 0.5
    hardly_visible = metrics.visible_share(true_boxes, image_shape) < metrics.LEAST_VISIBLE
    presence = prediction.presence
    if inside:
        seen = seen_boxes(prediction.boxes, prediction.glimpses, image_shape)
        presence = presence * (seen[..., 2] > 0)
        kinds = {
            "tight": (seen, seen_annotations(true_boxes, prediction.images)),
            "glimpse": [metrics.visible_part(boxes, image_shape) for boxes in (prediction.boxes, true_boxes)],
        }
    else:
        tight = tight_boxes(prediction.boxes, prediction.glimpses, image_shape)
        kinds = {"tight": (tight, true_boxes), "glimpse": (prediction.boxes, true_boxes)}
    report = {}
    for kind, (boxes, wanted) in kinds.items():
        for name, ignored in ((kind, hardly_visible), (kind + "_plain", None)):
            scores = track(boxes, presence, prediction.object_ids, wanted, true_presence, ignored, iou)
            report[name] = dict(scores._asdict())
    ari = _foreground_ari(prediction)
    report["foreground_ari"] = float(np.mean(ari)) if len(ari) else float("nan")
    report["foreground_ari_videos"] = len(ari)
    return report


def _foreground_ari(prediction):
    """The index of each video where it is defined."""
    drawn = segmentation.drawn_segments(
        prediction.boxes,
        prediction.presence,
        prediction.object_ids,
        prediction.glimpses,
        prediction.images.shape[2:],
    )
    true = segmentation.annotated_segments(prediction.images, prediction.true_boxes, prediction.true_presence)
    ari = segmentation.foreground_ari(drawn, true)
    return ari[np.isfinite(ari)]


def _check(prediction):
    if not prediction.true_boxes.shape[2]:
        raise UserError("The data set annotates no objects, so that none can be compared; use one that does.")
    for name in ("boxes", "glimpses"):
        if not np.all(np.isfinite(getattr(prediction, name))):
            raise UserError(f"The model's {name} are not finite numbers; use an earlier `checkpoint`.")
