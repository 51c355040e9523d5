# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from PIL import ImageColor

from sqair.evaluation import films
from sqair.evaluation.evaluator import Prediction
from sqair.evaluation.sheet import COLOURS, UNKNOWN

SHAPE = (20, 30, 1)
SCALE = films.SIDE // 30
TOP, LEFT = films._TITLE, films._GAP
RIGHT = LEFT + SCALE * 30 + films._GAP  # of the second panel


def rgb(colour):
    return ImageColor.getrgb(colour)


def draw(annotator, boxes, ids, image=None, presence=None, **more):
    """One more frame over black, or over an image."""
    image = np.zeros(SHAPE) if image is None else image
    presence = np.ones(len(ids)) if presence is None else presence
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    return annotator.frame(image, np.zeros(SHAPE), boxes, presence, np.array(ids), **more)


def has(picture, colour):
    return np.any(np.all(picture == rgb(colour), axis=-1))


def panel(sheet, left=LEFT):
    """A panel without its surroundings."""
    return sheet[TOP : TOP + SCALE * 20, left : left + SCALE * 30]


def test_pixels_become_sharp_squares_on_an_even_sheet():
    image = np.random.RandomState(0).rand(20, 30, 1)
    annotator = films.Annotator((*SHAPE[:2], 1))
    sheet = draw(annotator, [], [], image)
    assert sheet.shape == (*annotator.size, 3) and sheet.dtype == np.uint8
    assert all(side % 2 == 0 for side in annotator.size)
    wanted = np.kron(np.rint(255 * image[..., 0]), np.ones((SCALE, SCALE)))
    np.testing.assert_array_equal(panel(sheet), np.repeat(wanted[..., None], 3, -1))
    assert not panel(sheet, RIGHT).any()
    np.testing.assert_array_equal(
        draw(films.Annotator(SHAPE), [], [], np.rint(255 * image).astype(np.uint8)), sheet
    )


@pytest.mark.parametrize("shape", [(50, 50, 1), (7, 3, 3), (512, 400, 1), (1, 512, 1)])
def test_every_size_becomes_one_that_can_be_seen_and_encoded(shape):
    annotator = films.Annotator(shape, num_slots=3)
    sheet = annotator.frame(
        np.ones(shape),
        np.ones(shape),
        np.zeros((3, 4)),
        np.ones(3),
        np.arange(3),
        np.ones((3, 4, 4, shape[2])),
    )
    assert sheet.shape == (*annotator.size, 3) and sheet.shape[0] % 2 == sheet.shape[1] % 2 == 0
    assert 200 <= max(annotator.panel) <= 600


def test_a_box_has_the_colour_of_its_object_where_the_object_is():
    sheet = draw(films.Annotator(SHAPE), [[5, 8, 10, 12]], [2])
    for left in (LEFT, RIGHT):
        rows, columns = np.nonzero(np.all(panel(sheet, left) == rgb(COLOURS[2]), axis=-1))
        assert (rows.min(), rows.max()) == (5 * SCALE, 15 * SCALE)
        assert (columns.min(), columns.max()) == (8 * SCALE, 20 * SCALE)
    assert not has(sheet, COLOURS[0])


def test_absent_and_impossible_boxes_are_not_drawn_and_huge_ones_are_cut():
    blank = draw(films.Annotator(SHAPE), [], [])
    boxes = [[5, 5, 5, 5], [np.nan, 0, 5, 5], [0, np.inf, 5, 5], [500, 500, 5, 5]]
    np.testing.assert_array_equal(
        panel(draw(films.Annotator(SHAPE), boxes, [0, 1, 2, 3], presence=[0, 1, 1, 1])), panel(blank)
    )
    around = panel(draw(films.Annotator(SHAPE), [[-1e12, -1e12, 2e12, 2e12]], [0]))
    rows, columns = np.nonzero(around.any(-1))
    assert rows.max() < 30 and columns.max() < 30  # its number in the corner alone
    assert not panel(draw(films.Annotator(SHAPE), [[-10, -10, 5, 5]], [1])).any()


def test_an_object_without_id_has_a_box_and_leaves_no_trail():
    annotator = films.Annotator(SHAPE)
    for left in (5, 15):
        assert has(draw(annotator, [[5, left, 5, 5]], [-1]), UNKNOWN)
    assert not panel(draw(annotator, [], [])).any()


def test_a_trail_follows_the_centre_and_fades():
    annotator = films.Annotator(SHAPE)
    draw(annotator, [[8, 2, 4, 4]], [0])
    draw(annotator, [[8, 22, 4, 4]], [0])  # centres (10, 4) and (10, 24)
    full = np.array(rgb(COLOURS[0]))
    for age in range(1, films.TRAIL + 2):
        seen = panel(draw(annotator, [], []))
        line = seen[10 * SCALE, 4 * SCALE + 5 : 24 * SCALE - 5]
        shown = full * (1 - age / films.TRAIL) if age < films.TRAIL - 1 else np.zeros(3)
        np.testing.assert_allclose(line, np.tile(shown, (len(line), 1)), atol=2)
        assert not seen[: 10 * SCALE - 4].any() and not seen[10 * SCALE + 5 :].any()
    assert not annotator._trails  # of objects that are gone nothing is kept


def test_glimpses_stand_beside_in_their_colours_and_absent_ones_are_grey():
    annotator = films.Annotator(SHAPE, num_slots=2)
    sheet = draw(annotator, [[0, 0, 1, 1]] * 2, [3, 4], presence=[1, 0], glimpses=np.ones((2, 4, 4, 1)))
    beside = sheet[TOP:, RIGHT + SCALE * 30 :]
    assert has(beside, COLOURS[3]) and not has(beside, COLOURS[4])
    side = annotator._glimpse
    np.testing.assert_array_equal(beside[side // 2, films._GAP + side // 2], [255] * 3)
    absent = beside[side + films._GAP + side // 2, films._GAP + side // 2]
    np.testing.assert_allclose(absent, 255 * (0.75 * 0.75 + 0.25), atol=1)


def test_large_pictures_are_averaged():
    stripes = np.zeros((400, 600, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(np.asarray(films.stretched(stripes, (200, 300))) == 100)


def test_a_sequence_of_a_prediction_becomes_its_frames():
    rng, frames = np.random.RandomState(0), (4, 2)
    boxes = rng.uniform(0, 10, frames + (2, 4))
    seen = Prediction(
        images=rng.rand(*frames, *SHAPE),
        reconstructions=rng.rand(*frames, *SHAPE),
        boxes=boxes,
        presence=np.ones(frames + (2,)),
        presence_prob=None,
        object_ids=np.tile([0.0, 1.0], frames + (1,)),
        glimpses=rng.rand(*frames, 2, 4, 4, 1),
        true_boxes=None,
        true_presence=None,
    )
    film = list(films.of_prediction(seen, 1))
    annotator = films.Annotator(SHAPE, num_slots=2)
    for t, sheet in enumerate(film):
        wanted = annotator.frame(
            seen.images[t, 1],
            seen.reconstructions[t, 1],
            boxes[t, 1],
            np.ones(2),
            np.arange(2),
            seen.glimpses[t, 1],
        )
        np.testing.assert_array_equal(sheet, wanted)
    assert len(film) == 4
    assert next(films.of_prediction(seen, 0, glimpses=False)).shape[1] < film[0].shape[1]
