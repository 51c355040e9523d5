# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two phases share: statistics of locations and of glimpses; the glimpse decoder."""

import numpy as np
import pytest
from tf_run import run

from sqair.engine.early import EarlyProducts
from sqair.engine.layers import MLP
from sqair.graph_mode import tf
from sqair.model import networks, spatial_transformer


def test_location_statistics_start_at_the_given_offset():
    statistics = networks.WhereStatistics(8, -3.0, dict(relation=5, temporal=2))
    loc, raw_scale = statistics(relation=tf.zeros([2, 5]), temporal=tf.zeros([2, 2]))
    loc, raw_scale = run([loc, raw_scale])
    np.testing.assert_array_equal(loc, np.zeros((2, 4)))
    np.testing.assert_array_equal(raw_scale, np.full((2, 4), -3))


G, D, Z, M = 4, 16, 3, 3  # of the glimpse encoders below; M glimpses


class GlimpseEncoding:
    """A glimpse encoder on two images, three times at the same place: image 1, 0 and 1."""

    def __init__(self, channels, masked):
        self.rng = np.random.RandomState(0)
        images = self.rng.uniform(size=(2, 6, 8, channels))
        self.padded = spatial_transformer.pad_images(tf.constant(images, tf.float32))
        self.encoder = networks.GlimpseEncoder(MLP([D] * 2), images.shape[1:], G, D, Z, masked)
        self.plain = self(None)

    def mask(self):
        temporal = tf.constant(self.rng.normal(size=(M, D)), tf.float32)
        return self.encoder.mask(EarlyProducts(*self.encoder.mask_layers)(temporal=temporal).temporal)

    def __call__(self, mask, images=None):
        images = self.padded if images is None else images
        return self.encoder(images, tf.constant([1, 0, 1]), tf.zeros([M, 4]), mask)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_mask_of_glimpses_has_a_value_for_every_pixel(channels):
    """In (0, 1), the same for all channels; zeros are as good as an empty image, ones as no mask."""
    encoding = GlimpseEncoding(channels, masked=True)
    mask = encoding.mask()
    assert mask.shape.as_list() == [M, G, G, channels]
    ones, zeros = encoding(tf.ones_like(mask)), encoding(tf.zeros_like(mask))
    empty, masked = encoding(None, tf.zeros_like(encoding.padded)), encoding(mask)
    results = run([mask, masked, encoding.plain, ones, zeros, empty])
    mask, masked, plain, ones, zeros, empty = results
    assert np.all((mask > 0) & (mask < 1))
    assert len(np.unique(mask[..., 0])) == M * G * G
    np.testing.assert_array_equal(mask, np.repeat(mask[..., :1], channels, -1))
    for a, b in ((plain, ones), (zeros, empty)):
        np.testing.assert_allclose(a.loc, b.loc, atol=1e-6)
        np.testing.assert_allclose(a.scale, b.scale, atol=1e-6)
    assert np.abs(masked.loc - plain.loc).max() > 1e-3


def test_statistics_of_glimpses_are_those_of_the_image_they_are_read_from():
    plain = GlimpseEncoding(1, masked=True).plain
    assert plain.loc.shape.as_list() == plain.scale.shape.as_list() == [M, Z]
    loc, scale = run([plain.loc, plain.scale])
    assert np.all(scale > 0.01)
    assert np.any(np.abs(loc[0] - loc[1]) > 1e-4)
    np.testing.assert_allclose(loc[0], loc[2], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_that_is_switched_off_changes_nothing_and_has_no_variables(channels):
    encoding = GlimpseEncoding(channels, masked=False)
    assert encoding.encoder.mask_layers == []
    mask = encoding.mask()
    assert not [v for v in tf.global_variables() if "mask" in v.op.name]
    mask, masked, plain = run([mask, encoding(mask), encoding.plain])
    assert mask.shape == (M, 1, 1, 1)
    for actual, expected in zip(masked, plain):
        np.testing.assert_array_equal(actual, expected)


def test_the_glimpse_decoder_gives_each_pixel_and_channel_a_number_of_its_own():
    what = tf.constant(np.random.RandomState(0).normal(size=(5, Z)), tf.float32)
    decoder = networks.MLPGlimpseDecoder(D, G, 2)
    glimpses = decoder(what)
    assert glimpses.shape.as_list() == [5, G, G, 2]
    weights = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
    assert weights["glimpse_decoder/mlp/output/w"] == [D, G * G * 2]
    glimpses = run(glimpses)
    assert len(np.unique(glimpses)) == glimpses.size
