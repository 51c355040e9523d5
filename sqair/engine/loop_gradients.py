# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of the weights of layers inside a loop, made after the loop for all its iterations at once.

TensorFlow's gradient of a loop makes every weight's gradient in every iteration, from few rows, and adds it to a sum
as large as the weights: the adding moves more memory than all the rest, and small products are slow. Here the backward
loop only keeps what enters each layer and the gradient of what leaves it. One product per layer does the rest.
"""

import contextlib
import itertools
import threading
from typing import NamedTuple

from sqair.graph_mode import tf

_uid = itertools.count()
_building = threading.local()  # the loops whose bodies a thread is building, innermost last


class DeferredGradients:
    """The layers of one loop whose weights get their gradients after it."""

    def __init__(self, iterations):
        """Args: iterations: scalar int32, the number of iterations of the loop."""
        self._iterations, self._layers, self._indices = iterations, {}, {}

    @contextlib.contextmanager
    def inside(self, iteration):
        """In this context, inside the loop, `affine` defers. `iteration`: scalar int32, the loop's counter."""
        loops = _loops_being_built()
        loops.append((self, iteration))
        try:
            yield
        finally:
            loops.pop()

    def affine(self, iteration, inputs, weights, bias, activation):
        """As the function `affine`."""
        if weights not in self._layers:
            self._layers[weights] = _Layer(self, weights, bias, activation)
        return self._layers[weights](iteration, inputs)

    def array(self):
        """A `tf.TensorArray`, outside the loop, that takes a tensor of any shape from each call of each iteration."""
        with tf.control_dependencies(None):
            return tf.TensorArray(tf.float32, self._iterations, dynamic_size=True, infer_shape=False)

    def index(self, iteration, call):
        """Where in such an array; once for each backward loop."""
        key = _context(), call
        if key not in self._indices:
            self._indices[key] = iteration + call * self._iterations
        return self._indices[key]


def affine(inputs, weights, bias=None, activation=None):
    """A layer; the gradients of its weights and bias are deferred inside a deferring loop.

    Args:
        inputs: `[m, n]`.
        weights: `[n, k]`, the same tensor or variable in every call of the layer.
        bias: `[k]`, or None.
        activation: None or `tf.nn.elu`.

    Returns:
        `activation(x W + b)`, `[m, k]`.
    """
    loops = _loops_being_built()
    if loops:
        gradients, iteration = loops[-1]
        return gradients.affine(iteration, inputs, weights, bias, activation)
    return _forward(inputs, weights, bias, activation)


def _loops_being_built():
    if not hasattr(_building, "loops"):
        _building.loops = []
    return _building.loops


def _context():
    """The loop that operations are being made in; a backward loop is another one for each call of `tf.gradients`."""
    return tf.get_default_graph()._get_control_flow_context()  # noqa: SLF001


def _forward(inputs, weights, bias, activation):
    outputs = tf.matmul(inputs, weights)
    if bias is not None:
        outputs = tf.nn.bias_add(outputs, bias)
    return activation(outputs) if activation else outputs


class _Kept(NamedTuple):
    """What one backward loop keeps of a layer's calls."""

    inputs: tf.TensorArray
    gradients: tf.TensorArray
    n_calls: int = 0


def _loop_left_by(tensor):
    """The loop whose result a tensor is."""
    operation = tensor.op
    while operation.type != "Exit":
        operation = operation.inputs[0].op
    return operation._get_control_flow_context()  # noqa: SLF001


class _Layer:
    """One layer, called any number of times in each iteration.

    A token, a zero that passes through every call, carries the gradient: in the backward loop it hands on the flow of
    the arrays that are written to, and where it comes from, outside the loop, they are read.
    """

    def __init__(self, loop, weights, bias, activation):
        self._loop, self._activation = loop, activation
        self._weights, self._bias, self._transposed = weights, bias, None
        self._kept = {}  # backward loop -> its `_Kept`
        with tf.control_dependencies(None), _gradients(IdentityN=self._parameters_gradient):
            parameters = [weights] if bias is None else [weights, bias]
            self._token = tf.identity_n([tf.zeros([])] + parameters)[0]  # outside the loop

    def __call__(self, iteration, inputs):
        def keep(operation, gradient, _):
            if self._activation:
                gradient = tf.raw_ops.EluGrad(gradients=gradient, outputs=operation.outputs[0])
            return gradient, self._keep(iteration, inputs, gradient)

        pass_on = lambda _, gradient: gradient  # noqa: E731
        to_inputs = lambda _, gradient: (gradient, None)  # noqa: E731
        with _gradients(MatMul=self._inputs_gradient, BiasAdd=to_inputs, Elu=pass_on, IdentityN=keep):
            outputs = _forward(inputs, self._weights, self._bias, self._activation)
            return tf.identity_n([outputs, self._token])[0]

    def _inputs_gradient(self, _, gradient):
        if self._transposed is None:
            with tf.control_dependencies(None):
                self._transposed = tf.transpose(self._weights)  # once: small products by a transpose are slow
        return tf.matmul(gradient, self._transposed), None

    def _keep(self, iteration, inputs, gradient):
        """Keeps what a call needs for the gradient of the weights; returns the flow that says that it is kept."""
        kept = self._kept.get(_context()) or _Kept(self._loop.array(), self._loop.array())
        index, flow = self._loop.index(iteration, kept.n_calls), kept.inputs.flow
        self._kept[_context()] = kept._replace(n_calls=kept.n_calls + 1)
        for array, tensor in zip((kept.inputs, kept.gradients), (inputs, gradient)):
            flow = tf.TensorArray(tf.float32, handle=array.handle, flow=flow).write(index, tensor).flow
        return flow

    def _parameters_gradient(self, operation, flow, *_):
        _, weights, *bias = operation.inputs
        kept = self._kept[_loop_left_by(flow)]
        inputs, gradients = [
            tf.reshape(tf.TensorArray(tf.float32, handle=array.handle, flow=flow).concat(), [-1, size])
            for array, size in zip((kept.inputs, kept.gradients), weights.shape.as_list())
        ]
        size, output_size = weights.shape.as_list()
        if output_size < size:  # a product transposes its first factor: let it be the narrow one
            to_weights = tf.transpose(tf.matmul(gradients, inputs, transpose_a=True))
        else:
            to_weights = tf.matmul(inputs, gradients, transpose_a=True)
        return [None, to_weights] + [tf.raw_ops.BiasAddGrad(out_backprop=gradients) for _ in bias]


@contextlib.contextmanager
def _gradients(**functions):
    """Operations of these types created in this context get the gradient `function(operation, *gradients)`."""
    names = {}
    for op_type, function in functions.items():
        names[op_type] = f"SqairDeferred{next(_uid)}"
        tf.RegisterGradient(names[op_type])(function)
    with tf.get_default_graph().gradient_override_map(names):
        yield
