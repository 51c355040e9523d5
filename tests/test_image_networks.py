# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of the networks that draw images; `test_vrnn.py` has their numbers."""

import numpy as np
import pytest
from tf_run import run

from sqair.baselines.image_networks import ConvImageDecoder, MLPImageDecoder
from sqair.graph_mode import tf


@pytest.mark.parametrize("shape", [(50, 50, 1), (1, 1, 1), (9, 16, 3)])
def test_images_of_any_size_are_drawn(shape):
    features = tf.zeros([2, 8])
    for decoder in (ConvImageDecoder(8, shape), MLPImageDecoder(8, 2, shape)):
        (weights,) = decoder.named_weights
        images = decoder(latent=features, output=features)
        assert weights.widths == dict(latent=8, output=8)
        assert images.shape.as_list() in ([2, *shape], [None, *shape])
        assert run(images).shape == (2, *shape)


@pytest.mark.parametrize("make", [lambda s: ConvImageDecoder(8, s), lambda s: MLPImageDecoder(8, 1, s)])
def test_what_is_drawn_is_not_bounded_and_depends_on_both_inputs(make):
    rng = np.random.RandomState(0)
    latent, output = (tf.constant(9 * rng.normal(size=[1, 8]), tf.float32) for _ in range(2))
    images = make((6, 5, 1))(latent=latent, output=output)
    images, *gradients = run([images] + tf.gradients(tf.reduce_sum(tf.square(images)), [latent, output]))
    assert images.min() < 0 and images.max() > 0
    assert all(np.any(gradient) for gradient in gradients)
