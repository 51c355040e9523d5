# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest

from sqair.data import frames
from sqair.data.frames import Framing
from sqair.errors import UserError


def test_a_box_is_where_its_pixels_go():
    """A white rectangle of whole steps of the new pixels fills its box in the data set, and nothing else."""
    frame = np.zeros((60, 90, 3), np.uint8)
    frame[20:32, 30:54] = 255
    view = frames.view_of(Framing(crop=(8, 6, 48, 72), size=(16, 12)), frame.shape, "film")
    box = view.boxes([20, 30, 12, 24])
    np.testing.assert_allclose(box, [4, 4, 4, 4], atol=1e-6)
    assert box.dtype == np.float32
    small = frames.prepare(frame, Framing(), view)
    assert small.shape == (16, 12, 1) and small.dtype == np.uint8
    inside = np.zeros((16, 12), bool)
    inside[4:8, 4:8] = True
    assert np.all(small[..., 0][inside] > 100) and small[5, 5, 0] == 255
    assert small[~inside].sum() < 0.5 * small[inside].sum()  # the border's blur
    assert np.all(small[9:] == 0) and np.all(small[:3] == 0) and np.all(small[:, 9:] == 0)


def test_boxes_find_their_way_back_to_the_film():
    view = frames.View(crop=(8, 6, 48, 72), size=(16, 12))
    boxes = np.random.RandomState(0).uniform(-20, 90, (2, 5, 4))
    np.testing.assert_allclose(view.film_boxes(view.boxes(boxes)), boxes, atol=1e-4)
    np.testing.assert_allclose(view.film_boxes([4, 4, 4, 4]), [20, 30, 12, 24])


@pytest.mark.parametrize(
    "length, step", [(1, 1), (100, 1), (201, 1), (202, 2), (402, 2), (403, 4), (1000, 8)]
)
def test_the_background_is_the_median_of_evenly_spaced_frames(length, step):
    film = np.random.RandomState(0).randint(0, 256, (length, 2, 3, 1)).astype(np.uint8)
    background = frames.background_of(iter(film))
    np.testing.assert_array_equal(background, np.median(film[::step], axis=0))
    assert background.dtype == np.float32


def test_shrinking_averages():
    stripes = np.zeros((40, 40, 1), np.uint8)
    stripes[:, ::2] = 200  # would be all or nothing if pixels were picked
    view = frames.view_of(Framing(size=(10,)), stripes.shape, "film")
    np.testing.assert_allclose(frames.prepare(stripes, Framing(), view)[2:-2, 2:-2], 100, atol=8)


@pytest.mark.parametrize(
    "size, crop, wanted",
    [
        ((50,), None, (50, 75)),
        ((50,), (0, 0, 90, 60), (75, 50)),
        ((30, 20), None, (30, 20)),
        ((1,), None, (1, 2)),
    ],
)
def test_one_side_keeps_the_proportions(size, crop, wanted):
    assert frames.view_of(Framing(size=size, crop=crop), (100, 150, 3), "film").size == wanted


def test_colours_and_grey():
    red, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 1), 60, np.uint8)
    red[..., 0] = 255
    view = frames.view_of(Framing(size=(4,)), red.shape, "film")
    assert frames.prepare(red, Framing(colour=True), view)[0, 0].tolist() == [255, 0, 0]
    assert frames.prepare(red, Framing(), view)[0, 0].tolist() == [76]  # 0.299 of 255, of ITU-R 601
    assert frames.prepare(grey, Framing(colour=True), view)[0, 0].tolist() == [60] * 3
    assert frames.prepare(grey, Framing(invert=True), view)[0, 0].tolist() == [195]


@pytest.mark.parametrize("background", frames.BACKGROUNDS)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_the_background_is_taken_away_pixel_by_pixel(background, gain):
    rng = np.random.RandomState(0)
    film, ground = rng.randint(0, 256, (3, 4, 5, 3)).astype(np.uint8), rng.uniform(0, 255, (4, 5, 3))
    framing = Framing(background=background, min_difference=0.4, gain=gain)
    found = frames.remove_background(film, ground.astype(np.float32), framing)
    kept = 0
    for place in np.ndindex(3, 4, 5):
        difference = [abs(float(film[place][c]) - ground[place[1:]][c]) for c in range(3)]
        values = film[place].astype(float)
        if background != "none":
            stands_out = max(difference) >= 0.4 * 255
            kept += stands_out
            values = np.array(difference if background == "difference" else values) * stands_out
        np.testing.assert_allclose(found[place], np.minimum(values * gain, 255), atol=0.51)
    assert found.dtype == np.uint8 and (background == "none" or 10 < kept < 59)


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"size": (0,)}, "`size` of frames must be 1 to 512 pixels, not 0"),
        ({"size": (50, 513)}, "not 50x513"),
        ({"size": ()}, "`size`"),
        ({"background": "mean"}, "`background=mean` is not known: use difference, cutout, none"),
        ({"min_difference": 1.0}, "`min_difference=1.0` is refused"),
        ({"min_difference": np.nan}, "`min_difference=nan` is refused"),
        ({"gain": 0.0}, "`gain=0.0` is refused"),
        ({"gain": np.inf}, "`gain=inf` is refused"),
        ({"crop": (0, 0, 0, 5)}, "`crop=0,0,0,5` is refused"),
        ({"crop": (-1, 0, 5, 5)}, "`crop=-1,0,5,5` is refused"),
    ],
)
def test_settings_without_sense_are_refused(change, sentence):
    frames.check(Framing())
    with pytest.raises(UserError, match=sentence):
        frames.check(Framing(**change))


def test_a_view_has_to_fit_the_film():
    with pytest.raises(UserError, match=r"`crop=0,0,11,5` .* reaches beyond the 10x20 pixels of 'film'"):
        frames.view_of(Framing(crop=(0, 0, 11, 5)), (10, 20, 3), "film")
    with pytest.raises(UserError, match="`crop=0,16,5,5`"):
        frames.view_of(Framing(crop=(0, 16, 5, 5)), (10, 20, 3), "film")
    with pytest.raises(UserError, match="become 100x2000 pixels; give a `size` of at most 512"):
        frames.view_of(Framing(size=(100,)), (10, 200, 3), "film")
