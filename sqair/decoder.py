# SPDX-License-Identifier: GPL-3.0-or-later
"""The decoder: objects to pixels (section 3.1 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops, spatial_transformer
from sqair.distributions import HALF_LOG_TWO_PI
from sqair.networks import MLP, fixed_scalar

MASK_STEEPNESS = 20.0
MASK_OFFSET = 10.0


class DecoderOutputs(NamedTuple):
    """The image model of n frames."""

    canvas: Any  # [n, H, W, C] mean of each pixel
    std: Any  # [n, H, W, C] deviation of each pixel
    glimpses: Any  # [n, N, g, g, C] appearance of each object before it is written


class Decoder(snt.AbstractModule):
    """`p(x | z)`: writes each present object's glimpse where it belongs and adds a learned background."""

    def __init__(
        self, mean_image, glimpse_size, hidden_size, output_scale, output_std, compact=True, name="decoder"
    ):
        """Sets the decoder up.

        Args:
            mean_image: `[H, W, C]` float32 array, where the background starts.
            glimpse_size: int g.
            hidden_size: int D.
            output_scale: float, where the factor on glimpses starts.
            output_std: float > 0, the deviation of pixels, of objects and of background.
            compact: decode only what is present?
        """
        super().__init__(name=name)
        self._image_shape = tuple(mean_image.shape)
        self._glimpse_size, self._compact = glimpse_size, compact
        channels = self._image_shape[-1]
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2, glimpse_size**2 * channels)
            self._scale = tf.compat.v1.get_variable(
                "output_scale", [], initializer=tf.constant_initializer(output_scale)
            )
            background = tf.constant_initializer(mean_image)
            self._mean_image = tf.compat.v1.get_variable(
                "mean_image", self._image_shape, initializer=background
            )
            # The authors' release stores square roots.
            self._root_std = fixed_scalar("output_std_root", output_std**0.5)
            self._root_background_std = fixed_scalar("background_std_root", output_std**0.5)

    def _build(self, what, where, presence):
        """Decodes n frames.

        Args:
            what: `[n, N, Z]`.
            where: `[n, N, 4]` logits.
            presence: `[n, N]`, 0 or 1.

        Returns:
            `DecoderOutputs`.
        """
        n_slots, g = presence.shape.as_list()[1], self._glimpse_size
        height, width, channels = self._image_shape
        glimpses = ops.call_where(
            lambda x: self._scale * self._mlp(x),
            tf.reshape(presence, [-1]) > 0.5,
            (tf.reshape(what, [-1, what.shape.as_list()[-1]]),),
            0.0,
            self._compact,
        )
        by_row, by_column = spatial_transformer.write_weights(tf.reshape(where, [-1, 4]), (height, width), g)
        by_row *= tf.reshape(presence, [-1, 1, 1])
        canvas = self._write(by_row, by_column, glimpses, n_slots)
        coverage = tf.matmul(
            tf.reshape(tf.reduce_sum(by_row, -1), [-1, n_slots, height]),
            tf.reshape(tf.reduce_sum(by_column, -1), [-1, n_slots, width]),
            transpose_a=True,
        )
        mask = tf.sigmoid(MASK_STEEPNESS * coverage - MASK_OFFSET)[..., None]
        if channels > 1:
            mask = tf.tile(mask, [1, 1, 1, channels])
        std, background_std = tf.square(self._root_std), tf.square(self._root_background_std)
        return DecoderOutputs(
            canvas + mask * self._mean_image,
            background_std + mask * (std - background_std),
            tf.reshape(glimpses, [-1, n_slots, g, g, channels]),
        )

    def _write(self, by_row, by_column, glimpses, n_slots):
        """`[n, H, W, C]`: the sum over slots of `by_row glimpse by_column^T` (the sum is part of the product)."""
        g, (height, width, channels) = self._glimpse_size, self._image_shape
        glimpses = tf.reshape(glimpses, [-1, g, g, channels])
        if channels > 1:
            glimpses = tf.transpose(glimpses, [0, 1, 3, 2])
        stretched = tf.matmul(tf.reshape(glimpses, [-1, g * channels, g]), by_column, transpose_b=True)
        stretched = tf.reshape(stretched, [-1, n_slots * g, channels * width])
        by_row = tf.transpose(tf.reshape(by_row, [-1, n_slots, height, g]), [0, 2, 1, 3])
        canvas = tf.matmul(tf.reshape(by_row, [-1, height, n_slots * g]), stretched)
        canvas = tf.reshape(canvas, [-1, height, channels, width])
        return (
            tf.transpose(canvas, [0, 1, 3, 2]) if channels > 1 else tf.reshape(canvas, [-1, height, width, 1])
        )

    def log_likelihood(self, images, decoded):
        """Log-likelihood in nats of `[n, H, W, C]` images, summed over pixels: `[n]`."""
        error = (images - decoded.canvas) / decoded.std
        return tf.reduce_sum(
            -0.5 * error * error - tf.math.log(decoded.std) - HALF_LOG_TWO_PI, axis=[1, 2, 3]
        )
