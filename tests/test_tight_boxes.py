# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
import reference_parts

from sqair.evaluation import tight_boxes as module
from sqair.evaluation.tight_boxes import seen_annotations, seen_boxes, tight_boxes

SHAPE, SIDE = (11, 21, 1), 5


def box(y, x, step):
    """The box of a glimpse whose first pixel is centred on (y, x) and whose pixels are `step` apart."""
    return [y, x, step * (SIDE - 1) * 12 / 10, step * (SIDE - 1) * 22 / 20]


def blob(rows, columns, value=1.0):
    """A glimpse that is bright in some rows and columns."""
    glimpse = np.zeros((SIDE, SIDE, 1))
    glimpse[rows[0] : rows[1], columns[0] : columns[1]] = value
    return glimpse


@pytest.mark.parametrize(
    "glimpse_box, glimpse, threshold, wanted",
    [
        (box(3, 8, 1), blob((1, 3), (2, 5)), 0.2, (4, 10, 2, 3)),  # pixel on pixel
        (box(3, 8, 1), blob((1, 3), (2, 5), 0.19), 0.2, box(3, 8, 1)),  # too dim to count
        (box(3.5, 8, 1), blob((1, 3), (2, 5)), 0.2, (4, 10, 3, 3)),  # between two pixels, half in each
        (box(3.5, 8, 1), blob((1, 3), (2, 5)), 0.6, (5, 10, 1, 3)),
        (box(3.1, 7.9, 1), blob((1, 3), (2, 5)), 0.2, (4, 10, 2, 3)),  # a tenth is too little
        (box(1, 2, 2), blob((1, 2), (2, 3)), 0.2, (2, 5, 3, 3)),  # stretched: fades over two pixels
        (box(1, 2, 2), blob((1, 2), (2, 3)), 0.5, (3, 6, 1, 1)),
        (box(1, 2, 2), blob((0, 5), (0, 5)), 0.2, (0, 1, 11, 11)),  # fades beyond the glimpse's edge, too
        (box(-3, 19, 1), blob((1, 3), (2, 5)), 0.2, (-2, 21, 2, 3)),  # beyond the image
        (box(2, 4, 0.5), blob((0, 5), (0, 5)), 0.2, (2, 4, 3, 3)),  # smaller than on the glimpse
    ],
)
def test_boxes_by_hand(glimpse_box, glimpse, threshold, wanted):
    np.testing.assert_allclose(tight_boxes(glimpse_box, glimpse, SHAPE, threshold), wanted, atol=1e-9)


def test_what_is_seen_lies_inside_the_image():
    boxes = [box(3, 8, 1), box(3, 8, 1), box(-3, 19, 1), box(-3, 18, 1), box(-2, 18, 1)]
    glimpses = [blob((1, 3), (2, 5), value) for value in (1, 0.19, 1, 1, 1)]
    nothing = (0, 0, 0, 0)
    wanted = [(4, 10, 2, 3), nothing, nothing, nothing, (0, 20, 1, 1)]
    np.testing.assert_array_equal(seen_boxes(boxes, glimpses, SHAPE), wanted)
    assert np.all(seen_boxes(boxes[1], glimpses[1], SHAPE, threshold=0.1) == wanted[0])


def test_annotations_end_where_nothing_is_bright():
    image = np.zeros((1, 1) + SHAPE)
    image[0, 0, :3, 6:9] = 1  # the lower part of a digit that is as wide as 6 pixels above the image
    image[0, 0, 7:10, 3:5] = 0.19  # too dim to count
    image[0, 0, 5, 9] = 1  # beside the boxes
    true_boxes = np.array([[[(-4, 4, 8, 6), (6, 2, 5, 5), (9, 18, 9, 9)]]])
    wanted = [(0, 6, 3, 3), (6, 2, 5, 5), (9, 18, 2, 3)]
    np.testing.assert_array_equal(seen_annotations(true_boxes, image)[0, 0], wanted)
    assert np.all(seen_annotations(true_boxes, image, threshold=0.1)[0, 0, 1] == (7, 3, 3, 2))
    colour = np.concatenate([np.zeros_like(image), image], -1)
    np.testing.assert_array_equal(seen_annotations(true_boxes, colour)[0, 0], wanted)
    assert seen_annotations(true_boxes[:, :, :0], image).shape == (1, 1, 0, 4)


def test_boxes_enclose_what_the_decoder_draws():
    rng = np.random.RandomState(0)
    where = rng.uniform([-1.5, -1.5, -0.5, -0.5], [0.0, 0.0, 0.5, 0.5], [40, 4])
    glimpses = np.zeros((40, 8, 8, 1))
    glimpses[:, 2:6, 2:6] = rng.uniform(0, 1, (40, 4, 4, 1)) ** 3
    found = tight_boxes(reference_parts.boxes(where, 30, 20), glimpses, (30, 20))
    for box_found, canvas in zip(found, reference_parts.write_glimpse(glimpses[..., 0], where, 30, 20)):
        rows, columns = [np.flatnonzero(np.any(canvas > 0.2, axis)) for axis in (1, 0)]
        assert rows[0] > 0 and columns[0] > 0 and rows[-1] < 29 and columns[-1] < 19
        wanted = [rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1]
        np.testing.assert_array_equal(box_found, wanted)


def test_the_brightest_channel_counts():
    glimpse = np.concatenate([blob((1, 2), (1, 2)), blob((3, 4), (2, 3), 0.5)], -1)
    np.testing.assert_allclose(tight_boxes(box(3, 8, 1), glimpse, SHAPE), (4, 9, 3, 2))


def test_many_objects_are_taken_some_at_a_time(monkeypatch):
    rng = np.random.RandomState(1)
    boxes = np.concatenate([rng.uniform(-5, 10, (2, 3, 2)), rng.uniform(1, 12, (2, 3, 2))], -1)
    glimpses, given = rng.uniform(0, 0.3, (2, 3, SIDE, SIDE, 1)), boxes.copy()
    found = tight_boxes(boxes, glimpses, SHAPE)
    np.testing.assert_array_equal(boxes, given)
    monkeypatch.setattr(module, "_OBJECTS_AT_ONCE", 4)
    np.testing.assert_array_equal(tight_boxes(boxes, glimpses, SHAPE), found)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(tight_boxes(boxes[i], glimpses[i], SHAPE), found[i])


def test_without_objects_there_are_no_boxes():
    assert tight_boxes(np.ones((2, 0, 4)), np.ones((2, 0, SIDE, SIDE, 1)), SHAPE).shape == (2, 0, 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="glimpses has shape"):
        tight_boxes(np.ones((2, 4)), np.ones((1, SIDE, SIDE, 1)), SHAPE)
    with pytest.raises(ValueError, match="boxes holds a value that is not finite"):
        tight_boxes([0, np.nan, 1, 1], blob((1, 2), (1, 2)), SHAPE)
