# SPDX-License-Identifier: GPL-3.0-or-later
"""The building blocks: layers whose products can be made in parts, perceptrons, recurrent cores, positive scales."""

import sonnet as snt
import tensorflow as tf

from sqair.engine import ops
from sqair.engine.loop_gradients import affine
from sqair.errors import UserError

MIN_SCALE = 1e-2  # lower bound of every learned standard deviation


def positive_scale(raw, min_scale=MIN_SCALE):
    """`softplus(raw) + min_scale`: a standard deviation from an unconstrained tensor."""
    return tf.nn.softplus(raw) + min_scale


def fixed_scalar(name, value):
    """A scalar that is stored with the model, as a variable, but not trained."""
    initializer = tf.constant_initializer(value)
    return tf.stop_gradient(tf.compat.v1.get_variable(name, [], initializer=initializer, trainable=False))


class PartedWeights:
    """Weights whose input has parts that come at different times: each part multiplies rows of its own."""

    def __init__(self, weights, widths):
        """Args: weights: `[n, k]`; widths: ints, of the parts, n in all."""
        self._weights, self._widths, self._chosen = weights, list(widths), {}

    def __getitem__(self, parts):
        """The rows `[m, k]` of some parts, a tuple of their numbers."""
        if parts == tuple(range(len(self._widths))):
            return self._weights
        if parts not in self._chosen:
            with tf.control_dependencies(None):  # outside any loop: once per step, not once per iteration
                rows = tf.split(self._weights, self._widths)
                chosen = [rows[part] for part in parts]
                self._chosen[parts] = chosen[0] if len(chosen) == 1 else tf.concat(chosen, 0)
        return self._chosen[parts]


class Linear(snt.AbstractModule):
    """`x W + b`, initialised as `snt.Linear`; parts of the input may come first (`share`)."""

    def __init__(self, output_size, bias_initializer=None, widths=None, activation=None, name="linear"):
        """Sets the layer up.

        Args:
            output_size: int.
            bias_initializer: zeros by default.
            widths: ints, widths of the parts of the input; None if it has one.
            activation: None or `tf.nn.elu`.
        """
        super().__init__(name=name)
        self._output_size, self._widths, self._activation = output_size, widths, activation
        self._bias_initializer = bias_initializer or tf.zeros_initializer()
        self._weights = self._bias = None

    def parameters(self, size):
        """`PartedWeights` for an input of this size, and the bias."""
        if self._weights is None:
            with self._enter_variable_scope():
                shape = [size, self._output_size]
                weights = tf.compat.v1.get_variable("w", shape, initializer=_linear_init(size))
                self._weights = PartedWeights(weights, self._widths or [size])
                self._bias = tf.compat.v1.get_variable(
                    "b", [self._output_size], initializer=self._bias_initializer
                )
        return self._weights, self._bias

    def share(self, parts=(0,), bias=True):
        """The `Share` of some parts of the input."""
        weights, own_bias = self.parameters(sum(self._widths))
        return Share(weights[parts], own_bias if bias else None)

    def _build(self, inputs, share=None, parts=(0,)):
        """Maps `[m, n]` to `[m, output_size]`.

        Args:
            inputs: `[m, n]`; None if all is in `share`.
            share: `[m, output_size]`, what other parts of the input and the bias add, or None.
            parts: which parts `inputs` is.
        """
        if share is None:
            weights, bias = self.parameters(sum(self._widths or inputs.shape.as_list()[-1:]))
            return affine(inputs, weights[parts], bias, self._activation)
        outputs = share if inputs is None else share + self.share(parts, bias=False)(inputs)
        return self._activation(outputs) if self._activation else outputs


class Share:
    """What some parts of a layer's input add to its output, before its activation."""

    def __init__(self, weights, bias):
        """Args: weights: `[n, k]`; bias: `[k]`, or None if another share has it."""
        self.weights, self.bias = weights, bias

    def __call__(self, inputs):
        """Maps the parts, `[m, n]` together, to `[m, k]`."""
        return affine(inputs, self.weights, self.bias)


class SideBySide:
    """Shares of the same input, as one product."""

    def __init__(self, *shares):
        """Args: shares: `Share`."""
        self._sizes = [share.weights.shape.as_list()[1] for share in shares]
        biases = [
            tf.zeros([size]) if share.bias is None else share.bias for share, size in zip(shares, self._sizes)
        ]
        self._joined = Share(tf.concat([share.weights for share in shares], 1), tf.concat(biases, 0))

    def __call__(self, inputs):
        """Maps `[m, n]` to the list of what each adds."""
        return tf.split(self._joined(inputs), self._sizes, axis=-1)


class MLP(snt.AbstractModule):
    """ELU hidden layers and, if `output_size` is given, a linear output layer."""

    def __init__(self, hidden_sizes, output_size=None, output_bias=0.0, widths=None, name="mlp"):
        """Sets the network up.

        Args:
            hidden_sizes: ints, at least one.
            output_size: int or None.
            output_bias: float, where its bias starts.
            widths: as of `Linear`, for the first layer.
        """
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._hidden = [
                Linear(size, widths=None if i else widths, activation=tf.nn.elu, name=f"hidden_{i}")
                for i, size in enumerate(hidden_sizes)
            ]
            bias = tf.constant_initializer(output_bias)
            self._output = output_size and Linear(output_size, bias, name="output")

    def share(self, parts=(0,), bias=True):
        """As `Linear.share`, of the first layer."""
        return self._hidden[0].share(parts, bias)

    def _build(self, inputs, share=None, parts=(0,)):
        """Maps `[rows, n]` to `[rows, output_size]`; `share` and `parts` as of `Linear`."""
        outputs = self._hidden[0](inputs, share, parts)
        for layer in self._hidden[1:]:
            outputs = layer(outputs)
        return self._output(outputs) if self._output else outputs


class RecurrentCore(snt.RNNCore):
    """A recurrent core whose products can be made in parts: what is known early, for many rows at once (`share`)."""

    def __init__(self, hidden_size, widths, name):
        """Args: hidden_size: int D; widths: ints, widths of the parts of the input."""
        super().__init__(name=name)
        self._hidden_size, self._widths = hidden_size, list(widths)
        with self._enter_variable_scope():
            self._make_weights(sum(widths))

    @property
    def state_size(self):
        """Shape of the state, and of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    output_size = state_size

    def share(self, parts=(0,), bias=True):
        """The `Share` of some parts of the input in the preactivations `[m, k]`."""
        return Share(self._weights[parts], self._bias if bias else None)

    @property
    def state_share(self):
        """The `Share` of the state in the preactivations, without bias."""
        raise NotImplementedError


class VanillaRNN(RecurrentCore):
    """`tanh(x W1 + b1 + s W2 + b2)`; variables as in `snt.VanillaRNN`."""

    def _make_weights(self, input_size):
        def linear(name, size):
            weights = tf.compat.v1.get_variable(
                name + "/w", [size, self._hidden_size], initializer=_linear_init(size)
            )
            return weights, tf.compat.v1.get_variable(
                name + "/b", [self._hidden_size], initializer=tf.zeros_initializer()
            )

        (w_in, b_in), (w_state, b_state) = (
            linear("in_to_hidden", input_size),
            linear("hidden_to_hidden", self._hidden_size),
        )
        self._state_part = len(self._widths)
        self._weights = PartedWeights(tf.concat([w_in, w_state], 0), self._widths + [self._hidden_size])
        self._bias = b_in + b_state

    @property
    def state_share(self):
        """As of `RecurrentCore`."""
        return Share(self._weights[(self._state_part,)], None)

    def _build(self, inputs, state, share=None, parts=(0,), state_share=None):
        """One step.

        Args:
            inputs: `[m, n]`, the parts of the input that are not in `share`.
            state: `[m, D]`.
            share: `[m, k]`, what other parts of the input and the bias add, or None.
            parts: which parts `inputs` is.
            state_share: `[m, k]`, what the state adds, or None.

        Returns:
            Tuple of output and next state, `[m, D]` each; they are the same.
        """
        if state_share is None:
            inputs, parts = ops.concat([inputs, state]), parts + (self._state_part,)
        output = affine(inputs, self._weights[parts], self._bias if share is None else None)
        for early in (share, state_share):
            output = output if early is None else output + early
        output = tf.tanh(output)
        return output, output


class GRU(RecurrentCore):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078); its output is its next state.

    `z, r = sigmoid(x W + h U + b)`, `c = tanh(x W_h + (r h) U_h + b_h)`, `h' = (1 - z) h + z c`. Variables as in
    `snt.GRU`.
    """

    def _make_weights(self, input_size):
        def gate(letter):
            size = self._hidden_size
            shapes = (("w", [input_size, size]), ("u", [size, size]), ("b", [size]))
            return [tf.compat.v1.get_variable(kind + letter, shape) for kind, shape in shapes]

        (w_z, u_z, b_z), (w_r, u_r, b_r), (w_h, self._u_h, b_h) = [gate(letter) for letter in "zrh"]
        self._weights = PartedWeights(tf.concat([w_z, w_r, w_h], 1), self._widths)
        self._u_gates, self._bias = tf.concat([u_z, u_r], 1), tf.concat([b_z, b_r, b_h], 0)

    @property
    def state_share(self):
        """As of `RecurrentCore`."""
        return Share(self._u_gates, None)

    def _build(self, inputs, state, share=None, parts=(0,), state_share=None):
        """One step: arguments and results as of `VanillaRNN`."""
        size = self._hidden_size
        preactivations = affine(inputs, self._weights[parts], self._bias if share is None else None)
        if share is not None:
            preactivations += share
        gates, candidate = tf.split(preactivations, [2 * size, size], axis=-1)
        gates += self.state_share(state) if state_share is None else state_share
        update, reset = tf.split(tf.sigmoid(gates), 2, axis=-1)
        candidate = tf.tanh(candidate + affine(reset * state, self._u_h))
        next_state = state + update * (candidate - state)
        return next_state, next_state


CORES = {"VanillaRNN": VanillaRNN, "GRU": GRU}


def make_core(kind, hidden_size, widths, flag, name):
    """A recurrent core by its Sonnet name, for inputs of parts of these widths.

    Raises:
        UserError: naming `flag`, if there is no such core.
    """
    if kind not in CORES:
        raise UserError("--{}={} is not known: use one of {}.".format(flag, kind, ", ".join(sorted(CORES))))
    return CORES[kind](hidden_size, widths, name=name)


def _linear_init(fan_in):
    return tf.truncated_normal_initializer(stddev=fan_in**-0.5)
