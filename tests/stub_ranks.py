# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranks within one process, with the contract of `sqair.engine.ranks.Together`, and what they would say."""

import numpy as np

from sqair.engine import ranks
from sqair.graph_mode import tf


class Fed(ranks.Alone):
    """A rank whose mean is fed: `vector` is what it brings, `result` what it is told."""

    def __init__(self, rank, size):
        self.rank, self.size = rank, size

    def mean(self, vector):
        self.vector, self.result = vector, tf.placeholder(tf.float32, vector.shape)
        return self.result


class Lockstep:
    """The training graphs of all ranks; an update of all of them averages by NumPy what they bring."""

    def __init__(self, size, make_graph, reduce=np.mean):
        """Takes the function that makes the graph of a rank, and the one that makes a mean, along axis 0."""
        self._group = [Fed(rank, size) for rank in range(size)]
        self._reduce = reduce
        self.graphs = [make_graph(rank) for rank in self._group]
        for graph in self.graphs:
            graph.session = _Feeding(graph.session)

    def update(self):
        """A function for each rank, to be called once: does its update and returns the numbers."""
        pairs = list(zip(self.graphs, self._group))
        brought = np.stack([graph.session.run(rank.vector) for graph, rank in pairs])
        for graph, rank in pairs:
            graph.session.feed[rank.result] = self._reduce(brought, axis=0)
        return [lambda graph=graph: graph.update(True) for graph in self.graphs]

    def close(self):
        for graph in self.graphs:
            graph.close()


class _Feeding:
    """A session that is always fed the same besides; a mean that is fed leaves the model and its data alone."""

    def __init__(self, session):
        self._session, self.feed = session, {}

    def run(self, fetches, feed=None):
        needed = {} if isinstance(fetches, (tf.Tensor, tf.Operation)) else self.feed
        return self._session.run(fetches, {**needed, **(feed or {})})

    def close(self):
        self._session.close()


class Scripted(ranks.Alone):
    """One of two ranks, whose agreements are written down: `highest` gives these in turn, or calls them for one."""

    size = 2

    def __init__(self, *answers, rank=0):
        self.answers, self.asked, self.rank = list(answers), [], rank

    def highest(self, number):
        self.asked.append(int(number))
        answer = self.answers.pop(0)
        return answer() if callable(answer) else answer
