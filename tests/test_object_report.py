# SPDX-License-Identifier: GPL-3.0-or-later
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from sqair.errors import UserError
from sqair.evaluation.object_report import object_report

T, B, N, M, SIDE, LENGTH = 3, 2, 3, 2, 20, 40
PLACES = np.array([(3, 4), (22, 20)])  # where digits, 8 x 8 squares, are in the first frame


def scene(speed=1):
    """Squares, found exactly: each is drawn in the middle of a glimpse whose pixels fall on the canvas's."""
    images, true_boxes = np.zeros((T, B, LENGTH, LENGTH, 1)), np.zeros((T, B, M, 4))
    for t in range(T):
        for m, (y, x) in enumerate(PLACES + t * speed):
            true_boxes[t, :, m] = y, x, 8, 8
            images[t, :, max(y, 0) : y + 8, max(x, 0) : x + 8] = 1
    boxes, presence, ids = np.ones((T, B, N, 4)), np.zeros((T, B, N)), np.full((T, B, N), -1.0)
    glimpses = np.zeros((T, B, N, SIDE, SIDE, 1))
    boxes[:, :, :M, :2] = true_boxes[..., :2] - 6
    boxes[:, :, :M, 2:] = (SIDE - 1) * (LENGTH + 1) / (LENGTH - 1)
    glimpses[:, :, :M, 6:14, 6:14] = 0.8
    presence[:, :, :M], ids[:, :, :M] = 1, [0, 1]
    return SimpleNamespace(
        images=images,
        boxes=boxes,
        presence=presence,
        object_ids=ids,
        glimpses=glimpses,
        true_boxes=true_boxes,
        true_presence=np.ones((T, B, M)),
    )


def test_what_is_found_exactly():
    report = object_report(scene())
    names = "tight tight_plain glimpse glimpse_plain foreground_ari foreground_ari_videos"
    assert list(report) == names.split()
    for name in ("tight", "tight_plain"):
        assert report[name]["mota"] == report[name]["motp"] == report[name]["idf1"] == 1
    assert report["glimpse"]["mota"] == -1 and report["glimpse"]["misses"] == T * B * M
    assert report["foreground_ari"] == 1 and report["foreground_ari_videos"] == B
    assert json.dumps(json.loads(json.dumps(report))) == json.dumps(report)  # NaN where nothing is paired


def test_what_is_hardly_visible_is_not_demanded():
    seen = scene(speed=7)  # the second is wholly visible, then to 12 / 64 in the third frame's corner
    seen.true_boxes[2, :, 1] = 36, 37, 8, 8
    seen.presence[2, :, 1] = 0
    report = object_report(seen)
    assert report["tight"]["mota"] == 1 and report["tight"]["objects"] == 10
    assert report["tight_plain"]["misses"] == B


def test_what_lies_beyond_the_image_is_compared_on_demand():
    seen = scene(speed=0)
    seen.boxes[:, :, 0, 0] -= 6  # the first is drawn from row -3 to 4, and is longer beyond the image
    seen.true_boxes[:, :, 0] = -9, 4, 14, 8
    seen.images[:, :, 3:11, 4:12] = 0
    seen.images[:, :, :5, 4:12] = 1
    inside, whole = object_report(seen), object_report(seen, inside=False)
    assert inside["tight"]["mota"] == 1 and inside["tight"]["motp"] == 1
    assert whole["tight"]["mota"] == 1 and whole["tight"]["motp"] == pytest.approx((8 / 14 + 1) / 2)


def test_what_is_seen_of_an_object_is_compared():
    seen = scene(speed=0)
    seen.true_boxes[:, :, 0] = 3, -8, 8, 20  # reaches in by 12 columns, of which 8 are dark
    assert object_report(seen)["tight"]["motp"] == 1
    assert object_report(seen, inside=False)["tight"]["misses"] == T * B


def test_what_draws_nothing_in_the_image_is_no_prediction():
    seen = scene()
    seen.presence[:, :, 2], seen.object_ids[:, :, 2] = 1, 2
    seen.boxes[:, :, 2] = 5, 5, 20, 20  # in the image, with a dark glimpse
    assert object_report(seen)["tight"]["false_positives"] == 0
    assert object_report(seen, inside=False)["tight"]["false_positives"] == T * B
    seen.glimpses[:, :, 2, 6:14, 6:14] = 0.8
    seen.boxes[:, :, 2] = -20, 5, 20, 20  # bright, above the image
    assert object_report(seen)["tight"]["false_positives"] == 0
    seen.boxes[:, :, 2, 0] = 25  # bright, in the image
    assert object_report(seen)["tight"]["false_positives"] == T * B


def test_the_least_overlap_is_passed_on():
    seen = scene(speed=0)
    seen.true_boxes[..., 2] += 2
    for y, x in PLACES:
        seen.images[:, :, y + 8 : y + 10, x : x + 8] = 1
    assert object_report(seen)["tight"]["motp"] == pytest.approx(0.8)
    assert object_report(seen, iou=0.9)["tight"]["mota"] == -1


def test_identities_that_swap_split_objects():
    seen = scene()
    seen.object_ids[2] = seen.object_ids[2, :, [1, 0, 2]].T
    report = object_report(seen)
    assert report["tight"]["switches"] == B * M and report["foreground_ari"] < 0.5


def test_one_object_in_each_video_has_no_index():
    seen = scene()
    seen.true_presence[..., 1] = 0
    report = object_report(seen)
    assert math.isnan(report["foreground_ari"]) and report["foreground_ari_videos"] == 0


@pytest.mark.parametrize("name", ["boxes", "glimpses"])
def test_a_model_that_has_diverged_is_reported(name):
    seen = scene()
    getattr(seen, name)[1, 1, 2] = np.nan
    with pytest.raises(
        UserError, match=f"The model's {name} are not finite numbers; use an earlier `checkpoint`"
    ):
        object_report(seen)


def test_data_without_annotations_are_refused():
    seen = scene()
    seen.true_boxes, seen.true_presence = seen.true_boxes[:, :, :0], seen.true_presence[:, :, :0]
    with pytest.raises(UserError, match="annotates no objects"):
        object_report(seen)
