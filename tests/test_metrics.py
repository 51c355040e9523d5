# SPDX-License-Identifier: GPL-3.0-or-later
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqair.evaluation import metrics

SHAPE = (20, 30, 1)


def covered(box, shape=(40, 40)):
    """The pixels that a box with whole-number corners covers."""
    y, x, h, w = (int(v) for v in box)
    mask = np.zeros(shape, bool)
    mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = True
    return mask


def random_boxes(rng, *shape):
    start = rng.randint(0, 20, size=shape + (2,))
    return np.concatenate([start, rng.randint(0, 15, size=shape + (2,))], -1).astype(np.float32)


def test_overlap_agrees_with_counting_pixels():
    rng = np.random.RandomState(0)
    a, b = random_boxes(rng, 7, 5), random_boxes(rng, 7, 5)
    overlap = metrics.box_overlap(a, b)
    assert overlap.shape == (7, 5)
    for i in np.ndindex(7, 5):
        union = (covered(a[i]) | covered(b[i])).sum()
        expected = (covered(a[i]) & covered(b[i])).sum() / union if union else 0.0
        np.testing.assert_allclose(overlap[i], expected)


def test_overlap_of_a_box_with_itself_is_one_and_broadcasts():
    box = np.array([3.5, -2.0, 4.0, 8.0])
    np.testing.assert_allclose(metrics.box_overlap(box, np.stack([box, box + [4, 0, 0, 0]])), [1.0, 0.0])


def test_visible_part_agrees_with_counting_pixels():
    boxes = np.array([[-3, 2, 5, 4], [18, 28, 9, 9], [25, 3, 4, 4], [2, 3, 4, 5]], np.float32)
    seen = metrics.visible_part(boxes, SHAPE)
    for box, part in zip(boxes, seen):
        inside = covered(box)[: SHAPE[0], : SHAPE[1]]
        assert covered(part, SHAPE[:2]).sum() == inside.sum() == part[2] * part[3]


def test_visible_share_agrees_with_counting_pixels():
    boxes = np.array([[-3, 2, 5, 4], [18, 28, 9, 9], [25, 3, 4, 4], [2, 3, 4, 5], [2, 3, 0, 5]], np.float32)
    share = metrics.visible_share(boxes, SHAPE)
    np.testing.assert_allclose(share, [2 / 5, 4 / 81, 0, 1, 0])


def test_pairwise_overlap_takes_what_is_present_and_overlaps_enough():
    pred, true = [(0, 0, 4, 4), (0, 1, 4, 4), (0, 0, 4, 4)], [(0, 0, 4, 4), (0, 2, 4, 4)]
    found = metrics.pairwise_overlap(pred, [1, 1, 0], true, [1, 1], 0.6)
    np.testing.assert_allclose(found, [[1, 0], [0.6, 0.6], [0, 0]])
    found = metrics.pairwise_overlap(pred, [1, 1, 1], true, [1, 0], 0.7)
    np.testing.assert_allclose(found, [[1, 0], [0, 0], [1, 0]])


def best_total(pairs, threshold):
    """The largest total overlap of a one-to-one pairing, by trying every one."""
    n, m = pairs.shape
    if n > m:
        return best_total(pairs.T, threshold)
    return max(
        sum(pairs[i, j] for i, j in enumerate(chosen) if pairs[i, j] >= threshold)
        for chosen in itertools.permutations(range(m), n)
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.05, 0.3, 0.6]), st.integers(0, 10**6))
def test_match_is_the_best_pairing(n, m, threshold, seed):
    rng = np.random.RandomState(seed)
    pred, true = random_boxes(rng, 2, n), random_boxes(rng, 2, m)
    pred_presence, true_presence = rng.randint(0, 2, (2, n)), rng.randint(0, 2, (2, m))
    index, overlap = metrics.match(pred, pred_presence, true, true_presence, threshold)
    for t in range(2):
        pairs = np.array([[metrics.box_overlap(a, b) for b in true[t]] for a in pred[t]])
        pairs *= pred_presence[t][:, None] * true_presence[t]
        np.testing.assert_allclose(overlap[t].sum(), best_total(pairs, threshold), atol=1e-12)
        found = index[t][index[t] >= 0]
        assert len(set(found)) == len(found)
        for slot, which in enumerate(index[t]):
            assert overlap[t, slot] == (pairs[slot, which] if which >= 0 else 0)
            assert which < 0 or (pairs[slot, which] >= threshold)


def test_match_without_slots_or_objects():
    none = np.zeros((3, 0, 4)), np.zeros((3, 0))
    one = np.ones((3, 1, 4)), np.ones((3, 1))
    assert metrics.match(*none, *one)[0].shape == (3, 0)
    assert np.all(metrics.match(*one, *none)[0] == -1)


def test_count_accuracy_agrees_with_a_loop():
    rng = np.random.RandomState(1)
    pred, true = rng.randint(0, 2, (4, 5, 3)), rng.randint(0, 2, (4, 5, 2))
    right = [pred[i].sum() == true[i].sum() for i in np.ndindex(4, 5)]
    assert metrics.count_accuracy(pred, true) == pytest.approx(sum(right) / 20)


@pytest.mark.parametrize(
    "pred, true, meets",
    [
        ((5, 5, 10, 10), (5, 5, 10, 10), True),  # the same
        ((9, 9, 2, 2), (5, 5, 10, 10), True),  # small, around the centre
        ((5, 5, 3, 3), (5, 5, 10, 10), False),  # small, in a corner
        ((5, 11, 10, 10), (5, 5, 10, 10), False),  # 4 of 16 columns: the limit itself
        ((5, 10.5, 10, 10), (5, 5, 10, 10), True),  # 4.5 of 15.5 columns
        ((0, 0, 3, 3), (10, 20, 5, 5), False),  # elsewhere
        ((10, 25, 10, 5), (10, 25, 10, 20), True),  # the visible part of an object that is mostly outside
        ((22, 10, 5, 5), (22, 10, 5, 5), False),  # outside altogether
    ],
)
def test_share_of_boxes_on_objects_by_cases(pred, true, meets):
    share = metrics.share_of_boxes_on_objects([pred], [1], [true], [1], SHAPE)
    assert share == float(meets)
    assert metrics.share_of_boxes_on_objects([pred], [1], [true], [0], SHAPE) == 0
    assert metrics.share_of_boxes_on_objects([pred], [0], [true], [1], SHAPE) == 0


def test_share_of_boxes_on_objects_counts_over_frames():
    pred = [[[5, 5, 8, 8], [0, 20, 3, 3]], [[5, 5, 8, 8], [6, 6, 8, 8]]]
    true = [[[5, 5, 8, 8]], [[5, 5, 8, 8]]]
    assert metrics.share_of_boxes_on_objects(pred, np.ones((2, 2)), true, np.ones((2, 1)), SHAPE) == 0.75


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: metrics.box_overlap(np.ones((2, 3)), np.ones((2, 4))), r"a has shape \(2, 3\)"),
        (
            lambda: metrics.match(np.ones((2, 4)), [1, 1, 1], np.ones((1, 4)), [1]),
            r"pred_presence has shape \(3,\)",
        ),
        (lambda: metrics.match(np.ones((2, 4)), [1, 1], np.ones((1, 4)), [1], 0), "threshold is 0"),
        (
            lambda: metrics.pairwise_overlap(np.ones((2, 4)), [1, 1], np.ones((1, 4)), [1], 2),
            "threshold is 2",
        ),
        (lambda: metrics.count_accuracy(np.ones((2, 3)), np.ones((3, 3))), "must agree"),
        (lambda: metrics.count_accuracy(np.ones((0, 3)), np.ones((0, 3))), "no frame"),
    ],
)
def test_wrong_shapes_are_reported(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_an_id_is_kept_by_the_object_not_by_the_slot():
    here, there = [10, 10, 20, 20], [30, 30, 15, 15]
    true_boxes = np.array([[here, there]] * 4)
    boxes = np.array([[here, there], [there, here], [here, there], [here, [0, 0, 3, 3]]])
    ids = np.array([[0, 1], [1, 0], [2, 1], [2, 1]])
    arguments = boxes, np.ones([4, 2]), ids, true_boxes, np.ones([4, 2])
    # Moves: both keep theirs; the first becomes 2, the second keeps 1; the first keeps 2, the second is lost.
    assert metrics.share_of_kept_ids(*arguments) == pytest.approx(4 / 5)
    batched = [np.stack([x, x], 1) for x in arguments]
    assert metrics.share_of_kept_ids(*batched) == pytest.approx(4 / 5)
    absent = [[1, 1], [0, 1], [1, 1], [1, 1]]  # the second object's slot in the second frame
    assert metrics.share_of_kept_ids(boxes, absent, *arguments[2:]) == pytest.approx(2 / 3)
    assert metrics.share_of_kept_ids(boxes, np.zeros([4, 2]), *arguments[2:]) == 0
    assert (
        metrics.share_of_kept_ids(boxes[:1], np.ones([1, 2]), ids[:1], true_boxes[:1], np.ones([1, 2])) == 0
    )
