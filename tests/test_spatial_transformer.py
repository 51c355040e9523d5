# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing glimpses against pixel-by-pixel loops, boxes, and the bound on scales."""

import itertools

import numpy as np
import pytest
from tf_run import run

from sqair.graph_mode import tf
from sqair.model import spatial_transformer
from sqair.model.spatial_transformer import boxes_from_logits, logits_from_boxes

SHAPES = [((6, 9, 1), 5), ((9, 5, 3), 4), ((7, 7, 1), 7), ((12, 8, 2), 3)]  # images, glimpse size
WHERE = np.array(
    [
        [0.0, 0.0, 0.0, 0.0],  # half the image, in the middle
        [-1.0, 0.7, 0.4, -0.3],  # narrow and tall
        [1.5, 2.5, -1.2, 1.0],  # partly outside
        [-0.5, -0.5, 4.0, -4.0],  # mostly outside, in a corner
        [20.0, 20.0, 0.0, 0.0],  # everything
        [-4.0, -3.0, -0.2, 0.6],  # a few pixels
    ]
)


def coordinates(where):
    """(sx, sy), (tx, ty)."""
    return np.maximum(1 / (1 + np.exp(-where[:2])), 1e-4), np.tanh(where[2:])


def sample(picture, y, x):
    """Bilinear, zero outside; `picture` [H, W, C], `y` and `x` in pixels."""
    total, y0, x0 = np.zeros(picture.shape[-1]), int(np.floor(y)), int(np.floor(x))
    for i, j in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
        if 0 <= i < picture.shape[0] and 0 <= j < picture.shape[1]:
            total += (1 - abs(y - i)) * (1 - abs(x - j)) * picture[i, j]
    return total


def read_by_loops(image, where, size):
    (sx, sy), (tx, ty) = coordinates(where)
    height, width, channels = image.shape
    out = np.zeros((size, size, channels))
    for i, j in itertools.product(range(size), range(size)):
        v, u = 2 * i / (size - 1) - 1, 2 * j / (size - 1) - 1
        out[i, j] = sample(image, (sy * v + ty + 1) * (height - 1) / 2, (sx * u + tx + 1) * (width - 1) / 2)
    return out


def write_by_loops(glimpse, where, height, width):
    (sx, sy), (tx, ty) = coordinates(where)
    last = len(glimpse) - 1
    out = np.zeros((height, width, glimpse.shape[-1]))
    for i, j in itertools.product(range(height), range(width)):
        y, x = 2 * i / (height - 1) - 1, 2 * j / (width - 1) - 1
        out[i, j] = sample(glimpse, ((y - ty) / sy + 1) * last / 2, ((x - tx) / sx + 1) * last / 2)
    return out


def read(images, index, where, size):
    """The library's glimpses, `[m, size, size, C]`."""
    padded = spatial_transformer.pad_images(tf.constant(images, tf.float32))
    index = tf.constant(index, tf.int32)
    return spatial_transformer.read_glimpses(padded, images.shape[1:3], index, where, size)


def write(glimpses, where, image_size):
    """The library's canvases, `[m, H, W, C]`."""
    pixels = spatial_transformer.glimpse_pixels(where, image_size, glimpses.shape[1])
    rows, columns = [spatial_transformer.bilinear_weights(x, glimpses.shape[1]) for x in pixels]
    return tf.einsum("rhi,rijc,rwj->rhwc", rows, tf.constant(glimpses, tf.float32), columns)


@pytest.mark.parametrize("shape, size", SHAPES)
def test_reading_against_loops(shape, size):
    images = np.random.RandomState(0).uniform(size=(2,) + shape)
    index = [0, 1, 0, 1, 1, 0]
    actual = run(read(images, index, tf.constant(WHERE, tf.float32), size))
    expected = [read_by_loops(images[i], where, size) for i, where in zip(index, WHERE)]
    np.testing.assert_allclose(actual, expected, atol=2e-5)


@pytest.mark.parametrize("shape, size", SHAPES)
def test_writing_against_loops(shape, size):
    glimpses = np.random.RandomState(0).uniform(size=(len(WHERE), size, size, shape[-1]))
    actual = run(write(glimpses, tf.constant(WHERE, tf.float32), shape[:2]))
    expected = [write_by_loops(glimpse, where, *shape[:2]) for glimpse, where in zip(glimpses, WHERE)]
    np.testing.assert_allclose(actual, expected, atol=5e-5)


def test_any_number_of_rows():
    images = np.random.RandomState(0).uniform(size=(2, 6, 9, 1))
    where, index = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.int32, [None])
    padded = spatial_transformer.pad_images(tf.constant(images, tf.float32))
    glimpses = spatial_transformer.read_glimpses(padded, (6, 9), index, where, 5)
    rows, columns = spatial_transformer.glimpse_pixels(where, (6, 9), 5)
    assert glimpses.shape.as_list() == [None, 5, 5, 1]
    for m in (0, 1, 4):
        shapes = [x.shape for x in run([glimpses, rows, columns], {where: WHERE[:m], index: [1] * m})]
        assert shapes == [(m, 5, 5, 1), (m, 6), (m, 9)]


def test_a_glimpse_of_ones_covers_what_its_weights_sum_to():
    pixels = tf.constant(np.linspace(-3.0, 9.0, 97), tf.float32)
    weights = tf.reduce_sum(spatial_transformer.bilinear_weights(pixels, 6), -1)
    covered, expected = run([spatial_transformer.bilinear_coverage(pixels, 6), weights])
    np.testing.assert_allclose(covered, expected, atol=1e-6)
    assert set(covered[[0, -1]]) == {0}
    assert covered[48] == 1


@pytest.mark.parametrize("logit", [-9.0, -12.0, -60.0])
def test_tiny_scales(logit):
    """At and below the bound of 1e-4, in the middle of the image, all of a glimpse sees one pixel."""
    image = np.random.RandomState(0).uniform(size=(1, 7, 9, 1))
    where = tf.constant([[logit, logit, 0.0, 0.0]])
    glimpse = run(read(image, [0], where, 5))
    np.testing.assert_allclose(glimpse, np.full((1, 5, 5, 1), image[0, 3, 4, 0]), atol=2e-3)
    canvas = run(write(np.arange(25.0).reshape(1, 5, 5, 1), where, (7, 9)))
    expected = np.zeros((7, 9))
    expected[3, 4] = 12  # the middle of the glimpse
    np.testing.assert_allclose(canvas[0, ..., 0], expected, atol=1e-5)


def test_scales_are_bounded_in_the_forward_pass_only():
    where = tf.constant([[-12.0, 0.5, 0.3, -0.2]])
    scale, shift = spatial_transformer.coordinates(where)
    gradients = tf.gradients(scale, where)[0], tf.gradients(tf.sigmoid(where[:, :2]), where)[0]
    scale, shift, (actual, unbounded) = run([scale, shift, gradients])
    np.testing.assert_allclose(scale, [[1e-4, 1 / (1 + np.exp(-0.5))]], rtol=1e-5)
    np.testing.assert_allclose(shift, np.tanh([[0.3, -0.2]]), rtol=1e-5)
    np.testing.assert_allclose(actual, unbounded, rtol=1e-6)
    assert actual[0, 0] > 0


@pytest.mark.parametrize("what", ["read", "write"])
def test_gradients_against_central_differences(what):
    rng = np.random.RandomState(3)
    picture = rng.uniform(size=(2, 6, 9, 1)) if what == "read" else rng.uniform(size=(2, 5, 5, 1))
    points = np.array([[0.13, -0.4, 0.21, 0.3], [-0.7, 0.9, -0.35, 0.1]])
    upstream = rng.normal(size=(2, 5, 5, 1) if what == "read" else (2, 6, 9, 1))
    where = tf.placeholder(tf.float32, [2, 4])
    outputs = read(picture, [0, 1], where, 5) if what == "read" else write(picture, where, (6, 9))
    actual = run(tf.gradients(outputs, where, grad_ys=tf.constant(upstream, tf.float32))[0], {where: points})

    def objective(r, point):
        if what == "read":
            return np.sum(upstream[r] * read_by_loops(picture[r], point, 5))
        return np.sum(upstream[r] * write_by_loops(picture[r], point, 6, 9))

    for r, i in itertools.product(range(2), range(4)):
        step = 1e-6 * np.eye(4)[i]
        expected = (objective(r, points[r] + step) - objective(r, points[r] - step)) / 2e-6
        np.testing.assert_allclose(actual[r, i], expected, atol=2e-3)


def test_what_was_read_is_written_back_where_it_was():
    """A smooth image survives inside the box, and nothing is written outside it."""
    y, x = np.mgrid[:16, :22] / 10.0
    image = (np.sin(y) + np.cos(x) + 2)[None, ..., None]
    where = np.array([[0.3, -0.6, 0.25, -0.3]])
    glimpse = run(read(image, [0], tf.constant(where, tf.float32), 30))
    canvas = run(write(glimpse, tf.constant(where, tf.float32), (16, 22)))[0, ..., 0]
    top, left, _, _ = run(boxes_from_logits(tf.constant(where, tf.float32), (16, 22)))[0]
    (sx, sy), _ = coordinates(where[0])
    rows, columns = np.arange(16)[:, None], np.arange(22)
    bottom, right = top + 15 * sy, left + 21 * sx
    inside = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
    outside = (rows < top - 1) | (rows > bottom + 1) | (columns < left - 1) | (columns > right + 1)
    assert inside.sum() > 20
    np.testing.assert_allclose(canvas[inside], image[0, ..., 0][inside], atol=0.02)
    assert not canvas[outside].any()


# Boxes


def test_boxes_of_logits_done_by_hand():
    boxes = run(boxes_from_logits(tf.constant([[0.0, 30.0, 0.0, 0.0], [0.0, 0.0, 30.0, -30.0]]), (50, 30)))
    np.testing.assert_allclose(
        boxes, [[0, 14.5 * 0.5, 51, 15.5], [-12.25, 14.5 * 1.5, 25.5, 15.5]], atol=1e-4
    )


def test_boxes_and_logits_are_inverse():
    where = np.random.RandomState(0).uniform(-2.5, 2.5, size=(3, 20, 4)).astype(np.float32)
    boxes = boxes_from_logits(tf.constant(where), (40, 25))
    again = logits_from_boxes(boxes, (40, 25))
    boxes_again = boxes_from_logits(again, (40, 25))
    boxes, again, boxes_again = run([boxes, again, boxes_again])
    assert boxes.shape == where.shape
    np.testing.assert_allclose(again, where, atol=2e-3)
    np.testing.assert_allclose(boxes_again, boxes, atol=1e-3)


def test_boxes_beyond_what_logits_can_say_stay_finite():
    boxes = tf.constant([[-80.0, 300.0, 0.0, 1000.0], [5.0, 5.0, -3.0, 0.0]])
    logits = logits_from_boxes(boxes, (40, 25))
    logits, boxes = run([logits, boxes_from_logits(logits, (40, 25))])
    assert np.all(np.isfinite(logits))
    assert np.all(np.isfinite(boxes))


def test_boxes_hold_what_is_written():
    """The first pixel of the box is where the first row of the glimpse lands."""
    where = np.array([[-0.4, 0.2, 0.1, -0.25]])
    canvas = run(write(np.ones((1, 40, 40, 1)), tf.constant(where, tf.float32), (60, 80)))[0, ..., 0]
    top, left, height, width = run(boxes_from_logits(tf.constant(where, tf.float32), (60, 80)))[0]
    rows, columns = np.nonzero(canvas.max(1))[0], np.nonzero(canvas.max(0))[0]
    assert abs(rows[0] - top) < 1.5
    assert abs(columns[0] - left) < 1.5
    assert abs(rows[-1] - rows[0] + 1 - height) < 3
    assert abs(columns[-1] - columns[0] + 1 - width) < 3


def test_a_model_that_diverged_reads_something_instead_of_crashing():
    """The sampling kernel reads beyond its memory when a box is not a number."""
    images = np.ones((1, 6, 9, 1))
    where = tf.constant([[np.nan] * 4, [np.inf, -np.inf, np.inf, np.nan], [0.0] * 4], tf.float32)
    glimpses = read(images, [0, 0, 0], where, 5)
    gradient = tf.gradients(glimpses, where)[0]
    glimpses, gradient = run([glimpses, gradient])
    np.testing.assert_allclose(glimpses[2], 1, atol=1e-6)
    assert np.all(np.isfinite(gradient[2]))
