# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks that both discovery and propagation use: encoders of images and glimpses, statistics of locations."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair.engine.layers import MIN_SCALE, MLP, Linear, Share, fixed_scalar, positive_scale
from sqair.model import spatial_transformer

MASK_HIDDEN = 128
MASK_BIAS = 1.0


class WhatStatistics(NamedTuple):
    """Gaussian statistics of an appearance, read from a glimpse."""

    loc: Any  # [m, Z]
    scale: Any  # [m, Z]


class GlimpseEncoder(snt.AbstractModule):
    """`q(what | image, where)`: reads a glimpse and encodes it; shared by discovery and propagation."""

    def __init__(self, image_shape, glimpse_size, hidden_size, n_what, masked, name="glimpse_encoder"):
        """Args: image_shape: ints (H, W, C); glimpse_size, hidden_size, n_what: ints g, D, Z; masked: use masks?"""
        super().__init__(name=name)
        self._glimpse_size, self._hidden_size = glimpse_size, hidden_size
        self._image_size, self._channels = tuple(image_shape[:2]), image_shape[2]
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2)
            self._statistics = Linear(2 * n_what, name="statistics")
            self._min_scale = fixed_scalar("min_scale", MIN_SCALE)
            sizes = [MASK_HIDDEN], glimpse_size**2
            self._mask = MLP(*sizes, MASK_BIAS, widths=[hidden_size], name="mask") if masked else None

    @property
    def mask_share(self):
        """The `Share` of features `[m, D]` in the hidden layer of the mask; of no width if masks are off."""
        return self._mask.share() if self._mask else Share(tf.zeros([self._hidden_size, 0]), None)

    def mask(self, hidden):
        """`[m, g * g * C]` in (0, 1) from what `mask_share` makes; an empty mask `[m, 0]` if masks are off."""
        if not self._mask:
            return hidden
        mask = tf.sigmoid(self._mask(None, hidden))
        if self._channels == 1:
            return mask
        return tf.reshape(
            tf.tile(mask[..., None], [1, 1, self._channels]), [-1, mask.shape.as_list()[1] * self._channels]
        )

    def _build(self, padded_images, image_index, where, mask=None):
        """Statistics of what is at `where`.

        Args:
            padded_images: `[B, P, Q, C]` from `spatial_transformer.pad_images`.
            image_index: `[m]` int32, the image of each row.
            where: `[m, 4]` logits.
            mask: `[m, g * g * C]` from `mask`, or None.

        Returns:
            `WhatStatistics`, `[m, Z]` each.
        """
        glimpses = spatial_transformer.read_glimpses(
            padded_images, self._image_size, image_index, where, self._glimpse_size
        )
        if mask is not None and mask.shape.as_list()[1]:
            glimpses *= mask
        loc, scale = tf.split(self._statistics(self._mlp(glimpses)), 2, axis=-1)
        return WhatStatistics(loc, positive_scale(scale, self._min_scale))


class ImageEncoder(snt.AbstractModule):
    """Encodes whole images, `[n, H, W, C]` to `[n, D]`."""

    def __init__(self, hidden_size, name="image_encoder"):
        """Args: hidden_size: int D."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2)

    def _build(self, images):
        return self._mlp(snt.BatchFlatten()(images))


class WhereStatistics(snt.AbstractModule):
    """Location statistics from features: an MLP to 8 numbers and a learned offset of the scales."""

    def __init__(self, hidden_size, scale_bias, widths=None, name="where_statistics"):
        """Args: hidden_size: int D; scale_bias: float, where the raw scales' offset starts; widths: as of `MLP`."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2, 8, widths=widths)
            self._offset = tf.compat.v1.get_variable(
                "scale_offset", [], initializer=tf.constant_initializer(scale_bias)
            )

    def share(self, parts=(0,), bias=True):
        """As `MLP.share`."""
        return self._mlp.share(parts, bias)

    def _build(self, features, share=None, parts=(0,)):
        """`[m, n]` to (location `[m, 4]`, raw scale `[m, 4]` before its softplus); `share`, `parts` as of `MLP`."""
        loc, raw_scale = tf.split(self._mlp(features, share, parts), 2, axis=-1)
        return loc, raw_scale + self._offset
