# SPDX-License-Identifier: GPL-3.0-or-later
"""The small networks: multilayer perceptrons, recurrent cores with fused products, the glimpse encoder."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops, spatial_transformer
from sqair.errors import UserError
from sqair.loop_gradients import affine

MIN_SCALE = 1e-2  # lower bound of every learned standard deviation
MASK_HIDDEN = 128
MASK_BIAS = 1.0


def positive_scale(raw, min_scale=MIN_SCALE):
    """`softplus(raw) + min_scale`: a standard deviation from an unconstrained tensor."""
    return tf.nn.softplus(raw) + min_scale


def fixed_scalar(name, value):
    """A scalar that is stored with the model, as a variable, but not trained."""
    initializer = tf.constant_initializer(value)
    return tf.stop_gradient(tf.compat.v1.get_variable(name, [], initializer=initializer, trainable=False))


class Linear(snt.AbstractModule):
    """`x W + b`, initialised as `snt.Linear`; the bias is added by the operation that TensorFlow can fuse."""

    def __init__(self, output_size, bias_initializer=None, name="linear"):
        """Args: output_size: int; bias_initializer: zeros by default."""
        super().__init__(name=name)
        self._output_size = output_size
        self._bias_initializer = bias_initializer or tf.zeros_initializer()

    def _build(self, inputs):
        """Maps `[m, n]` to `[m, output_size]`."""
        size = inputs.shape.as_list()[-1]
        weights = tf.compat.v1.get_variable("w", [size, self._output_size], initializer=_linear_init(size))
        bias = tf.compat.v1.get_variable("b", [self._output_size], initializer=self._bias_initializer)
        return affine(inputs, weights, bias)


class MLP(snt.AbstractModule):
    """ELU hidden layers and, if `output_size` is given, a linear output layer."""

    def __init__(self, hidden_sizes, output_size=None, output_bias=0.0, name="mlp"):
        """Args: hidden_sizes: ints; output_size: int or None; output_bias: float, where its bias starts."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._hidden = [Linear(size, name=f"hidden_{i}") for i, size in enumerate(hidden_sizes)]
            bias = tf.constant_initializer(output_bias)
            self._output = output_size and Linear(output_size, bias, name="output")

    def _build(self, inputs):
        """Maps `[rows, n]` to `[rows, output_size]`."""
        for layer in self._hidden:
            inputs = tf.nn.elu(layer(inputs))
        return self._output(inputs) if self._output else inputs


class VanillaRNN(snt.RNNCore):
    """`tanh(x W1 + b1 + s W2 + b2)`, computed as one product of `[x; s]`; variables as in `snt.VanillaRNN`."""

    def __init__(self, hidden_size, name="vanilla_rnn"):
        """Args: hidden_size: int."""
        super().__init__(name=name)
        self._hidden_size = hidden_size
        self._weights = None

    def _build(self, inputs, state):
        """Maps `[rows, n]` and `[rows, hidden_size]` to (output, next state), both `[rows, hidden_size]`."""
        if self._weights is None:
            self._weights = self._make_weights(inputs.shape.as_list()[-1])
        weights, bias = self._weights
        output = tf.tanh(affine(ops.concat([inputs, state]), weights, bias))
        return output, output

    def _make_weights(self, input_size):
        def linear(name, size):
            weights = tf.compat.v1.get_variable(
                name + "/w", [size, self._hidden_size], initializer=_linear_init(size)
            )
            return weights, tf.compat.v1.get_variable(
                name + "/b", [self._hidden_size], initializer=tf.zeros_initializer()
            )

        with tf.control_dependencies(None):  # outside any loop: once per step, not once per iteration
            (w_in, b_in), (w_state, b_state) = (
                linear("in_to_hidden", input_size),
                linear("hidden_to_hidden", self._hidden_size),
            )
            return tf.concat([w_in, w_state], 0), b_in + b_state

    @property
    def state_size(self):
        """Shape of the state, and of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    output_size = state_size


class GRU(snt.RNNCore):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078); its output is its next state.

    `z, r = sigmoid(x W + h U + b)`, `c = tanh(x W_h + (r h) U_h + b_h)`, `h' = (1 - z) h + z c`.
    Differs: a gate is one product of `[x; h]`. Variables as in `snt.GRU`.
    """

    def __init__(self, hidden_size, name="gru"):
        """Args: hidden_size: int."""
        super().__init__(name=name)
        self._hidden_size = hidden_size
        self._weights = None

    def _build(self, inputs, state):
        """Maps `[rows, n]` and `[rows, hidden_size]` to (output, next state), both `[rows, hidden_size]`."""
        if self._weights is None:
            self._weights = self._make_weights(inputs.shape.as_list()[-1])
        update, reset, candidate = self._weights
        both = ops.concat([inputs, state])
        update, reset = [tf.sigmoid(affine(both, *gate)) for gate in (update, reset)]
        candidate = tf.tanh(affine(ops.concat([inputs, reset * state]), *candidate))
        next_state = state + update * (candidate - state)
        return next_state, next_state

    def _make_weights(self, input_size):
        def gate(letter):
            size = self._hidden_size
            shapes = (("w", [input_size, size]), ("u", [size, size]), ("b", [size]))
            w, u, b = [tf.compat.v1.get_variable(kind + letter, shape) for kind, shape in shapes]
            return tf.concat([w, u], 0), b

        with tf.control_dependencies(None):
            return [gate(letter) for letter in "zrh"]

    @property
    def state_size(self):
        """Shape of the state, and of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    output_size = state_size


CORES = {"VanillaRNN": VanillaRNN, "GRU": GRU}


def make_core(kind, hidden_size, flag, name):
    """A recurrent core by its Sonnet name; raises UserError naming `flag` if there is none."""
    if kind not in CORES:
        raise UserError("--{}={} is not known: use one of {}.".format(flag, kind, ", ".join(sorted(CORES))))
    return CORES[kind](hidden_size, name=name)


def _linear_init(fan_in):
    return tf.truncated_normal_initializer(stddev=fan_in**-0.5)


class WhatStatistics(NamedTuple):
    """Gaussian statistics of an appearance, read from a glimpse."""

    loc: Any  # [m, Z]
    scale: Any  # [m, Z]


class GlimpseEncoder(snt.AbstractModule):
    """`q(what | image, where)`: reads a glimpse and encodes it; shared by discovery and propagation."""

    def __init__(self, image_shape, glimpse_size, hidden_size, n_what, masked, name="glimpse_encoder"):
        """Args: image_shape: ints (H, W, C); glimpse_size, hidden_size, n_what: ints g, D, Z; masked: use masks?"""
        super().__init__(name=name)
        self._glimpse_size = glimpse_size
        self._image_size, self._channels = tuple(image_shape[:2]), image_shape[2]
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2)
            self._statistics = Linear(2 * n_what, name="statistics")
            self._min_scale = fixed_scalar("min_scale", MIN_SCALE)
            self._mask = MLP([MASK_HIDDEN], glimpse_size**2, MASK_BIAS, name="mask") if masked else None

    def mask(self, inputs):
        """`[m, n]` features to a `[m, g * g * C]` mask in (0, 1); an empty mask `[m, 0]` if masks are off."""
        if self._mask is None:
            return inputs[:, :0]
        mask = tf.sigmoid(self._mask(inputs))
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

    def __init__(self, hidden_size, scale_bias, name="where_statistics"):
        """Args: hidden_size: int D; scale_bias: float, where the offset of the raw scales starts."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._mlp = MLP([hidden_size] * 2, 8)
            self._offset = tf.compat.v1.get_variable(
                "scale_offset", [], initializer=tf.constant_initializer(scale_bias)
            )

    def _build(self, features):
        """`[m, n]` to (location `[m, 4]`, raw scale `[m, 4]` before its softplus)."""
        loc, raw_scale = tf.split(self._mlp(features), 2, axis=-1)
        return loc, raw_scale + self._offset
