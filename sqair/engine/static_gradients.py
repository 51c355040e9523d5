# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients of common operations that are built from static shapes.

TensorFlow builds the gradient of a broadcasting or reshaping operation from run-time shapes whenever one
dimension is unknown, which costs about ten extra operations each, and more inside a loop, where forward shapes
are kept on stacks. In this model only the number of rows is ever unknown, and rows never broadcast against a
different number of rows. Under that promise the static shapes say everything.
"""

import contextlib

from sqair.graph_mode import tf


@contextlib.contextmanager
def static_gradients():
    """Operations created in this context get gradients built from static shapes.

    The promise: two tensors whose static sizes are both unknown in a dimension have the same size there.
    The numbers are those of TensorFlow's own gradients.
    """
    names = ("Add", "AddV2", "Sub", "Mul", "RealDiv", "ConcatV2", "Reshape", "ExpandDims", "Squeeze", "Sum")
    names += ("GatherNd", "BatchMatMulV2", "SelectV2", "CropAndResize", "UnsortedSegmentSum")
    with tf.get_default_graph().gradient_override_map({name: _PREFIX + name for name in names}):
        yield


_PREFIX = "SqairStatic"


def _register(*names):
    def decorate(function):
        for name in names:
            tf.RegisterGradient(_PREFIX + name)(function)
        return function

    return decorate


def _like(gradient, tensor):
    """Sums a gradient over the dimensions along which `tensor` was broadcast."""
    sizes, full = tensor.shape.as_list(), gradient.shape.as_list()
    lead = len(full) - len(sizes)
    stretched = [lead + i for i, size in enumerate(sizes) if size == 1 and full[lead + i] != 1]
    if stretched:
        gradient = tf.reduce_sum(gradient, stretched, keepdims=True)
    return tf.reduce_sum(gradient, list(range(lead))) if lead else gradient


def _with_shape_of(gradient, tensor):
    sizes = tensor.shape.as_list()
    if sizes.count(None) > 1:
        return tf.reshape(gradient, tf.shape(tensor))
    return tf.reshape(gradient, [-1 if size is None else size for size in sizes])


def _source(tensor):
    """The operation that makes a tensor, outside the loop if it comes from there."""
    operation = tensor.op
    while operation.type == "Enter":
        operation = operation.inputs[0].op
    return operation


def _constant(tensor):
    """Whether a tensor needs no gradient: a constant, or what somebody declared to be data."""
    return _source(tensor).type in ("Const", "StopGradient")


@_register("Add", "AddV2")
def _add(operation, gradient):
    return [None if _constant(x) else _like(gradient, x) for x in operation.inputs]


@_register("Sub")
def _sub(operation, gradient):
    x, y = operation.inputs
    return None if _constant(x) else _like(gradient, x), None if _constant(y) else _like(-gradient, y)


@_register("Mul")
def _mul(operation, gradient):
    x, y = operation.inputs
    return (
        None if _constant(x) else _like(gradient * y, x),
        None if _constant(y) else _like(gradient * x, y),
    )


@_register("RealDiv")
def _real_div(operation, gradient):
    x, y = operation.inputs
    by_y = gradient / y
    return (
        None if _constant(x) else _like(by_y, x),
        None if _constant(y) else _like(-by_y * operation.outputs[0], y),
    )


@_register("ConcatV2")
def _concat(operation, gradient):
    parts, axis = operation.inputs[:-1], int(tf.get_static_value(operation.inputs[-1]))
    sizes = [part.shape.as_list()[axis] for part in parts]
    if None in sizes:
        sizes = tf.stack([tf.shape(part)[axis] for part in parts])
    return tf.split(gradient, sizes, axis, num=len(parts)) + [None]


@_register("Reshape", "ExpandDims")
def _reshape(operation, gradient):
    return _with_shape_of(gradient, operation.inputs[0]), None


@_register("Squeeze")
def _squeeze(operation, gradient):
    return _with_shape_of(gradient, operation.inputs[0])


@_register("Sum")
def _sum(operation, gradient):
    tensor, axes = operation.inputs[0], tf.get_static_value(operation.inputs[1])
    sizes = tensor.shape.as_list()
    reduced = {int(axis) % len(sizes) for axis in axes.reshape(-1)}
    kept = [1 if i in reduced else size for i, size in enumerate(sizes)]
    if kept.count(None) > 1 or any(sizes[i] is None for i in reduced):
        return tf.zeros_like(tensor) + _expand(gradient, sorted(reduced), operation), None
    expanded = tf.reshape(gradient, [-1 if size is None else size for size in kept])
    return tf.tile(expanded, [sizes[i] if i in reduced else 1 for i in range(len(sizes))]), None


def _expand(gradient, axes, operation):
    if not operation.get_attr("keep_dims"):
        for axis in axes:
            gradient = tf.expand_dims(gradient, axis)
    return gradient


@_register("GatherNd")
def _gather_nd(operation, gradient):
    source, indices = operation.inputs
    static = source.shape.is_fully_defined()
    shape = tf.constant(source.shape.as_list(), tf.int64) if static else tf.shape(source, out_type=tf.int64)
    return tf.scatter_nd(tf.cast(indices, tf.int64), gradient, shape), None


@_register("UnsortedSegmentSum")
def _unsorted_segment_sum(operation, gradient):
    """Every segment exists here."""
    return tf.gather(gradient, operation.inputs[1]), None, None


@_register("CropAndResize")
def _crop_and_resize(operation, gradient):
    images, boxes, index, _ = operation.inputs
    boxes_of = dict(grads=gradient, boxes=boxes, box_ind=index)
    to_images = tf.raw_ops.CropAndResizeGradImage(image_size=tf.shape(images), T=tf.float32, **boxes_of)
    return to_images, tf.raw_ops.CropAndResizeGradBoxes(image=images, **boxes_of), None, None


@_register("SelectV2")
def _select(operation, gradient):
    condition, x, y = operation.inputs
    nothing = tf.zeros_like(gradient)
    chosen, rejected = [tf.where_v2(condition, *pair) for pair in ((gradient, nothing), (nothing, gradient))]
    return None, None if _constant(x) else _like(chosen, x), None if _constant(y) else _like(rejected, y)


@_register("BatchMatMulV2")
def _batch_matmul(operation, gradient):
    (x, y), adj_x, adj_y = operation.inputs, operation.get_attr("adj_x"), operation.get_attr("adj_y")
    if x.shape.ndims != y.shape.ndims:
        raise ValueError(f"A batched product whose batch dimensions broadcast: {x} by {y}.")
    if adj_x:
        grad_x = tf.matmul(y, gradient, transpose_a=adj_y, transpose_b=True)
    else:
        grad_x = tf.matmul(gradient, y, transpose_b=not adj_y)
    if adj_y:
        grad_y = tf.matmul(gradient, x, transpose_a=True, transpose_b=adj_x)
    else:
        grad_y = tf.matmul(x, gradient, transpose_a=not adj_x)
    return grad_x, grad_y
