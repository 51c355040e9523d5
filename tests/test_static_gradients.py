# SPDX-License-Identifier: GPL-3.0-or-later
"""Gradients built from static shapes against TensorFlow's own, in and out of loops."""

import numpy as np
import pytest
from tf_run import run

from sqair.engine.static_gradients import static_gradients
from sqair.graph_mode import tf

ROWS = None  # an unknown size
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}
BINARY_SHAPES = {
    "same": ([ROWS, 3], [ROWS, 3]),
    "static": ([5, 3], [5, 3]),
    "bias": ([ROWS, 3], [3]),
    "bias first": ([3], [ROWS, 3]),
    "scalar": ([ROWS, 3], []),
    "scalar first": ([], [ROWS, 2, 3]),
    "column": ([ROWS, 3], [ROWS, 1]),
    "outer product": ([ROWS, 4, 1], [ROWS, 1, 3]),
    "one row": ([1, 3], [ROWS, 3]),
    "one row, three axes": ([1, 2, 3], [ROWS, 2, 1]),
    "ones on both sides": ([ROWS, 1, 3], [ROWS, 1, 1]),
    "two unknown sizes": ([ROWS, ROWS, 3], [ROWS, ROWS, 3]),
    "two unknown sizes and a bias": ([ROWS, ROWS, 3], [3]),
}
PICKED = np.array([[0], [2], [2], [1]], np.int32)


def pick(x):
    return tf.gather_nd(x, tf.constant(PICKED))


def boxes_of(x):
    return tf.nn.sigmoid(x) * [1.0, 1.0, 0.5, 0.5] + [0.0, 0.0, 0.5, 0.5]


def crop(x):
    images = np.random.RandomState(1).uniform(size=(2, 7, 6, 2)).astype(np.float32)
    index = tf.range(tf.shape(x)[0]) % 2
    return tf.image.crop_and_resize(tf.constant(images), boxes_of(x), index, [4, 3])


def crop_from(images):
    boxes = np.random.RandomState(2).uniform(size=(3, 4)).astype(np.float32)
    return tf.image.crop_and_resize(images, tf.constant(boxes), tf.constant([0, 1, 1]), [4, 3])


OTHERS = {
    "crop images": (crop_from, [ROWS, 7, 6, 2]),
    "add a constant": (lambda x: x + np.ones([3], np.float32), [ROWS, 3]),
    "subtract from a constant": (lambda x: 1.0 - x, [ROWS, 3]),
    "divide a constant": (lambda x: 2.0 / x, [ROWS, 3]),
    "multiply by itself": (lambda x: x * x, [ROWS, 3]),
    "multiply by data": (lambda x: x * tf.stop_gradient(tf.sin(x)), [ROWS, 3]),
    "concat last": (lambda x, y: tf.concat([x, y], -1), [ROWS, 3], [ROWS, 2]),
    "concat middle": (lambda x, y: tf.concat([x, y], 1), [ROWS, 3, 2], [ROWS, 1, 2]),
    "concat rows": (lambda x, y: tf.concat([x, y], 0), [ROWS, 3], [ROWS, 3]),
    "concat first rows and the rest": (lambda x: tf.concat([x[:2], x[:-2]], 0), [ROWS, 3]),
    "concat twice the same": (lambda x, y: tf.concat([x, y, x], -1), [ROWS, 3], [ROWS, 2]),
    "reshape": (lambda x: tf.reshape(x, [-1, 2, 3]), [ROWS, 6]),
    "reshape joins rows": (lambda x: tf.reshape(x, [-1, 3]), [ROWS, 2, 3]),
    "reshape joins two unknown sizes": (lambda x: tf.reshape(x, [-1, 3]), [ROWS, ROWS, 3]),
    "reshape static": (lambda x: tf.reshape(x, [3, 4]), [2, 6]),
    "expand": (lambda x: tf.expand_dims(x, 1), [ROWS, 3]),
    "expand two unknown sizes": (lambda x: tf.expand_dims(x, -1), [ROWS, ROWS, 3]),
    "squeeze": (lambda x: tf.squeeze(x, [-1]), [ROWS, 3, 1]),
    "sum last": (lambda x: tf.reduce_sum(x, -1), [ROWS, 3]),
    "sum last, kept": (lambda x: tf.reduce_sum(x, -1, keepdims=True), [ROWS, 2, 3]),
    "sum two axes": (lambda x: tf.reduce_sum(x, [1, -1]), [ROWS, 2, 4, 3]),
    "sum middle": (lambda x: tf.reduce_sum(x, 1), [ROWS, 2, 3]),
    "sum rows": (lambda x: tf.reduce_sum(x, 0), [ROWS, 3]),
    "sum rows, kept": (lambda x: tf.reduce_sum(x, 0, keepdims=True), [ROWS, 3]),
    "sum rows and more": (lambda x: tf.reduce_sum(x, [0, 2]), [ROWS, 2, 3]),
    "sum everything": (lambda x: tf.reduce_sum(x), [ROWS, 2, 3]),
    "sum static": (lambda x: tf.reduce_sum(x, [0, 1]), [4, 2, 3]),
    "sum of two unknown sizes": (lambda x: tf.reduce_sum(x, -1), [ROWS, ROWS, 3]),
    "sum first of two unknown sizes": (lambda x: tf.reduce_sum(x, 0), [ROWS, ROWS, 3]),
    "gather rows": (pick, [ROWS, 3]),
    "gather static rows": (pick, [5, 3]),
    "gather by two indices": (lambda x: tf.gather_nd(x, [[0, 1], [3, 0], [0, 1]]), [ROWS, 2, 3]),
    "select": (lambda x, y: tf.where_v2(x > 0, x, y), [ROWS, 3], [ROWS, 3]),
    "select against a constant": (lambda x: tf.where_v2(x > 0, x, 0.0), [ROWS, 3]),
    "select by column": (lambda x, y: tf.where_v2(x[:, :1] > 0, x, y), [ROWS, 3], [ROWS, 3]),
    "select against a bias": (lambda x, y: tf.where_v2(x > 0, x, y), [ROWS, 3], [3]),
    "crop": (crop, [ROWS, 4]),
}
for tx in (False, True):
    for ty in (False, True):
        OTHERS["product %d%d" % (tx, ty)] = (
            lambda x, y, tx=tx, ty=ty: tf.matmul(x, y, transpose_a=tx, transpose_b=ty),
            [ROWS, 2, 4] if tx else [ROWS, 4, 2],
            [ROWS, 3, 2] if ty else [ROWS, 2, 3],
        )
OTHERS["product, two batch axes"] = (tf.matmul, [ROWS, 2, 4, 2], [ROWS, 2, 2, 3])
FEW = ("bias", "scalar first", "outer product", "one row, three axes", "two unknown sizes and a bias")
CASES = {
    "{}, {}".format(name, shapes): (function,) + BINARY_SHAPES[shapes]
    for name, function in BINARY.items()
    for shapes in (BINARY_SHAPES if name == "mul" else FEW)
}
CASES.update(OTHERS)
IN_LOOP = [name + ", bias" for name in BINARY] + ["div, outer product", "div, two unknown sizes and a bias"]
IN_LOOP += [
    "subtract from a constant",
    "multiply by data",
    "concat twice the same",
    "reshape",
    "expand",
    "squeeze",
]
IN_LOOP += ["reshape joins two unknown sizes", "sum two axes", "sum rows", "sum of two unknown sizes"]
IN_LOOP += ["gather rows", "select against a bias", "select by column", "crop", "product 01", "product 10"]


def make_inputs(names, rng):
    """Placeholders of each case, and what to feed with 4 and with 7 rows."""
    inputs, feeds = {}, [{}, {}]
    for name in names:
        shapes = CASES[name][1:]
        inputs[name] = [tf.placeholder(tf.float32, shape) for shape in shapes]
        for feed, rows in zip(feeds, (4, 7)):
            for x, shape in zip(inputs[name], shapes):
                value = rng.uniform(0.3, 1.5, size=[rows if n is None else n for n in shape])
                feed[x] = value * rng.choice([-1, 1], size=value.shape)
    return inputs, feeds


def loss_of(inputs, factor=1.0):
    """A number that depends on the results of all cases."""
    values = []
    for name, xs in inputs.items():
        outputs = CASES[name][0](xs[0] * factor, *xs[1:])
        values.append(tf.reduce_mean(tf.sin(outputs + 0.3)))
    return tf.add_n(values)


def loss_in_loop(inputs):
    def body(i, total):
        return i + 1, total + loss_of(inputs, 1.0 + tf.cast(i, tf.float32))

    return tf.while_loop(lambda i, _: i < 3, body, [0, 0.0])[1]


@pytest.mark.parametrize(
    "loss, names", [(loss_of, sorted(CASES)), (loss_in_loop, IN_LOOP)], ids=["flat", "loop"]
)
def test_gradients_are_those_of_tensorflow(loss, names):
    inputs, feeds = make_inputs(names, np.random.RandomState(0))

    def gradients():
        flat = iter(tf.gradients(loss(inputs), [x for xs in inputs.values() for x in xs]))
        return {name: [tf.convert_to_tensor(next(flat)) for _ in xs] for name, xs in inputs.items()}

    expected = gradients()
    with static_gradients():
        actual = gradients()
    for feed in feeds:
        actual_values, expected_values = run((actual, expected), feed)
        for name in names:
            assert any(np.any(e) for e in expected_values[name]), name
            for a, e in zip(actual_values[name], expected_values[name]):
                assert a.shape == e.shape, name
                np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6, err_msg=name)


def test_only_operations_made_inside_have_static_gradients():
    x = tf.placeholder(tf.float32, [None, 3])
    before = x * x
    with static_gradients():
        inside = x * x
    after = x * x

    def operations(tensor):
        graph = tf.get_default_graph()
        n = len(graph.get_operations())
        tf.gradients(tensor, x)
        return [op.type for op in graph.get_operations()[n:]]

    assert "BroadcastGradientArgs" in operations(before)
    assert "BroadcastGradientArgs" not in operations(inside)
    assert "BroadcastGradientArgs" in operations(after)


def test_products_whose_batches_broadcast_are_refused():
    x, y = tf.placeholder(tf.float32, [None, 2, 3, 4]), tf.placeholder(tf.float32, [2, 4, 3])
    with static_gradients():
        z = tf.matmul(x, y)
    with pytest.raises(ValueError, match="broadcast"):
        tf.gradients(z, [x, y])
