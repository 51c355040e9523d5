# SPDX-License-Identifier: GPL-3.0-or-later
"""Equal small constants are one node; what differs, or starts a variable, stays apart."""

import numpy as np
from tf_run import run

from sqair.engine.lean_graph import LeanGraph
from sqair.graph_mode import tf


def test_equal_small_constants_are_one_node():
    with LeanGraph().as_default():
        assert tf.constant(2.0).op is tf.constant(2.0).op
        assert tf.constant([1, 2]).op is tf.constant([1, 2]).op
        different = [tf.constant(2.0), tf.constant(3.0), tf.constant(2), tf.constant([2.0])]
        assert len({x.op.name for x in different}) == 4
        assert run(different)[1] == 3.0


def test_large_constants_are_not_compared():
    with LeanGraph().as_default():
        large = np.zeros(1000, np.float32)
        assert tf.constant(large).op is not tf.constant(large).op


def test_each_loop_has_constants_of_its_own():
    with LeanGraph().as_default():
        body = lambda i: i + tf.constant(1) * tf.constant(1)  # noqa: E731
        loops = [tf.while_loop(lambda i: i < 3, body, [0]) for _ in range(2)]
        assert run(loops) == [3, 3]


def test_initial_values_stay_nodes_of_their_own():
    with LeanGraph().as_default():
        a, b = [tf.get_variable(name, [2], initializer=tf.zeros_initializer()) for name in "ab"]
        assert a.initializer.inputs[1].op is not b.initializer.inputs[1].op
        with tf.Session() as session:
            session.run([a.initializer, b.initializer], {a.initializer.inputs[1]: [1.0, 2.0]})
            assert session.run(a).tolist() == [1.0, 2.0]
            assert session.run(b).tolist() == [0.0, 0.0]


def test_a_model_has_far_fewer_nodes():
    def nodes(graph):
        with graph.as_default():
            x = tf.zeros([3, 4])
            for _ in range(20):
                x = tf.reduce_sum(tf.split(x, [1, 3], axis=1)[1], axis=1, keepdims=True) + tf.ones([3, 4])
            return len(graph.get_operations())

    assert nodes(LeanGraph()) < 0.6 * nodes(tf.Graph())
