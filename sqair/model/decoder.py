# SPDX-License-Identifier: GPL-3.0-or-later
"""The decoder `p(x | z)`: objects to pixels (section 3.1 of the paper)."""

from typing import Any, NamedTuple

import numpy as np

from sqair.engine.active_slots import masked_call, masked_sum
from sqair.engine.layers import fixed_scalar
from sqair.engine.tensors import flatten, gather_rows, merge_leading, range_of, size, split_leading
from sqair.graph_mode import snt, tf
from sqair.model import spatial_transformer
from sqair.model.distributions import HALF_LOG_TWO_PI

MASK_STEEPNESS = 20.0
MASK_OFFSET = 10.0
_ONE_MORE_SLOT = [[0, 0], [0, 1], [0, 0]]


class PixelDistribution(NamedTuple):
    """`p(x | z)` of n frames: independent Gaussian pixels."""

    mean: Any  # [n, H, W, C], the canvas
    std: Any  # [n, H, W, C]


class Decoder(snt.AbstractModule):
    """Writes each present object's glimpse where it belongs, over a learned background that shows inside glimpses.

    `mean = sum_n presence_n write(glimpse_n) + mask * mean_image`, `std = mask * output_std + (1 - mask) *
    background_std`; both standard deviations are fixed and start alike. As in the authors' release.
    """

    def __init__(
        self,
        mean_image,
        glimpse_decoder,
        glimpse_size,
        output_scale,
        output_std,
        compact=True,
        name="decoder",
    ):
        """Sets the decoder up.

        Args:
            mean_image: `[H, W, C]` float32 array, where the background starts.
            glimpse_decoder: module that maps appearances `[m, Z]` to glimpses `[m, g, g, C]`.
            glimpse_size: int g.
            output_scale: float, where the factor on glimpses starts.
            output_std: float > 0, the standard deviation of pixels, of objects and of background.
            compact: bool, decode only what is present?
        """
        super().__init__(name=name)
        self._image_shape = tuple(mean_image.shape)
        self._glimpse_decoder, self._glimpse_size, self._compact = glimpse_decoder, glimpse_size, compact
        with self._enter_variable_scope():
            self._scale = tf.get_variable(
                "output_scale", [], initializer=tf.constant_initializer(output_scale)
            )
            background = tf.constant_initializer(mean_image)
            self._mean_image = tf.get_variable("mean_image", self._image_shape, initializer=background)
            # The authors' release stores square roots.
            self._root_std = fixed_scalar("output_std_root", output_std**0.5)
            self._root_background_std = fixed_scalar("background_std_root", output_std**0.5)

    def glimpses(self, what, presence):
        """Appearance of each object before it is written.

        Args:
            what: `[n, N, Z]`.
            presence: `[n, N]`, 0 or 1.

        Returns:
            `[n, N, g, g, C]`; zeros where nothing is present.
        """
        glimpses = masked_call(self._decode, presence > 0.5, [what], compact=self._compact)
        side, channels = self._glimpse_size, self._image_shape[2]
        return tf.reshape(glimpses, [-1, presence.shape.as_list()[1], side, side, channels])

    def glimpses_over_time(self, what, presence):
        """As `glimpses`, of `[T, R, N, ...]` each."""
        glimpses = self.glimpses(merge_leading(what), merge_leading(presence))
        return split_leading(glimpses, size(presence, axis=1))

    def render(self, images, latents, particles):
        """Canvas `[T, R, H, W, C]`, log-likelihood `[T, R]` and glimpses `[T, R, N, g, g, C]` of frames and particles.

        Frame by frame: the cores share frames, and canvases stay in the processor's cache.

        Args:
            images: `[T, B, H, W, C]`.
            latents: `Latents` of `[T, R, ...]`.
            particles: int K; row `b * K + k` is of image b.
        """
        what, where, presence, _ = latents
        image_index = range_of(size(presence, axis=1)) // particles

        def draw(frame):
            image, *objects = frame
            pixels = self(*objects)
            return pixels.mean, log_likelihood(gather_rows(image, image_index), pixels)

        frames = images, what, where, presence
        canvas, log_likelihoods = tf.map_fn(draw, frames, dtype=(tf.float32, tf.float32))
        return canvas, log_likelihoods, self.glimpses_over_time(what, presence)

    def _decode(self, what):
        """Glimpses `[m, g * g * C]` of appearances `[m, Z]`."""
        return self._scale * flatten(self._glimpse_decoder(what))

    def _build(self, what, where, presence):
        """Renders n frames.

        Args:
            what: `[n, N, Z]`.
            where: `[n, N, 4]` logits.
            presence: `[n, N]`, 0 or 1.

        Returns:
            `PixelDistribution`.
        """
        canvas = masked_sum(self._write, presence > 0.5, [what, where], self._compact)
        canvas = tf.reshape(canvas, [-1] + list(self._image_shape))
        mask = self._mask(where, presence)
        std, background_std = tf.square(self._root_std), tf.square(self._root_background_std)
        return PixelDistribution(
            canvas + mask * self._mean_image,
            background_std + mask * tf.fill([self._image_shape[2]], std - background_std),
        )

    def _mask(self, where, presence):
        """Where objects are: `sigmoid(20 * (glimpses of ones, written) - 10)`, `[n, H, W, 1]`."""
        size, n_slots = self._glimpse_size, presence.shape.as_list()[1]
        # One more row and column add the offset to the product, instead of another pass over all pixels.
        steepness, offset = [np.full([n_slots + 1, 1], value, np.float32) for value in (MASK_STEEPNESS, 1.0)]
        steepness[-1], offset[-1] = 1.0, -MASK_OFFSET
        covered_rows, covered_columns = [
            tf.pad(
                tf.expand_dims(presence, -1) * spatial_transformer.bilinear_coverage(pixels, size),
                _ONE_MORE_SLOT,
                constant_values=1.0,
            )
            for pixels in spatial_transformer.glimpse_pixels(where, self._image_shape[:2], size)
        ]
        coverage = tf.matmul(covered_rows * steepness, covered_columns * offset, transpose_a=True)
        return tf.expand_dims(tf.sigmoid(coverage), -1)

    def _write(self, what, where):
        """Objects `[m, Z]` at `[m, 4]` locations to canvases `[m, H * W * C]`."""
        size, (height, width, channels) = self._glimpse_size, self._image_shape
        rows, columns = spatial_transformer.glimpse_pixels(where, (height, width), size)
        by_row, by_column = [spatial_transformer.bilinear_weights(x, size) for x in (rows, columns)]
        glimpses = self._decode(what)
        if channels > 1:
            glimpses = tf.transpose(tf.reshape(glimpses, [-1, size, size, channels]), [0, 1, 3, 2])
        stretched = tf.matmul(tf.reshape(glimpses, [-1, size * channels, size]), by_column, transpose_b=True)
        canvas = tf.matmul(by_row, tf.reshape(stretched, [-1, size, channels * width]))
        if channels > 1:
            canvas = tf.transpose(tf.reshape(canvas, [-1, height, channels, width]), [0, 1, 3, 2])
        return tf.reshape(canvas, [-1, height * width * channels])


def log_likelihood(images, pixels):
    """Log-likelihood in nats of `[n, H, W, C]` images under a `PixelDistribution`, summed over pixels: `[n]`."""
    n_pixels = int(np.prod(images.shape.as_list()[1:]))

    @tf.custom_gradient  # in one pass over the pixels instead of several
    def log_density(images, mean, std):
        error = (images - mean) / std
        squares, log_stds = [tf.reduce_sum(x, axis=[1, 2, 3]) for x in (error * error, tf.math.log(std))]

        def gradient(to_total):
            weights = tf.reshape(to_total, [-1, 1, 1, 1]) / std
            to_mean = weights * error
            return -to_mean, to_mean, weights * (error * error - 1.0)

        return -0.5 * squares - log_stds - n_pixels * HALF_LOG_TWO_PI, gradient

    return log_density(images, *pixels)
