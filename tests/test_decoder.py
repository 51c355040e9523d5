# SPDX-License-Identifier: GPL-3.0-or-later
"""The decoder against pixel-by-pixel loops, and the likelihood of images with its gradients."""

import numpy as np
import pytest
from scipy import special, stats
from test_spatial_transformer import write_by_loops
from tf_run import run

from sqair.graph_mode import tf
from sqair.model.decoder import Decoder, PixelDistribution, log_likelihood

HEIGHT, WIDTH, G, N, Z = 7, 10, 4, 3, 2
PRESENCE = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 1], [0, 1, 0]], np.float32)
ROWS = len(PRESENCE)
SCALE, STD, BACKGROUND_STD = 0.7, 0.4, 0.6
OBJECT, BACKGROUND = 1 / (1 + np.exp(-10.0)), 1 / (1 + np.exp(10.0))  # the mask inside, and its floor


class Frames:
    """Some frames, their objects, and what the decoder makes of them; glimpses are linear in `what`."""

    def __init__(self, channels, presence=PRESENCE):
        self.rng = np.random.RandomState(0)
        self.presence, self.shape = presence, (HEIGHT, WIDTH, channels)
        self.weights = self.rng.normal(size=(Z, G * G * channels))
        self.background = self.rng.uniform(size=self.shape).astype(np.float32)
        self.what, self.where = [self.rng.normal(size=(ROWS, N, n)) for n in (Z, 4)]
        self.fed = tf.placeholder(tf.float32, [None, N, Z]), tf.placeholder(tf.float32, [None, N, 4])

    def decode(self, what):
        weights = tf.constant(self.weights, tf.float32)
        return tf.reshape(tf.matmul(what, weights), [-1, G, G, self.shape[-1]])

    def decoder(self, compact=True):
        return Decoder(self.background, self.decode, G, SCALE, STD, compact)

    def feed(self):
        """The deviation of the background is another one than the objects'; stored is its root."""
        roots = [v for v in tf.global_variables() if v.op.name.endswith("background_std_root")]
        feed = dict(zip(self.fed, (self.what, self.where)))
        feed.update(dict.fromkeys(roots, BACKGROUND_STD**0.5))
        return feed

    def glimpses(self):
        return SCALE * self.what.dot(self.weights).reshape(ROWS, N, G, G, -1)

    def by_loops(self):
        """Canvas and mask."""
        glimpses, canvases, masks = self.glimpses(), [], []
        for row in range(ROWS):
            canvas, coverage = np.zeros(self.shape), np.zeros((HEIGHT, WIDTH, 1))
            for n in np.nonzero(self.presence[row])[0]:
                canvas += write_by_loops(glimpses[row, n], self.where[row, n], HEIGHT, WIDTH)
                coverage += write_by_loops(np.ones((G, G, 1)), self.where[row, n], HEIGHT, WIDTH)
            mask = special.expit(20 * coverage - 10)
            canvases.append(canvas + mask * self.background)
            masks.append(mask)
        return np.array(canvases), np.array(masks)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_canvas_and_deviation_against_loops(channels, compact):
    """What of objects is written where, the background below them, two deviations of pixels."""
    frames = Frames(channels)
    pixels = frames.decoder(compact)(*frames.fed, tf.constant(PRESENCE))
    assert pixels.mean.shape.as_list()[1:] == pixels.std.shape.as_list()[1:] == list(frames.shape)
    pixels = run(pixels, frames.feed())
    canvas, mask = frames.by_loops()
    assert 0.05 < (mask > 0.5).mean() < 0.9
    np.testing.assert_allclose(pixels.mean, canvas, atol=1e-4)
    std = np.broadcast_to(mask * STD + (1 - mask) * BACKGROUND_STD, canvas.shape)
    np.testing.assert_allclose(pixels.std, std, atol=1e-4)


@pytest.mark.parametrize("compact", [True, False])
def test_without_objects_there_is_the_background_at_the_floor_of_the_mask(compact):
    frames = Frames(3, np.zeros((ROWS, N), np.float32))
    pixels = run(frames.decoder(compact)(*frames.fed, tf.constant(frames.presence)), frames.feed())
    expected = np.broadcast_to(BACKGROUND * frames.background, pixels.mean.shape)
    np.testing.assert_allclose(pixels.mean, expected, rtol=2e-3)  # of TensorFlow's sigmoid
    np.testing.assert_allclose(pixels.std, BACKGROUND_STD, rtol=1e-4)


def test_an_object_that_fills_the_image_uncovers_all_of_the_background():
    frames = Frames(1, np.array([[1, 0, 0]] * ROWS, np.float32))
    frames.where[:] = [20.0, 20.0, 0.0, 0.0]
    frames.what[:] = 0.0
    pixels = run(frames.decoder()(*frames.fed, tf.constant(frames.presence)), frames.feed())
    expected = np.broadcast_to(OBJECT * frames.background, pixels.mean.shape)
    np.testing.assert_allclose(pixels.mean, expected, rtol=1e-4)
    np.testing.assert_allclose(pixels.std, STD, rtol=1e-3)


@pytest.mark.parametrize("compact", [True, False])
def test_glimpses_of_the_present_alone(compact):
    frames = Frames(3)
    glimpses = run(frames.decoder(compact).glimpses(frames.fed[0], tf.constant(PRESENCE)), frames.feed())
    assert glimpses.shape == (ROWS, N, G, G, 3)
    np.testing.assert_allclose(glimpses, PRESENCE[..., None, None, None] * frames.glimpses(), atol=1e-5)


def test_compact_and_dense_decoders_have_the_same_gradients():
    """Nothing flows to what is absent."""
    frames = Frames(3)
    gradients = []
    for compact in (True, False):
        pixels = frames.decoder(compact)(*frames.fed, tf.constant(PRESENCE))
        total = tf.reduce_sum(tf.sin(pixels.mean)) + tf.reduce_sum(tf.square(pixels.std))
        gradients.append(tf.gradients(total, frames.fed))
    compact, dense = run(gradients, frames.feed())
    for actual, expected in zip(compact, dense):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
        assert np.all(np.any(actual != 0, -1) == (PRESENCE == 1))


# Likelihood


def images_and_pixels(channels):
    rng = np.random.RandomState(0)
    shape = (3, HEIGHT, WIDTH, channels)
    values = rng.uniform(size=shape), rng.normal(size=shape), rng.uniform(0.2, 1.5, size=shape)
    return values, [tf.constant(x, tf.float32) for x in values]


@pytest.mark.parametrize("channels", [1, 3])
def test_log_likelihood_against_scipy(channels):
    """Summed over pixels and channels."""
    values, (images, mean, std) = images_and_pixels(channels)
    total = log_likelihood(images, PixelDistribution(mean, std))
    assert total.shape.as_list() == [3]
    expected = stats.norm.logpdf(*values).sum((1, 2, 3))
    np.testing.assert_allclose(run(total), expected, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_the_likelihood_are_those_of_its_definition(channels):
    """To images, mean and deviation: TensorFlow derives them here."""
    _, tensors = images_and_pixels(channels)
    images, mean, std = tensors
    by_hand = log_likelihood(images, PixelDistribution(mean, std))
    definition = tf.reduce_sum(
        -0.5 * tf.square((images - mean) / std) - tf.log(std) - 0.5 * np.log(2 * np.pi), axis=[1, 2, 3]
    )
    weights = tf.constant([1.0, -0.5, 2.0])
    actual, expected = run([tf.gradients(total, tensors, weights) for total in (by_hand, definition)])
    for a, e in zip(actual, expected):
        assert np.any(e)
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)
