# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking metrics against scenes worked out by hand, and against slow loops over every pairing."""

import itertools
import math

import numpy as np
import pytest

from sqair.evaluation import metrics, tracking
from sqair.evaluation.tracking import track

A, B, C = (0, 0, 10, 10), (20, 20, 10, 10), (0, 30, 10, 10)
A_CLOSE, A_FAR = (0, 2, 10, 10), (0, 3, 10, 10)  # overlap A by 8 / 12 and 7 / 13


def arrays(tracks, seq_len):
    """Boxes, presence and ids of one sequence, `[T, 1, N, ...]`; a track is `(id, boxes)`, None where absent."""
    boxes = np.full((seq_len, 1, len(tracks), 4), np.nan)
    presence = np.zeros(boxes.shape[:-1])
    ids = np.full(boxes.shape[:-1], -1.0, np.float32)
    for n, (number, track_boxes) in enumerate(tracks):
        for t, box in enumerate(track_boxes):
            if box is not None:
                boxes[t, 0, n], presence[t, 0, n], ids[t, 0, n] = box, 1, number
    return boxes, presence, ids


def scores(tracks, objects, seq_len=4, ignored=None, **options):
    """Scores of one sequence; objects are lists of boxes, None where absent."""
    true_boxes, true_presence, _ = arrays(list(enumerate(objects)), seq_len)
    if ignored is not None:
        ignored = np.array(ignored, bool).T.reshape(true_presence.shape)
    return track(*arrays(tracks, seq_len), true_boxes, true_presence, ignored, **options)


def check(found, **wanted):
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, nan_ok=True), (name, found)


def test_all_found():
    found = scores([(4, [A] * 4), (0, [B] * 4)], [[B] * 4, [A] * 4])
    check(found, mota=1, motp=1, idf1=1, switches=0, misses=0, false_positives=0)
    check(found, objects=8, predictions=8, trajectories=2, mostly_tracked=2, mostly_lost=0)


def test_a_miss():
    found = scores([(0, [A, A, None, A])], [[A] * 4])
    check(found, mota=3 / 4, idf1=2 * 3 / 7, misses=1, false_positives=0, switches=0, mostly_tracked=0)


def test_a_false_positive():
    found = scores([(0, [A] * 4), (1, [None, B])], [[A] * 4])
    check(found, mota=3 / 4, idf1=2 * 4 / 9, misses=0, false_positives=1, predictions=5)


def test_a_switch():
    found = scores([(0, [A, A]), (1, [None, None, A, A])], [[A] * 4])
    check(found, mota=3 / 4, idf1=1 / 2, switches=1, misses=0, false_positives=0, mostly_tracked=1)


def test_a_switch_after_a_gap():
    found = scores([(0, [A]), (1, [None, None, None, A])], [[A] * 4])
    check(found, mota=1 / 4, switches=1, misses=2, idf1=2 * 1 / 6)


def test_swapped_identities():
    found = scores([(0, [A, A, B, B]), (1, [B, B, A, A])], [[A] * 4, [B] * 4])
    check(found, mota=1 - 2 / 8, idf1=1 / 2, switches=2, misses=0, false_positives=0, motp=1)


def test_a_loose_box_is_a_miss_and_a_false_positive():
    found = scores([(0, [A_CLOSE, A_CLOSE, A, A])], [[A] * 4], iou=0.7)
    check(found, mota=0, misses=2, false_positives=2, motp=1, idf1=1 / 2)
    check(scores([(0, [A_CLOSE, A_CLOSE, A, A])], [[A] * 4]), mota=1, motp=(8 / 12 + 1) / 2, idf1=1)


def test_the_least_overlap_is_enough():
    check(scores([(0, [(0, 0, 5, 10)])], [[A]]), mota=1, motp=1 / 2)
    check(scores([(0, [(0, 0, 5, 10)])], [[A]], iou=0.51), mota=-1, motp=math.nan)


def test_a_pair_stays_while_it_overlaps_enough():
    tracks = [(0, [A, A_FAR, A_FAR]), (1, [None, A_CLOSE, A_CLOSE])]
    check(scores(tracks, [[A] * 3]), switches=0, false_positives=2, motp=(1 + 2 * 7 / 13) / 3)


def test_mostly_tracked_and_mostly_lost():
    objects = [[A] * 10, [B] * 10, [C] * 10]
    tracks = [(0, [A] * 8), (1, [B] * 7), (2, [C])]
    check(scores(tracks, objects, 10), mostly_tracked=1, mostly_lost=1, trajectories=3)
    check(scores([(0, [A] * 8), (1, [B] * 2)], objects[:2], 10), mostly_tracked=1, mostly_lost=0)


def test_what_is_ignored_is_neither_demanded_nor_held_against_what_finds_it():
    objects, ignored = [[A] * 4, [B] * 4], [[0] * 4, [0, 0, 1, 1]]
    for boxes in ([B, B, B, B], [B, B, None, None], [B, B, None, B]):
        found = scores([(0, [A] * 4), (1, boxes)], objects, ignored=ignored)
        check(found, mota=1, idf1=1, objects=6, predictions=6, misses=0, false_positives=0)
    found = scores([(0, [A] * 4), (1, [B, B, C, C])], objects, ignored=ignored)
    check(found, mota=1 - 2 / 6, false_positives=2, idf1=2 * 6 / 14)
    check(scores([(0, [A] * 4), (1, [B, B])], objects), mota=1 - 2 / 8, misses=2)
    twice = scores([(0, [A] * 4), (1, [A_CLOSE] * 4)], objects, ignored=[[0] * 4, [1] * 4])
    check(twice, mota=0, false_positives=4, objects=4)


def test_a_prediction_for_a_demanded_object_stays_though_it_overlaps_an_ignored_one():
    objects = [[A] * 2, [A_FAR] * 2]
    check(scores([(0, [A_CLOSE] * 2)], objects, 2, ignored=[[0, 0], [1, 1]]), mota=1, motp=8 / 12)
    check(scores([(0, [A_CLOSE] * 2)], objects, 2, ignored=[[1, 1], [0, 0]]), mota=1, motp=9 / 11)
    check(scores([(0, [A_CLOSE] * 2)], objects, 2, ignored=[[1, 1], [1, 1]]), mota=math.nan, predictions=0)


def test_an_ignored_object_is_found_by_a_box_that_meets_it():
    objects, ignored = [[(0, 0, 10, 10)] * 2], [[1, 1]]
    for width, excused in ((4, True), (2, False)):  # 0.4 and 0.2 of it
        found = scores([(0, [(0, 0, 10, width)] * 2)], objects, 2, ignored=ignored)
        assert found.false_positives == (0 if excused else 2)
    assert scores([(0, [(0, 0, 10, 2)] * 2)], objects, 2, ignored=ignored, iou=0.2).false_positives == 0


@pytest.mark.parametrize("seq_len", [0, 3])
@pytest.mark.parametrize("batch_size", [0, 2])
def test_nothing_at_all(seq_len, batch_size):
    for n, m in ((0, 0), (2, 1)):
        frames = (seq_len, batch_size)
        found = track(
            np.zeros(frames + (n, 4)),
            np.zeros(frames + (n,)),
            np.zeros(frames + (n,)),
            np.zeros(frames + (m, 4)),
            np.zeros(frames + (m,)),
            np.zeros(frames + (m,)),
        )
        check(found, mota=math.nan, motp=math.nan, idf1=math.nan, misses=0, false_positives=0, switches=0)
        assert all(type(value) is (float if i < 3 else int) for i, value in enumerate(found[:-1]))
        np.testing.assert_array_equal(found.mota_by_frame, [math.nan] * seq_len)


def test_no_objects_and_no_predictions():
    check(scores([(0, [A] * 4)], []), mota=math.nan, motp=math.nan, idf1=0, false_positives=4, objects=0)
    found = scores([], [[A] * 4])
    check(found, mota=0, motp=math.nan, idf1=0, misses=4, mostly_lost=1, trajectories=1, predictions=0)


def random_scene(rng, batch_size=3, seq_len=5, slots=3, objects=2):
    """Tracks of objects that stand still, with boxes that wander and ids that are dealt anew now and then."""
    true_boxes = np.concatenate(
        [rng.uniform(0, 12, (batch_size, objects, 2)), np.full((batch_size, objects, 2), 10.0)], -1
    )
    true_boxes = np.broadcast_to(true_boxes, (seq_len, batch_size, objects, 4))
    boxes = np.concatenate([true_boxes, true_boxes[..., :1, :]], 2) + rng.normal(
        0, 1.5, (seq_len, batch_size, slots, 4)
    )
    ids = np.array([[rng.permutation(5)[:slots] for _ in range(batch_size)] for _ in range(2)])
    ids = ids[(rng.uniform(size=seq_len) < 0.3).astype(int)]
    presence, true_presence = (
        rng.uniform(size=boxes.shape[:3]) < 0.7,
        rng.uniform(size=true_boxes.shape[:3]) < 0.8,
    )
    return boxes, presence, ids, true_boxes, true_presence


def pairings(rows, columns):
    """Every way to pair some rows with columns, one to one."""
    for size in range(min(len(rows), len(columns)) + 1):
        for some in itertools.combinations(rows, size):
            for others in itertools.permutations(columns, size):
                yield list(zip(some, others))


def clear_mot_by_loops(overlap, ids, iou):
    """Misses, false positives, switches, the overlaps of the pairs, and mistakes in each frame of one sequence."""
    misses = surplus = switches = 0
    mistakes = []
    last, overlaps = {}, []
    for t, (slots, objects) in enumerate(overlap["present"]):
        allowed = {
            (n, m): overlap["iou"][t, n, m] for n in slots for m in objects if overlap["iou"][t, n, m] >= iou
        }
        kept = {
            n: m for n, m in sorted(allowed, reverse=True) if last.get(m) == ids[t, n]
        }  # the first object has it
        kept = list(kept.items())
        slots_left = [n for n in slots if n not in [k[0] for k in kept]]
        objects_left = [m for m in objects if m not in [k[1] for k in kept]]
        possible = [p for p in pairings(slots_left, objects_left) if all(pair in allowed for pair in p)]
        new = max(possible, key=lambda p: (len(p), sum(allowed[pair] for pair in p)))
        switches += sum(last.get(m, ids[t, n]) != ids[t, n] for n, m in new)
        last.update((m, ids[t, n]) for n, m in kept + new)
        overlaps += [allowed[pair] for pair in kept + new]
        misses, surplus = misses + len(objects) - len(kept + new), surplus + len(slots) - len(kept + new)
        mistakes.append(misses + surplus + switches)
    return misses, surplus, switches, overlaps, np.diff(mistakes, prepend=0)


def identity_hits_by_loops(overlap, ids, iou):
    """The most frames that a one-to-one pairing of whole tracks with whole objects gets right, in one sequence."""
    hits = {}
    for t, (slots, objects) in enumerate(overlap["present"]):
        for n, m in itertools.product(slots, objects):
            hits[ids[t, n], m] = hits.get((ids[t, n], m), 0) + (overlap["iou"][t, n, m] >= iou)
    tracks, objects = sorted({k[0] for k in hits}), sorted({k[1] for k in hits})
    return max(sum(hits.get(pair, 0) for pair in p) for p in pairings(tracks, objects))


@pytest.mark.parametrize("seed", range(8))
def test_scores_agree_with_loops_over_every_pairing(seed):
    scene = boxes, presence, ids, true_boxes, true_presence = random_scene(np.random.RandomState(seed))
    misses, surplus, switches, overlaps, hits, by_frame = 0, 0, 0, [], 0, np.zeros(5)
    for b in range(boxes.shape[1]):
        overlap = {
            "iou": np.array(
                [
                    [[metrics.box_overlap(p, q) for q in true_boxes[t, b]] for p in boxes[t, b]]
                    for t in range(5)
                ]
            ),
            "present": [
                (np.flatnonzero(presence[t, b]), np.flatnonzero(true_presence[t, b])) for t in range(5)
            ],
        }
        of_one = clear_mot_by_loops(overlap, ids[:, b], 0.4)
        misses, surplus, switches, overlaps, by_frame = (
            x + y for x, y in zip((misses, surplus, switches, overlaps, by_frame), of_one)
        )
        hits += identity_hits_by_loops(overlap, ids[:, b], 0.4)
    found = track(*scene, iou=0.4)
    check(found, misses=misses, false_positives=surplus, switches=switches, motp=np.mean(overlaps))
    check(found, mota=1 - (misses + surplus + switches) / true_presence.sum())
    check(found, idf1=2 * hits / (true_presence.sum() + presence.sum()))
    np.testing.assert_allclose(found.mota_by_frame, 1 - by_frame / true_presence.sum(axis=(1, 2)))
    assert switches and misses and surplus


def test_sequences_are_pooled_some_at_a_time(monkeypatch):
    scene = random_scene(np.random.RandomState(9), batch_size=5)
    found = track(*scene)
    for size in (1, 2):
        monkeypatch.setattr(tracking, "_SEQUENCES_AT_ONCE", size)
        np.testing.assert_allclose(np.hstack(track(*scene)), np.hstack(found))
    each = [track(*[x[:, b : b + 1] for x in scene]) for b in range(5)]
    for name in tracking.TrackingScores._fields[3:-1]:
        assert getattr(found, name) == sum(getattr(one, name) for one in each), name


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(object_ids=np.zeros((2, 1, 3))), r"object_ids has shape \(2, 1, 3\) and presence \(2, 1, 2\)"),
        (dict(object_ids=np.zeros((2, 1, 2))), "differ within a frame"),
        (dict(object_ids=[[[0, -1]], [[0, 1]]]), "at least 0"),
        (dict(boxes=np.full((2, 1, 2, 4), np.inf)), "boxes holds a value that is not finite"),
        (dict(true_boxes=np.full((2, 1, 1, 4), np.nan)), "true_boxes holds a value that is not finite"),
        (dict(true_presence=np.ones((3, 1, 1)), true_boxes=np.ones((3, 1, 1, 4))), "must agree"),
        (dict(true_boxes=np.ones((2, 1, 1, 3))), r"true_boxes has shape \(2, 1, 1, 3\)"),
        (dict(ignored=np.ones((2, 1, 5))), r"ignored has shape \(2, 1, 5\)"),
        (dict(iou=0), "threshold is 0"),
        (dict(iou=1.5), "threshold is 1.5"),
        (dict(iou=math.nan), "threshold is nan"),
    ],
)
def test_what_does_not_fit_is_refused(change, sentence):
    arguments = dict(
        boxes=np.ones((2, 1, 2, 4)),
        presence=np.ones((2, 1, 2)),
        object_ids=[[[0, 1]], [[0, 1]]],
        true_boxes=np.ones((2, 1, 1, 4)),
        true_presence=np.ones((2, 1, 1)),
    )
    track(**arguments)
    with pytest.raises(ValueError, match=sentence):
        track(**{**arguments, **change})
