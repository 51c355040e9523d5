# SPDX-License-Identifier: GPL-3.0-or-later
"""What discovery and propagation share: `q(what | image, where)`, the statistics of locations, and fully connected
encoders and decoder.
"""

from typing import Any, NamedTuple

from sqair.engine.layers import MLP, Linear, fixed_scalar
from sqair.graph_mode import snt, tf
from sqair.model import spatial_transformer
from sqair.model.distributions import MIN_SCALE, positive_scale

MASK_HIDDEN = 128
MASK_BIAS = 1.0


class WhatStatistics(NamedTuple):
    """Gaussian statistics of an appearance."""

    loc: Any  # [m, Z]
    scale: Any  # [m, Z]


class GlimpseEncoder(snt.AbstractModule):
    """`q(what | image, where)`: reads a glimpse and encodes it; shared by discovery and propagation."""

    def __init__(
        self, network, image_shape, glimpse_size, hidden_size, n_what, masked, name="glimpse_encoder"
    ):
        """Sets the encoder up.

        Args:
            network: module that maps glimpses `[m, g, g, C]` to features `[m, n]`.
            image_shape: ints (H, W, C).
            glimpse_size, hidden_size, n_what: ints g, D, Z.
            masked: bool, mask the glimpses of propagated objects?
        """
        super().__init__(name=name)
        self._network, self._glimpse_size = network, glimpse_size
        self._image_size, self._channels = tuple(image_shape[:2]), image_shape[2]
        with self._enter_variable_scope():
            self._statistics = Linear(2 * n_what, name="statistics")
            self._min_scale = fixed_scalar("min_scale", MIN_SCALE)
            sizes = [MASK_HIDDEN], glimpse_size**2
            inputs = dict(temporal=hidden_size)
            self._mask = MLP(*sizes, MASK_BIAS, inputs, name="mask") if masked else None

    @property
    def mask_layers(self):
        """The networks, one or none, that take `temporal`."""
        return [self._mask] if self._mask else []

    def mask(self, temporal):
        """`[m, g, g, C]` in (0, 1) from the temporal state, `[m, D]` or an early input; `[m, 1, 1, 1]` ones if off."""
        if not self._mask:
            return tf.stop_gradient(tf.ones(tf.stack([tf.shape(temporal.value)[0], 1, 1, 1])))
        mask = tf.sigmoid(self._mask(temporal=temporal))
        mask = tf.reshape(mask, [-1, self._glimpse_size, self._glimpse_size, 1])
        return tf.tile(mask, [1, 1, 1, self._channels]) if self._channels > 1 else mask

    def _build(self, images, image_index, where, mask=None):
        """Statistics of what is at `where`.

        Args:
            images: `[B, P, Q, C]` from `spatial_transformer.pad_images`.
            image_index: `[m]` int32, the image of each row.
            where: `[m, 4]` logits.
            mask: from `mask`, or None.

        Returns:
            `WhatStatistics`, `[m, Z]` each.
        """
        glimpses = spatial_transformer.read_glimpses(
            images, self._image_size, image_index, where, self._glimpse_size
        )
        if mask is not None:
            glimpses *= mask
        loc, scale = tf.split(self._statistics(self._network(glimpses)), 2, axis=-1)
        return WhatStatistics(loc, positive_scale(scale, self._min_scale))


class WhereStatistics(snt.AbstractModule):
    """Location statistics from features: an MLP to 8 numbers and a learned offset of the scales."""

    def __init__(self, hidden_size, scale_bias, inputs, name="where_statistics"):
        """Args: hidden_size: int D; scale_bias: float, where the offset starts; inputs: dict of name -> width."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2, 8, inputs=inputs)
            self._offset = tf.get_variable(
                "scale_offset", [], initializer=tf.constant_initializer(scale_bias)
            )

    @property
    def named_weights(self):
        """List of `NamedWeights`, of the first layer."""
        return self._mlp.named_weights

    def _build(self, **inputs):
        """`[m, n]` each to (location `[m, 4]`, raw scale `[m, 4]` before its softplus)."""
        loc, raw_scale = tf.split(self._mlp(**inputs), 2, axis=-1)
        return loc, raw_scale + self._offset


class MLPGlimpseDecoder(snt.AbstractModule):
    """Appearance to glimpse, `[m, Z]` to `[m, g, g, C]`, fully connected."""

    def __init__(self, hidden_size, glimpse_size, channels, name="glimpse_decoder"):
        """Args: hidden_size, glimpse_size, channels: ints D, g, C."""
        super().__init__(name=name)
        self._shape = [glimpse_size, glimpse_size, channels]
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2, glimpse_size**2 * channels)

    def _build(self, what):
        return tf.reshape(self._mlp(what), [-1] + self._shape)


def mlp_networks(image_shape, hidden_size, glimpse_size):
    """The fully connected image encoder, glimpse encoder and glimpse decoder; ints (H, W, C), D, g."""
    return (
        MLP([hidden_size] * 2, name="image_encoder"),
        MLP([hidden_size] * 2, name="glimpse_encoder"),
        MLPGlimpseDecoder(hidden_size, glimpse_size, image_shape[2]),
    )
