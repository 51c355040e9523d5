# SPDX-License-Identifier: GPL-3.0-or-later
"""What objects draw, against the slow reference of the decoder's geometry."""

import numpy as np
import pytest
import reference_parts

from sqair.evaluation.rendering import glimpse_span, render

SHAPE, SIDE = (12, 17), 5
WHERE = np.array(
    [[0.0, 0.3, 0.2, -0.1], [-1.5, 0.7, 0.4, -0.3], [1.5, -2.5, -1.2, 1.0], [2.0, 2.0, 0.0, 0.0]]
)


@pytest.fixture
def objects():
    """Boxes and two-coloured glimpses of `WHERE`."""
    glimpses = np.random.RandomState(0).uniform(-0.1, 1, [len(WHERE), SIDE, SIDE, 2])
    return np.array(reference_parts.boxes(WHERE, *SHAPE)), glimpses


def test_objects_are_drawn_as_by_the_decoder(objects):
    boxes, glimpses = objects
    drawn = render(boxes, glimpses, SHAPE + (2,))
    assert drawn.shape == (4,) + SHAPE + (2,)
    for channel in range(2):
        wanted = reference_parts.write_glimpse(glimpses[..., channel], WHERE, *SHAPE)
        assert np.all(np.any(wanted > 0.3, axis=(1, 2)))
        np.testing.assert_allclose(drawn[..., channel], wanted, atol=1e-10)


def test_a_window_is_a_part_of_the_canvas(objects):
    boxes, glimpses = objects
    whole = render(boxes, glimpses, SHAPE)
    np.testing.assert_allclose(render(boxes, glimpses, SHAPE, (3, 5), (4, 6)), whole[:, 3:7, 5:11])
    each = np.arange(4)[:, None] + [1, 2]
    for n, drawn in enumerate(render(boxes, glimpses, SHAPE, each, (4, 6))):
        np.testing.assert_allclose(drawn, whole[n, n + 1 : n + 5, n + 2 : n + 8])


def test_the_canvas_goes_on_beyond_the_image(objects):
    boxes, glimpses = objects
    moved = boxes - [20, 30, 0, 0]
    assert not np.any(render(moved, glimpses, SHAPE))
    drawn = render(moved, glimpses, SHAPE, (-20, -30))
    np.testing.assert_allclose(drawn, render(boxes, glimpses, SHAPE), atol=1e-10)


def test_first_and_last_pixels_lie_where_the_span_says():
    box, glimpse = np.array([2.0, 3.0, 13 / 11 * 8, 18 / 16 * 4]), np.zeros((SIDE, SIDE, 1))
    np.testing.assert_allclose(glimpse_span(box, SHAPE), [8, 4])
    glimpse[0, 0], glimpse[-1, -1] = 0.5, 1.0
    drawn = render(box, glimpse, SHAPE)[..., 0]
    assert drawn[2, 3] == pytest.approx(0.5) and drawn[10, 7] == pytest.approx(1.0)
    assert drawn[3, 3] == pytest.approx(0.25) and drawn[2, 4] == pytest.approx(0)


def test_a_box_without_size_draws_a_pixel_at_most():
    drawn = render(np.array([[4.0, 5.0, 0.0, 0.0], [4.5, 5.0, 0.0, 0.0]]), np.ones((2, SIDE, SIDE, 1)), SHAPE)
    assert np.sum(drawn[0]) == drawn[0, 4, 5, 0] == 1 and not np.any(drawn[1])


@pytest.mark.parametrize("shape", [(2, 5, 5, 1), (3, 5, 4, 1), (5, 5), (3, 0, 0, 1)])
def test_glimpses_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"glimpses has shape .* are needed"):
        render(np.ones((3, 4)), np.ones(shape), SHAPE)
