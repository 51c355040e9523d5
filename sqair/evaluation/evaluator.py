# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation in a graph of its own: the same code after a checkpoint of a training and offline."""

import itertools
import math
from concurrent import futures

from orderedattrdict import AttrDict

from sqair.data import workers
from sqair.engine import devices, initial_values
from sqair.engine.lean_graph import LeanGraph
from sqair.engine.unroll import STREAMS
from sqair.errors import UserError
from sqair.evaluation import sequence_statistics
from sqair.evaluation.prediction import Features, Prediction, Shown
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.training import checkpoints, objective

NUM_SEEDS = 2**31  # seeds are below
ROUNDING = 1e-6  # of a share times a number of sequences: 0.07 of 100 are 7


def forward(model, batch, seq_len, sample, settings):
    """The first frames of a batch through the model.

    Args:
        model: what a model config's `load` returns.
        batch: `SequenceBatch`.
        seq_len: scalar int32, how many frames.
        sample: noise of as many frames, as the model wants it.
        settings: `sqair.training.settings.Settings`.

    Returns:
        `ModelResult` and the shortened batch.
    """
    batch = batch.first_frames(seq_len)
    result = objective.loss_and_report(
        model, batch, settings.k_particles, sample, estimator=settings.estimator, l2=settings.l2
    )
    return result, batch


def session_config(num_threads):
    """`tf.ConfigProto` for a number of threads (0: one for each core); takes GPU memory as needed.

    Cores share operations, not the work within one: most products here are too small to be divided, and two halves of
    a batch run side by side (`sqair.engine.unroll.STREAMS`). Grappler's rewriting is off: it gains nothing and delays
    the start.
    """
    num_threads = num_threads or workers.available_cores()
    config = tf.ConfigProto(
        intra_op_parallelism_threads=max(num_threads // STREAMS, 1),
        inter_op_parallelism_threads=num_threads,
        gpu_options=tf.GPUOptions(allow_growth=True),
        allow_soft_placement=True,
    )
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


class Evaluator:
    """A model that evaluates data sets, in a graph and session of its own.

    `bound` and `n_steps` are the model's.
    """

    def __init__(self, make_model, data, settings):
        """Builds the graph; `load` or `initialise` gives it its variables.

        Args:
            make_model: callable without arguments that builds the model in the default graph.
            data: mapping of split -> `SequenceDataset`, all of the same sizes.
            settings: `sqair.training.settings.Settings`.
        """
        self.data, self.settings = data, settings
        self._openers = {}  # what `_open` is called with -> operation
        self._graph = LeanGraph()
        with self._graph.as_default(), devices.accelerator():
            tf.set_random_seed(settings.seed)  # of `initialise`
            self._variables = self._build(make_model)
            self._session = tf.Session(config=session_config(settings.num_threads))

    def load(self, values, source="the checkpoint"):
        """Sets the model's variables, to their averages over updates where there are any.

        Args:
            values: dict of variable name -> array, e.g. from `checkpoints.read`.
            source: str, where they come from, for messages.

        Raises:
            UserError: if a variable is missing or has another shape.
        """
        with self._graph.as_default():
            checkpoints.load(self._session, self._variables, checkpoints.averaged(values), source)

    def initialise(self):
        """Sets the model's variables to what a training starts from."""
        with self._graph.as_default():
            self._session.run(tf.variables_initializer(self._variables))

    def evaluate(self, split, fraction=1.0, seq_len=None, should_stop=lambda: False, progress=iter):
        """Means over the first sequences of a split, each sequence with the same weight.

        Args:
            split: str, which data set.
            fraction: float in (0, 1], of the set's sequences, rounded up.
            seq_len: int, frames of each sequence; all by default.
            should_stop: callable, asked between batches whether to give up.
            progress: callable that wraps the range of the batches' numbers, to watch them go by, e.g. `tqdm`.

        Returns:
            `orderedattrdict.AttrDict` of name -> float, in the order of the model's scalars; None if stopped.

        Raises:
            UserError: if the sequences are shorter than `seq_len`.
        """
        num_sequences = max(math.ceil(fraction * self.data[split].num_sequences - ROUNDING), 1)
        fetches = dict(self._result.scalars)
        batches = self._batches(fetches, split, num_sequences, seq_len, should_stop=should_stop)
        num_batches = math.ceil(num_sequences / self.settings.batch_size)
        found = [result for _, result in zip(progress(range(num_batches)), batches)]
        if len(found) < num_batches:
            return None
        return AttrDict(
            (name, sum(len(batch) * float(scalars[name]) for batch, scalars in found) / num_sequences)
            for name in self._result.scalars
        )

    def statistics(self, split, num_sequences, seq_len=None, parts=1, start=0):
        """What the model makes of each of the first sequences of a split, batch by batch.

        Args:
            split: str, which data set.
            num_sequences: int.
            seq_len: int, frames of each sequence; all by default.
            parts: int, how many times to draw the settings' number of particles, and to join them.
            start: int, the first sequence, a multiple of the batch size.

        Yields:
            `SequenceStatistics` of arrays, `[T, B]`, of one batch after the other.

        Raises:
            UserError: if the sequences are shorter than `seq_len`.
        """
        results = self._batches(self._statistics, split, num_sequences, seq_len, parts, start)
        while True:
            found = [part for _, part in itertools.islice(results, parts)]
            if not found:
                return
            yield sequence_statistics.join_particles(found, self.bound)

    def _batches(self, fetches, split, num_sequences, seq_len, parts=1, start=0, should_stop=lambda: False):
        """The sequences' numbers and what is fetched of each batch, in order; each part of a batch by itself."""
        dataset, batch_size = self.data[split], self.settings.batch_size
        if seq_len and seq_len > dataset.seq_len:
            raise UserError(f"`seq_len={seq_len}` is refused: the sequences have {dataset.seq_len} frames.")
        self._open(split, batch_size, num_sequences, parts, start)
        fetches = self._part, self._sequences, fetches
        feed = {self._seq_len: seq_len or dataset.seq_len}
        num_runs = math.ceil((num_sequences - start) / batch_size) * parts
        with futures.ThreadPoolExecutor(STREAMS) as pool:  # a batch keeps one core busy
            for first in range(0, num_runs, STREAMS):
                if should_stop():
                    return
                together = range(min(STREAMS, num_runs - first))
                done = pool.map(lambda _: self._session.run(fetches, feed), together)
                for _, sequences, found in sorted(done, key=lambda run: (run[1][0], run[0])):
                    yield sequences, found

    def stepper(self, split):
        """A function that evaluates the next of endless full batches of a split and returns its scalars."""
        self._open(split, self.settings.batch_size)
        scalars = dict(self._result.scalars)
        return lambda: self._session.run(scalars, {self._seq_len: self.data[split].seq_len})

    @property
    def graph_nodes(self):
        """The number of operations in the graph."""
        return len(self._graph.get_operations())

    def predict(self, split, num_sequences, seq_len=None, start=0):
        """What the model sees in the first sequences of a split, from `start` on, a multiple of the batch size.

        Returns:
            `Prediction`.
        """
        num_sequences = min(num_sequences, self.data[split].num_sequences)
        batches = self._batches(self._prediction, split, num_sequences, seq_len, start=start)
        return Prediction.joined([found for _, found in batches])

    def features(self, split, num_sequences, seq_len=None, start=0):
        """What a classifier may learn from, of the first sequences of a split; arguments as of `predict`.

        Yields:
            `Features` of one batch after the other.
        """
        num_sequences = min(num_sequences, self.data[split].num_sequences)
        for _, found in self._batches(self._features, split, num_sequences, seq_len, start=start):
            yield Features(*found)

    def close(self):
        """Frees the session."""
        self._session.close()

    def _build(self, make_model):
        settings = self.settings
        dataset = self._numbered(next(iter(self.data)), settings.batch_size, 1)
        with devices.host():
            self._iterator = tf.data.Iterator.from_structure(
                tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
            )
            self._part, self._sequences, batch = self._iterator.get_next()
        self._seq_len = tf.placeholder(tf.int32, [], "seq_len")
        with initial_values.keyed_by_name():
            model = make_model()
        self.bound, self.n_steps = model.bound, model.n_steps
        seed = settings.seed + self._part * NUM_SEEDS  # every part of the particles has noise of its own
        sample = noise.draw_by_sequence(
            seed, self._sequences, self._seq_len, settings.k_particles, model.noise
        )
        self._result, batch = forward(model, batch, self._seq_len, sample, settings)
        self._statistics = sequence_statistics.of_result(self._result, batch, model)
        shown = Shown(model, self._result, batch, settings.seed, self._sequences)
        self._prediction, self._features = shown.prediction(), shown.features()
        return tf.global_variables()

    def _open(self, *key):
        """Lets the iterator start as `_numbered` says; what it adds to the graph is used again."""
        if key not in self._openers:
            with self._graph.as_default():
                self._openers[key] = self._iterator.make_initializer(self._numbered(*key))
        self._session.run(self._openers[key])

    def _numbered(self, split, batch_size, num_sequences=None, parts=1, start=0):
        """`tf.data.Dataset` of batches, each as often as there are parts.

        With a batch come the part's number, int64, and those of its sequences, `[B]` int64, which key the noise. Of
        the first `num_sequences` once, from `start` on, the last batch may be smaller; of all for ever if that is None.
        """
        dataset = self.data[split]
        first_batch = start // batch_size
        batches = dataset.batches(batch_size, start=first_batch, repeat=num_sequences is None)
        if num_sequences is not None:
            batches = batches.take(-(-num_sequences // batch_size) - first_batch)

        def numbered(index, batch):
            first = index * batch_size
            last = first + tf.shape(batch.images, out_type=tf.int64)[1]
            if num_sequences is None:
                return tf.range(first, last) % dataset.num_sequences, batch
            last = tf.minimum(last, num_sequences)
            return tf.range(first, last), batch.first_sequences(last - first)

        def repeated(*numbered_batch):
            again = tf.data.Dataset.from_tensors(numbered_batch).repeat(parts)
            return again.enumerate().map(lambda part, numbered_batch: (part, *numbered_batch))

        return batches.enumerate(first_batch).map(numbered).flat_map(repeated)
