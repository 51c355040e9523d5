# SPDX-License-Identifier: GPL-3.0-or-later
"""Scans a cell over time, for parts of the batch side by side."""

from sqair.engine.loop_gradients import DeferredGradients
from sqair.engine.tensors import merge_leading, pack, size, split_leading, unpack
from sqair.graph_mode import tf

STREAMS = 2  # parts of a batch that are unrolled side by side


def unroll(cell, inputs, particles, streams=STREAMS, first_state=None):
    """Scans a cell over time.

    One loop runs the streams in turn, each with a state of its own: with two, iteration `2 t + h` is frame t of half h.
    It does not wait for iteration `2 t + h - 1`: two cores work where the frames of one sequence keep one busy. Each
    field of inputs and outputs is stored as one tensor.

    Args:
        cell: `snt.RNNCore` with `initial_state(rows)`, whose `output_size` is a named tuple.
        inputs: named tuple of (structures of) `[T, B, ...]`, float32.
        particles: int K, rows of the cell for each sequence.
        streams: int, how many if the batch can be divided by it.
        first_state: the state before the first frame, all of it in one stream; the cell's initial one by default.

    Returns:
        Tuple of the cell's outputs, structure of `[T, B * K, ...]`, and the list of each stream's last state.
    """
    batch_size = size(tf.nest.flatten(inputs)[0], axis=1)
    divisible = isinstance(batch_size, int) and batch_size % streams == 0
    streams = streams if divisible and first_state is None else 1
    stream_size = batch_size // streams
    packed = [split_leading(merge_leading(pack(field)), stream_size) for field in inputs]
    length = tf.shape(packed[0])[0]
    arrays = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in packed]
    deferred = DeferredGradients(length)

    def step(index, results, states):
        state, *others = states
        frame = [unpack(array.read(index), field) for array, field in zip(arrays, inputs)]
        with deferred.inside(index):
            outputs, next_state = cell(type(inputs)(*frame), state)
        for tensor, like in zip(tf.nest.flatten(next_state), tf.nest.flatten(state)):
            tensor.set_shape(like.shape)
        results = [array.write(index, pack(field)) for array, field in zip(results, outputs)]
        return index + 1, results, others + [next_state]

    if first_state is None:
        first_state = cell.initial_state(stream_size * particles)
    results = [tf.TensorArray(tf.float32, length) for _ in cell.output_size]
    loop = 0, results, [first_state] * streams
    _, results, states = tf.while_loop(lambda index, *_: index < length, step, loop)
    rows = batch_size * particles
    fields = []
    for array, sizes in zip(results, cell.output_size):
        whole = split_leading(merge_leading(array.stack()), rows)
        shapes = [shape.as_list() for shape in tf.nest.flatten(sizes)]
        width = sum(shape[-1] for shape in shapes)
        whole.set_shape([None, rows if isinstance(rows, int) else None] + shapes[0][:-1] + [width])
        fields.append(unpack(whole, sizes))
    return type(cell.output_size)(*fields), states
