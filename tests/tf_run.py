# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs tensors of the default graph, as quickly as a small graph allows."""

from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf


def run(fetches, feed=None):
    """The values of `fetches`, with all variables at their start."""
    with tf.Session(config=session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        return session.run(fetches, feed)
