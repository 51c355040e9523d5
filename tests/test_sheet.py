# SPDX-License-Identifier: GPL-3.0-or-later
"""How objects look; what is drawn on a sheet is tested with the figures."""

import numpy as np

from sqair.evaluation import sheet


def test_ids_take_all_colours_before_one_comes_again():
    n = len(sheet.COLOURS)
    assert len({sheet.colour_of(i) for i in range(n)}) == n
    assert sheet.colour_of(n + 2) == sheet.colour_of(2.0)
    assert sheet.colour_of(-1) == sheet.UNKNOWN


def test_numbers_go_to_corners_that_can_be_seen():
    box = np.array([-2.0, 3.0, 6.0, 20.0])
    places = [sheet.number_place(box, i, (10, 12)) for i in range(4)]
    assert places == [
        ((0, 3), False, False),
        ((0, 12), False, True),
        ((4, 3), True, False),
        ((4, 12), True, True),
    ]
    assert sheet.number_place(np.array([11.0, 0, 3, 3]), 0, (10, 12)) is None
    assert [sheet.number_of(i) for i in (7.0, -1)] == ["7", "?"]


def test_pictures_are_made_red_green_and_blue():
    rgb = sheet.as_rgb(np.array([[[0.5], [np.nan]], [[2.0], [-1.0]]]))
    assert rgb.shape == (2, 2, 3)
    np.testing.assert_array_equal(rgb[..., 2], [[0.5, 0.0], [1.0, 0.0]])
