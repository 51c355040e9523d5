# SPDX-License-Identifier: GPL-3.0-or-later
"""The classifier of the addition task: two hidden layers of 256 ELU, 19 outputs, Adam at TensorFlow's defaults.

Not in the paper: it sees one frame at a time. It learns from a random frame of each sequence in a batch, the slots of a
model of objects in random order, since a sum does not depend on it; what it says of a sequence is the mean of its
log-probabilities over all frames. Weights that are tested are moving averages over about the last 1,000 updates: at
Adam's constant rate they swing, which costs 2% of the sums and ends the training early.
"""

import numpy as np

from sqair.engine import initial_values
from sqair.engine.averages import move_averages
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import snt, tf

NUM_SUMS = 19  # 0 to 18
HIDDEN = (256, 256)
BATCH_SIZE = 256  # not in the paper
DECAY = 0.999  # of the moving averages, in the end
_TESTED_AT_ONCE = 1000  # sequences


class SumClassifier:
    """Tells the sum of digits from features, in a graph and session of its own."""

    def __init__(self, num_slots, num_features, seed=0, batch_size=BATCH_SIZE, num_threads=1):
        """Builds the network for `num_slots` slots of a frame with `num_features` each, which are concatenated.

        `seed` fixes its initial values, the order of sequences and slots and which frames are learnt from.
        """
        self._rng, self._batch_size = np.random.RandomState(seed), batch_size
        self._order = np.zeros(0, int)
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            self._features = tf.placeholder(tf.float32, [None, None, num_slots, num_features], "features")
            self._sums = tf.placeholder(tf.int32, [None], "sums")
            with initial_values.keyed_by_name():
                learning, learning_log_probs = _network(self._features, "learning")
                tested, tested_log_probs = _network(self._features, "tested")
            self.learning, self.tested = learning.get_variables(), tested.get_variables()
            self._losses = _cross_entropies(tested_log_probs, self._sums)
            self._right = tf.equal(tf.argmax(tested_log_probs, axis=-1, output_type=tf.int32), self._sums)
            loss = tf.reduce_mean(_cross_entropies(learning_log_probs, self._sums))
            count = tf.train.create_global_step()
            with tf.control_dependencies([tf.train.AdamOptimizer().minimize(loss, var_list=self.learning)]):
                averages = move_averages(self.tested, self.learning, DECAY, count)
            with tf.control_dependencies(averages):
                self._update = count.assign_add(1, read_value=False)
            kept = [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in self.tested]
            self._keep, self._restore = _assign(kept, self.tested), _assign(self.tested, kept)
            self._session = tf.Session(config=session_config(num_threads))
            self._session.run(tf.global_variables_initializer())

    def update(self, features, sums):
        """One update with the next batch of `[n, T, S, F]` and `[n]`, the same every time, in random order."""
        while len(self._order) < self._batch_size:
            self._order = np.append(self._order, self._rng.permutation(len(sums)))
        batch, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
        frames = self._rng.randint(features.shape[1], size=self._batch_size)
        slots = self._rng.rand(self._batch_size, features.shape[2]).argsort(axis=1)
        shown = np.take_along_axis(features[batch, frames], slots[..., None], axis=1)
        self._session.run(self._update, {self._features: shown[:, None], self._sums: sums[batch]})

    def test(self, features, sums):
        """Which of `[n, T, S, F]` and `[n]` are classified right, `[n]` bool, and the mean cross-entropy in nats."""
        found = []
        for first in range(0, len(sums), _TESTED_AT_ONCE):
            some = slice(first, first + _TESTED_AT_ONCE)
            feed = {self._features: features[some], self._sums: sums[some]}
            found.append(self._session.run([self._right, self._losses], feed))
        right, losses = (np.concatenate(part) for part in zip(*found))
        return right, float(np.mean(losses, dtype=np.float64))

    def keep(self):
        """Notes the weights that are tested as they are."""
        self._session.run(self._keep)

    def restore(self):
        """Goes back to the weights that were noted."""
        self._session.run(self._restore)

    def close(self):
        """Frees the session."""
        self._session.close()


def _network(features, name):
    """A network, and what it says of sequences `[n, T, S, F]`: mean log-probabilities of sums, `[n, NUM_SUMS]`."""
    network = snt.nets.MLP([*HIDDEN, NUM_SUMS], activation=tf.nn.elu, name=name)
    logits = snt.BatchApply(network)(snt.MergeDims(2, 2)(features))
    return network, tf.reduce_mean(tf.nn.log_softmax(logits), axis=1)


def _cross_entropies(log_probs, sums):
    return -tf.reduce_sum(tf.one_hot(sums, NUM_SUMS) * log_probs, axis=-1)


def _assign(variables, others):
    return tf.group([tf.assign(variable, other) for variable, other in zip(variables, others)])
