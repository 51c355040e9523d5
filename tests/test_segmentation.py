# SPDX-License-Identifier: GPL-3.0-or-later
import itertools

import numpy as np
import pytest

from sqair.evaluation.segmentation import annotated_segments, drawn_segments, foreground_ari

SHAPE = (4, 6)


def drawn(objects):
    """The segmentation of one frame by objects `(id, y, x, 2 x 2 glimpse)`, pixel on pixel."""
    boxes = [
        (y, x, (SHAPE[0] + 1) / (SHAPE[0] - 1), (SHAPE[1] + 1) / (SHAPE[1] - 1)) for _, y, x, _ in objects
    ]
    ids = [[[number for number, *_ in objects]]]
    glimpses = np.reshape([glimpse for *_, glimpse in objects], (1, 1, -1, 2, 2, 1))
    return drawn_segments(np.array([[boxes]]), np.not_equal(ids, -1), ids, glimpses, SHAPE + (1,))[0, 0]


def test_a_pixel_is_of_the_object_that_draws_it_brightest():
    found = drawn([(7, 1, 1, [[0.9, 0.4], [0.9, 0.0]]), (3, 1, 2, [[0.5, 0.1], [-0.2, 0.2]])])
    wanted = [
        [-1, -1, -1, -1, -1, -1],
        [-1, +7, +3, +3, -1, -1],
        [-1, +7, -1, +3, -1, -1],
        [-1, -1, -1, -1, -1, -1],
    ]
    np.testing.assert_array_equal(found, wanted)


def test_the_absent_draw_nothing():
    found = drawn([(-1, 1, 1, np.ones((2, 2))), (0, 1, 2, np.full((2, 2), 0.5))])
    assert np.sum(found == 0) == 4 and np.sum(found == -1) == 20


def test_ink_is_of_the_object_in_whose_box_it_lies_if_that_is_clear():
    images = np.full((1, 1) + SHAPE + (2,), 0.1)
    images[0, 0, 1, :, 1] = 0.8
    boxes = [[[(0, 0, 3, 3), (1, 2, 2, 2.5), (0, 0, 4, 6)]]]
    found = annotated_segments(images, boxes, [[[1, 1, 0]]])[0, 0]
    np.testing.assert_array_equal(
        found[1], [0, 0, -1, 1, -1, -1]
    )  # the fifth pixel's centre is on the border
    assert np.all(found[[0, 2, 3]] == -1)
    assert np.all(annotated_segments(images, np.ones((1, 1, 0, 4)), np.ones((1, 1, 0))) == -1)


def ari_by_pairs(clusters, objects):
    """The adjusted Rand index by looking at every pair of elements."""
    pairs = list(itertools.combinations(range(len(clusters)), 2))
    same_cluster = np.array([clusters[i] == clusters[j] for i, j in pairs])
    same_object = np.array([objects[i] == objects[j] for i, j in pairs])
    expected = same_cluster.sum() * same_object.sum() / len(pairs)
    most = (same_cluster.sum() + same_object.sum()) / 2
    return (np.sum(same_cluster & same_object) - expected) / (most - expected)


def test_the_index_agrees_with_looking_at_every_pair():
    rng = np.random.RandomState(0)
    segments, true = rng.randint(-1, 3, (2, 6, 3, 4)), rng.randint(-1, 2, (2, 6, 3, 4))
    segments[:, 3:] = np.where(rng.uniform(size=(2, 3, 3, 4)) < 0.8, true[:, 3:], segments[:, 3:])
    found = foreground_ari(segments, true)
    assert found.shape == (6,) and np.ptp(found) > 0.5
    for b in range(6):
        foreground = true[:, b] >= 0
        wanted = ari_by_pairs(segments[:, b][foreground], true[:, b][foreground])
        assert found[b] == pytest.approx(wanted)


HALVES = np.repeat([[[[0, 1]]]], 2, axis=0).repeat(4, axis=2)  # [2, 1, 4, 2]


@pytest.mark.parametrize(
    "segments, wanted",
    [
        (HALVES, 1.0),
        (5 - HALVES, 1.0),  # names do not matter
        (HALVES * 0, 0.0),  # all in one
        # Right in each frame, swapped from one to the next: 4 * C(4,2) = 24 pairs agree of 2 * C(8,2) = 56 in either,
        # where 56 * 56 / C(16,2) = 56 * 56 / 120 are expected.
        (np.stack([HALVES[0], 1 - HALVES[0]]), -1 / 14),
        # Two tracks of each object: all of their 24 pairs agree, and 24 * 56 / 120 = 11.2 are expected.
        (np.stack([HALVES[0], 2 + HALVES[0]]), (24 - 11.2) / (40 - 11.2)),
    ],
)
def test_a_video_is_one_clustering(segments, wanted):
    np.testing.assert_allclose(foreground_ari(segments, HALVES), [wanted], atol=1e-12)


def test_what_has_nothing_to_tell_apart_is_left_out():
    assert (
        np.isnan(foreground_ari(HALVES, HALVES * 0))[0]
        and np.isnan(foreground_ari(HALVES, HALVES * 0 - 1))[0]
    )
    single = np.full((1, 1, 1, 3), -1)
    single[..., :2] = [0, 1]  # a pixel each
    assert foreground_ari(single, single)[0] == 1
    assert foreground_ari(np.ones((2, 0, 4, 4), int), np.ones((2, 0, 4, 4), int)).shape == (0,)


@pytest.mark.parametrize(
    "call",
    [
        lambda: foreground_ari(HALVES, HALVES[0]),
        lambda: annotated_segments(np.ones((1, 1, 4, 6, 1)), np.ones((1, 1, 2, 4)), np.ones((1, 1, 3))),
        lambda: annotated_segments(np.ones((4, 6, 1)), np.ones((1, 1, 2, 4)), np.ones((1, 1, 2))),
        lambda: drawn_segments(np.ones((1, 1, 2, 4)), np.ones((1, 1, 2)), np.ones((1, 2)), None, SHAPE),
    ],
)
def test_wrong_shapes_are_reported(call):
    with pytest.raises(ValueError, match="are needed|must be"):
        call()
