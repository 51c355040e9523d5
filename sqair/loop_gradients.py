# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of the weights of layers inside a loop, made after the loop for all its iterations at once.

TensorFlow's gradient of a loop makes every weight's gradient in every iteration, from few rows, and adds it to a sum
as large as the weights: the adding moves more memory than all the rest, and small products are slow. Here the backward
loop only keeps what enters each layer and the gradient of what leaves it. One product per layer does the rest.
"""

import contextlib
import itertools

import tensorflow as tf

_uid = itertools.count()
_active = []


class DeferredGradients:
    """The layers of one loop whose weights get their gradients after it."""

    def __init__(self, iterations):
        """Args: iterations: scalar int32, the number of iterations of the loop."""
        self._iterations, self._layers = iterations, {}

    @contextlib.contextmanager
    def inside(self, iteration):
        """In this context, inside the loop, `affine` defers. `iteration`: scalar int32, the loop's counter."""
        _active.append((self, iteration))
        try:
            yield
        finally:
            _active.pop()

    def affine(self, iteration, inputs, weights, bias, activation):
        """As the function `affine`."""
        if weights not in self._layers:
            self._layers[weights] = _Layer(self._iterations, weights, bias, activation)
        return self._layers[weights](iteration, inputs)


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
    if _active:
        gradients, iteration = _active[-1]
        return gradients.affine(iteration, inputs, weights, bias, activation)
    return _forward(inputs, weights, bias, activation)


def _forward(inputs, weights, bias, activation):
    outputs = tf.matmul(inputs, weights)
    if bias is not None:
        outputs = tf.nn.bias_add(outputs, bias)
    return activation(outputs) if activation else outputs


class _Layer:
    """One layer, called any number of times in each iteration.

    A token, a zero that passes through every call, carries the gradient: in the backward loop it hands on the flow of
    the arrays that are written to, and where it comes from, outside the loop, they are read.
    """

    def __init__(self, iterations, weights, bias, activation):
        self._iterations, self._n_calls, self._activation = iterations, 0, activation
        self._transposed = self._arrays = None
        parameters = [weights] if bias is None else [weights, bias]
        with tf.control_dependencies(None):  # outside the loop
            with _gradient_of("IdentityN", self._parameters_gradient):
                self._token = tf.identity_n([tf.zeros([])] + parameters)[0]
            self._weights, self._bias = [x if x is None else tf.stop_gradient(x) for x in (weights, bias)]

    def __call__(self, iteration, inputs):
        pass_on = lambda _, gradient: gradient  # noqa: E731
        with _gradient_of("MatMul", self._inputs_gradient), _gradient_of("Elu", pass_on):
            outputs = _forward(inputs, self._weights, self._bias, self._activation)

        def keep(_, gradient, __):
            if self._activation:
                gradient = tf.raw_ops.EluGrad(gradients=gradient, outputs=outputs)
            return gradient, self._keep(iteration, inputs, gradient)

        with _gradient_of("IdentityN", keep):
            return tf.identity_n([outputs, self._token])[0]

    def _inputs_gradient(self, _, gradient):
        if self._transposed is None:
            with tf.control_dependencies(None):
                self._transposed = tf.transpose(self._weights)  # once: small products by a transpose are slow
        return tf.matmul(gradient, self._transposed), None

    def _keep(self, iteration, inputs, gradient):
        """Keeps what a call needs for the gradient of the weights; returns the flow that says that it is kept."""
        if self._arrays is None:
            with tf.control_dependencies(None):
                self._arrays = [self._array(), self._array()]
        index = iteration + self._n_calls * self._iterations
        self._n_calls += 1
        return tf.add_n([array.write(index, x).flow for array, x in zip(self._arrays, (inputs, gradient))])

    def _array(self):
        return tf.TensorArray(tf.float32, self._iterations, dynamic_size=True, infer_shape=False)

    def _parameters_gradient(self, operation, flow, *_):
        _, weights, *bias = operation.inputs
        inputs, gradients = [
            tf.reshape(tf.TensorArray(tf.float32, handle=array.handle, flow=flow).concat(), [-1, size])
            for array, size in zip(self._arrays, weights.shape.as_list())
        ]
        to_weights = tf.matmul(inputs, gradients, transpose_a=True)
        return [None, to_weights] + ([tf.reduce_sum(gradients, axis=0)] if bias else [])


@contextlib.contextmanager
def _gradient_of(op_type, function):
    """Operations of a type created in this context get the gradient `function(operation, *gradients)`."""
    name = f"SqairDeferred{next(_uid)}"
    tf.RegisterGradient(name)(function)
    with tf.compat.v1.get_default_graph().gradient_override_map({op_type: name}):
        yield
