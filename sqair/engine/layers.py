# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers with named inputs (see `sqair.engine.early`): linear, perceptrons, recurrent cores."""

from typing import Any, NamedTuple

from sqair.engine.early import EarlyInput, NamedWeights
from sqair.engine.loop_gradients import affine
from sqair.engine.tensors import flatten
from sqair.errors import UserError
from sqair.graph_mode import snt, tf

ONLY = "inputs"  # the name of the input of a layer that has one
FORGET_BIAS = 1.0  # an LSTM remembers at first


def fixed_scalar(name, value):
    """A scalar that is stored with the model, as a variable, but not trained."""
    initializer = tf.constant_initializer(value)
    return tf.stop_gradient(tf.get_variable(name, [], initializer=initializer, trainable=False))


class Linear(snt.AbstractModule):
    """`x W + b`, initialised as `snt.Linear`."""

    def __init__(self, output_size, inputs=None, bias_initializer=None, activation=None, name="linear"):
        """Sets the layer up.

        Args:
            output_size: int.
            inputs: dict of name -> width; None: one input, whose width is that of the first call.
            bias_initializer: zeros by default.
            activation: None or `tf.nn.elu`.
        """
        super().__init__(name=name)
        self._output_size, self._activation = output_size, activation
        self._bias_initializer = bias_initializer or tf.zeros_initializer()
        self._named_weights = None
        if inputs:
            self._make_weights(inputs)

    @property
    def named_weights(self):
        """List of `NamedWeights`."""
        return [self._named_weights]

    def _make_weights(self, widths):
        with self._enter_variable_scope():
            size = sum(widths.values())
            weights = tf.get_variable("w", [size, self._output_size], initializer=_linear_init(size))
            bias = tf.get_variable("b", [self._output_size], initializer=self._bias_initializer)
            self._named_weights = NamedWeights(self.scope_name, weights, widths, bias)

    def _build(self, inputs=None, **named_inputs):
        """Maps its inputs, `[m, n]` each, to `[m, output_size]`; one without a name, or all by their names."""
        if inputs is not None:
            if self._named_weights is None:
                self._make_weights({ONLY: inputs.shape.as_list()[-1]})
            named_inputs[ONLY] = inputs
        return self._named_weights(named_inputs, self._activation)


class MLP(snt.AbstractModule):
    """ELU hidden layers and, if `output_size` is given, a linear output layer."""

    def __init__(self, hidden_sizes, output_size=None, output_bias=0.0, inputs=None, name="mlp"):
        """Sets the network up.

        Args:
            hidden_sizes: ints, at least one.
            output_size: int or None.
            output_bias: float, where its bias starts.
            inputs: as of `Linear`.
        """
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._hidden = [
                Linear(size, None if i else inputs, activation=tf.nn.elu, name=f"hidden_{i}")
                for i, size in enumerate(hidden_sizes)
            ]
            bias = tf.constant_initializer(output_bias)
            self._output = output_size and Linear(output_size, bias_initializer=bias, name="output")

    @property
    def named_weights(self):
        """List of `NamedWeights`, of the first layer."""
        return self._hidden[0].named_weights

    def _build(self, inputs=None, **named_inputs):
        """Maps one input `[m, ...]` without a name, or all by their names, `[m, n]` each, to `[m, output_size]`."""
        outputs = self._hidden[0](inputs if inputs is None else flatten(inputs), **named_inputs)
        for layer in self._hidden[1:]:
            outputs = layer(outputs)
        return self._output(outputs) if self._output else outputs


class VanillaRNN(snt.RNNCore):
    """`tanh(x W1 + b1 + s W2 + b2)`; variables as in `snt.VanillaRNN`."""

    def __init__(self, hidden_size, inputs, state="state", name="vanilla_rnn"):
        """Args: hidden_size: int D; inputs: dict of name -> width; state: the name of the state among them."""
        super().__init__(name=name)
        self._hidden_size, self._state = hidden_size, state
        input_size = sum(inputs.values())
        with self._enter_variable_scope():
            (w_in, b_in), (w_state, b_state) = [
                self._linear(name, size)
                for name, size in (("in_to_hidden", input_size), ("hidden_to_hidden", hidden_size))
            ]
            weights = tf.concat([w_in, w_state], 0)
            widths = dict(inputs, **{state: hidden_size})
            self.named_weights = [NamedWeights(self.scope_name, weights, widths, b_in + b_state)]

    def _linear(self, name, size):
        shape = [size, self._hidden_size]
        weights = tf.get_variable(name + "/w", shape, initializer=_linear_init(size))
        zeros = tf.zeros_initializer()
        return weights, tf.get_variable(name + "/b", shape[1:], initializer=zeros)

    @property
    def state_size(self):
        """Shape of the state, and of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    output_size = state_size

    def _build(self, state, **inputs):
        """One step.

        Args:
            state: `[m, D]` or `EarlyInput`.
            inputs: `[m, n]` or `EarlyInput` each.

        Returns:
            Tuple of output and next state, `[m, D]` each; they are the same.
        """
        output = tf.tanh(self.named_weights[0](dict(inputs, **{self._state: state})))
        return output, output


class GRU(snt.RNNCore):
    """Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078); its output is its next state.

    `z, r = sigmoid(x W + h U + b)`, `c = tanh(x W_h + (r h) U_h + b_h)`, `h' = (1 - z) h + z c`. Variables as in
    `snt.GRU`.
    """

    def __init__(self, hidden_size, inputs, state="state", name="gru"):
        """Arguments as of `VanillaRNN`."""
        super().__init__(name=name)
        self._hidden_size, self._state = hidden_size, state
        input_size = sum(inputs.values())
        with self._enter_variable_scope():
            (w_z, u_z, b_z), (w_r, u_r, b_r), (w_h, self._u_h, b_h) = [
                self._gate(letter, input_size) for letter in "zrh"
            ]
            weights, biases = tf.concat([w_z, w_r, w_h], 1), tf.concat([b_z, b_r, b_h], 0)
            u_gates = tf.concat([u_z, u_r], 1)
            self.named_weights = [
                NamedWeights(self.scope_name, weights, inputs, biases),
                NamedWeights(self.scope_name + "/gates", u_gates, {state: hidden_size}, None),
            ]

    def _gate(self, letter, input_size):
        size = self._hidden_size
        shapes = (("w", [input_size, size]), ("u", [size, size]), ("b", [size]))
        return [tf.get_variable(kind + letter, shape) for kind, shape in shapes]

    @property
    def state_size(self):
        """Shape of the state, and of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    output_size = state_size

    def _build(self, state, **inputs):
        """One step: arguments and results as of `VanillaRNN`."""
        size, (of_inputs, of_state) = self._hidden_size, self.named_weights
        gates, candidate = tf.split(of_inputs(inputs), [2 * size, size], axis=-1)
        gates += of_state({self._state: state})
        state = state.value if isinstance(state, EarlyInput) else state
        update, reset = tf.split(tf.sigmoid(gates), 2, axis=-1)
        candidate = tf.tanh(candidate + affine(reset * state, self._u_h))
        next_state = state + update * (candidate - state)
        return next_state, next_state


class LSTMState(NamedTuple):
    """What an `LSTM` hands to its next step."""

    hidden: Any  # [m, D]
    cell: Any  # [m, D]


class LSTM(snt.RNNCore):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, with a gate to forget); its output is its hidden state.

    `i, j, f, o = x W + b`, `c' = sigmoid(f + 1) c + sigmoid(i) tanh(j)`, `h' = sigmoid(o) tanh(c')`. Variables as in
    `snt.LSTM`.
    """

    def __init__(self, hidden_size, inputs, state="state", name="lstm"):
        """Arguments as of `VanillaRNN`."""
        super().__init__(name=name)
        self._hidden_size, self._state = hidden_size, state
        widths = dict(inputs, **{state: hidden_size})
        size = sum(widths.values())
        with self._enter_variable_scope():
            weights, bias = [
                tf.get_variable(name, [*shape, 4 * hidden_size], initializer=_linear_init(size))
                for name, shape in (("w_gates", [size]), ("b_gates", []))
            ]
            self.named_weights = [NamedWeights(self.scope_name, weights, widths, bias)]

    def initial_state(self, rows):
        """Zeros; `rows`: int or scalar tensor m."""
        return LSTMState(*[tf.fill([rows, self._hidden_size], 0.0) for _ in LSTMState._fields])

    @property
    def state_size(self):
        """Shapes of `LSTMState`, without the rows."""
        return LSTMState(self.output_size, self.output_size)

    @property
    def output_size(self):
        """Shape of the output, without the rows."""
        return tf.TensorShape([self._hidden_size])

    def _build(self, state, **inputs):
        """One step.

        Args:
            state: `LSTMState`.
            inputs: `[m, n]` or `EarlyInput` each.

        Returns:
            Tuple of output, `[m, D]`, and next `LSTMState`.
        """
        gates = self.named_weights[0](dict(inputs, **{self._state: state.hidden}))
        new, candidate, keep, out = tf.split(gates, 4, axis=-1)
        cell = tf.sigmoid(keep + FORGET_BIAS) * state.cell + tf.sigmoid(new) * tf.tanh(candidate)
        hidden = tf.sigmoid(out) * tf.tanh(cell)
        return hidden, LSTMState(hidden, cell)


CORES = {"VanillaRNN": VanillaRNN, "GRU": GRU}


def make_core(kind, hidden_size, inputs, argument, state="state", name="core"):
    """A recurrent core by its Sonnet name.

    Args:
        kind: str, one of `CORES`.
        hidden_size, inputs, state: as of the core.
        argument: str, where `kind` comes from, for messages.

    Raises:
        UserError: if there is no such core.
    """
    if kind not in CORES:
        raise UserError(f"`{argument}={kind}` is not known: use one of {', '.join(sorted(CORES))}.")
    return CORES[kind](hidden_size, inputs, state, name=name)


def _linear_init(fan_in):
    return tf.truncated_normal_initializer(stddev=fan_in**-0.5)
