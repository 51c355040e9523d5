# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np

from sqair.engine.averages import move_averages
from sqair.graph_mode import tf


def test_averages_agree_with_the_slow_ones_and_see_variables_as_they_are_after_the_update():
    """However the count is kept; what averages held before the first update is forgotten."""
    start, change = np.array([[1.0, 2.0]], np.float32), np.array([[0.5, -3.0]], np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        variable, average = tf.Variable(start), tf.Variable([[7.0, 7.0]])
        count = tf.placeholder(tf.int64, [])
        with tf.control_dependencies([variable.assign_add(change)]):
            ops = move_averages([average], [variable], 0.4, count)
        session.run(tf.global_variables_initializer())
        wanted = None
        for done in range(15):
            session.run(ops, {count: done})
            now = start + (done + 1) * change
            kept = min(0.4, done / (done + 10))
            wanted = now if wanted is None else kept * wanted + (1 - kept) * now
            np.testing.assert_allclose(session.run(average), wanted, rtol=1e-5)
        assert done / (done + 10) > 0.4  # both parts of the rate were seen
