# SPDX-License-Identifier: GPL-3.0-or-later
"""The graph of a training: one update, guarded against numbers that are not finite."""

from collections import OrderedDict

import numpy as np

from sqair.engine import devices, initial_values, ranks
from sqair.engine.averages import move_averages
from sqair.engine.lean_graph import LeanGraph
from sqair.errors import UserError
from sqair.evaluation import evaluator as evaluation
from sqair.graph_mode import first_line, tf
from sqair.model import noise
from sqair.training import checkpoints, curriculum

_MOMENTUM = 0.9


class NonFiniteError(UserError):
    """A loss, gradient or variable is NaN or infinite; `step` is the number of updates done."""

    def __init__(self, step, message):
        super().__init__(message)
        self.step = step


def make_optimiser(name, learning_rate):
    """The optimiser of a flag's value."""
    if name == "rmsprop":
        return tf.train.RMSPropOptimizer(learning_rate, decay=0.9, momentum=_MOMENTUM, epsilon=1e-10)
    if name == "adam":
        return tf.train.AdamOptimizer(learning_rate)
    return tf.train.MomentumOptimizer(learning_rate, momentum=_MOMENTUM)


class TrainingGraph:
    """Model, loss, gradients and optimiser with their session.

    `step` is the number of updates done, `model` what is trained.
    """

    def __init__(self, make_model, dataset, settings, checkpoint=None, weights=None, group=ranks.ALONE):
        """Builds the graph and initialises it, ready for the next update.

        Args:
            make_model: callable without arguments that builds the model in the default graph.
            dataset: `SequenceDataset` to train on.
            settings: `sqair.training.settings.Settings`.
            checkpoint: `sqair.training.checkpoints.Checkpoint` to go on from; None to start.
            weights: `Checkpoint` whose weights a start begins with instead of random ones.
            group: `sqair.engine.ranks.Together`, of which each rank computes its part of the batch.

        Raises:
            UserError: if a checkpoint is one of a model of other sizes, if the batch can't be divided over the ranks,
                or if they do not start with the same data and variables.
        """
        if settings.batch_size % group.size:
            raise UserError(
                f"`batch_size={settings.batch_size}` is refused: {group.size} ranks share it in equal parts; take a"
                f" multiple of {group.size}."
            )
        self._dataset, self._settings, self._group = dataset, settings, group
        self.step = 0 if checkpoint is None else checkpoint.step
        self.graph = LeanGraph()
        with self.graph.as_default(), group.place(), devices.accelerator():
            tf.set_random_seed(settings.seed)
            self._build(make_model)
            self._saver = checkpoints.Saver(tf.global_variables())
            self.session = group.session(evaluation.session_config(settings.num_threads))
            self.session.run([tf.global_variables_initializer(), self._iterator.initializer])
            if checkpoint is not None:
                checkpoints.load(self.session, tf.global_variables(), checkpoint.values, checkpoint.path)
            elif weights is not None:
                # What is fixed, as the noise of pixels, stays what the model was made with.
                learned = tf.trainable_variables()
                checkpoints.load(self.session, learned, checkpoints.averaged(weights.values), weights.path)
        if group.size > 1:
            group.check_same("training data", dataset.mean_image().tobytes())
            values = sorted(self.values().items())
            group.check_same("variables", b"".join(value.tobytes() for _, value in values))

    @property
    def names(self):
        """The names of the numbers that `update` returns: list of str."""
        norms = [f"gradient_norm/{module}" for module in OrderedDict.fromkeys(self._modules)]
        return ["loss", *self._result.scalars, "seq_len", "learning_rate", "gradient_norm", *norms]

    def update(self, with_numbers):
        """Does one update on the next batch.

        Args:
            with_numbers: whether to return what the batch amounts to.

        Returns:
            `OrderedDict` of name -> number, or None.

        Raises:
            NonFiniteError: if the loss or a gradient is not finite; nothing has been updated then.
            UserError: if another rank has ended.
        """
        try:
            with self._group.connected():
                numbers, _ = self.session.run((self._numbers if with_numbers else (), self._update))
        except tf.errors.InvalidArgumentError as error:
            message = self._diagnose()
            if message is None:
                raise
            raise NonFiniteError(self.step, message) from error
        self.step += 1
        return self._named(numbers) if with_numbers else None

    def seq_len(self):
        """The number of frames of the next update."""
        return int(self.session.run(self._seq_len))

    def save(self, folder, rolling):
        """Writes a checkpoint of the current step, unless a variable is not finite.

        Returns:
            The path of the checkpoint.

        Raises:
            NonFiniteError: if the last update made a variable NaN or infinite.
            UserError: if it can't be written.
        """
        broken = [name for name, value in self.values().items() if not np.all(np.isfinite(value))]
        if broken:
            raise NonFiniteError(
                self.step, f"After update {self.step} these variables are not finite: {_listed(broken)}"
            )
        return checkpoints.save(self.session, self._saver, folder, self.step, rolling)

    def values(self):
        """All variables: dict of name -> array."""
        with self.graph.as_default():
            variables = {variable.op.name: variable for variable in tf.global_variables()}
        return self.session.run(variables)

    def close(self):
        """Frees the session."""
        self.session.close()

    def _build(self, make_model):
        settings = self._settings
        with devices.host():
            self._iterator = tf.data.make_initializable_iterator(self._batches())
            batch = self._iterator.get_next()
        global_step = tf.get_variable(  # a resource: all that is read in one run is read before the update
            "global_step", [], tf.int64, tf.zeros_initializer(), trainable=False, use_resource=True
        )
        self._global_step = global_step.read_value()
        self._seq_len = curriculum.sequence_length(
            self._global_step, settings.seq_len, settings.stage_itr, self._dataset.seq_len
        )
        rate = curriculum.learning_rate(self._global_step, settings)
        with initial_values.keyed_by_name():
            self.model = make_model()
        sample = noise.draw(
            settings.seed, self._global_step, "train", self._seq_len, settings.batch_size, settings.k_particles,
            self.model.noise,
        )  # fmt: skip
        sample = noise.part_of(sample, *self._part)
        self._result, _ = evaluation.forward(self.model, batch, self._seq_len, sample, settings)
        variables = tf.trainable_variables()
        pairs = [
            (gradient, variable)
            for gradient, variable in zip(tf.gradients(self._result.loss, variables), variables)
            if gradient is not None
        ]
        gradients, variables = zip(*pairs)
        self._gradient_names = [variable.op.name for variable in variables]
        gradient = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        if self._group.size > 1:
            gradient = self._of_whole_batch(gradient, sum(_sizes(variables)))
            gradients = tf.split(gradient, _sizes(variables))
        self._half_squares = tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])
        self._numbers = (
            self._result.loss,
            list(self._result.scalars.values()),
            self._seq_len,
            rate,
            self._half_squares,
        )
        self._update = self._guarded_update(gradient, variables, rate, global_step)

    def _of_whole_batch(self, gradient, size):
        """Averages over ranks, whose parts are of one size, in one all-reduce: loss, report and the flat gradient."""
        scalars = self._result.scalars
        numbers = tf.stack([self._result.loss, *scalars.values()])
        mean = self._group.mean(tf.concat([gradient, numbers], 0))
        gradient, numbers = tf.split(mean, [size, 1 + len(scalars)])
        loss, *values = tf.unstack(numbers)
        self._result = self._result._replace(loss=loss, scalars=OrderedDict(zip(scalars, values)))
        return gradient

    def _guarded_update(self, gradient, variables, rate, global_step):
        """The op that updates variables, optimiser and step; it fails first if a number is not finite."""
        norm = tf.sqrt(2.0 * tf.reduce_sum(self._half_squares))
        if self._settings.clip_norm > 0:
            (gradient,), _ = tf.clip_by_global_norm([gradient], self._settings.clip_norm, norm)
        finite = tf.check_numerics(tf.stack([self._result.loss, norm]), "loss and norm of the gradient")
        sizes = _sizes(variables)
        # The optimiser works on one vector: two large slots instead of two for each variable, in one operation.
        change = tf.get_variable(
            "change",
            [sum(sizes)],
            initializer=tf.zeros_initializer(),
            trainable=False,
            collections=["scratch"],
        )
        with tf.control_dependencies([finite, change.initializer]):
            optimised = make_optimiser(self._settings.opt, rate).apply_gradients([(gradient, change)])
        with tf.control_dependencies([optimised]):
            changes = tf.split(change.read_value(), sizes)
            updates = [
                variable.assign_add(tf.reshape(change, variable.shape))
                for variable, change in zip(variables, changes)
            ]
        with tf.control_dependencies(updates):
            averages = self._average_updates(variables) if self._settings.average else []
            return tf.group(global_step.assign_add(1, read_value=False), *averages)

    def _average_updates(self, variables):
        """Ops that move averages of the variables, which evaluation uses, on."""
        averages = [
            tf.get_variable(
                checkpoints.average_of(variable.op.name),
                variable.shape,
                initializer=tf.zeros_initializer(),
                trainable=False,
            )
            for variable in variables
        ]
        return move_averages(averages, variables, self._settings.average, self._global_step)

    def _batches(self):
        """The batches from that of the next update on."""
        return self._dataset.batches(
            self._settings.batch_size, seed=self._settings.seed, start=self.step, part=self._part
        )

    @property
    def _part(self):
        """(index, count): which of equal parts of each batch is computed here."""
        return self._group.rank, self._group.size

    @property
    def _modules(self):
        """The part of the model that each variable with a gradient belongs to: list of str, without `/`."""
        parts = [name.split("/") for name in self._gradient_names]
        depth = 1 if len({part[0] for part in parts}) == 1 else 0  # all below the name of the model
        return [part[depth] for part in parts]

    def _named(self, numbers):
        loss, scalars, seq_len, rate, half_squares = numbers
        named = OrderedDict(loss=loss)
        named.update(zip(self._result.scalars, scalars))
        named.update(seq_len=seq_len, learning_rate=rate)
        half_squares = np.asarray(half_squares, np.float64)
        named["gradient_norm"] = np.sqrt(2 * half_squares.sum())
        modules = np.array(self._modules)
        for module in OrderedDict.fromkeys(self._modules):
            chosen = modules == module
            named[f"gradient_norm/{module}"] = np.sqrt(2 * half_squares[chosen].sum())
        return named

    def _diagnose(self):
        """Repeats the forward and backward pass of the current step, which its keyed noise makes exact.

        Returns:
            What is not finite, as the beginning of a sentence; None if all of it is finite.
        """
        with self.graph.as_default(), devices.host():
            self.session.run(self._iterator.make_initializer(self._batches()))
        where = f"Update {self.step + 1} was not applied:"
        try:
            with self._group.connected():
                loss, scalars, _, _, half_squares = self.session.run(self._numbers)
        except tf.errors.InvalidArgumentError as error:  # a check inside the model, with --debug
            return f"{where} {first_line(error)}"
        terms = ["loss"] if not np.isfinite(loss) else []
        terms += [name for name, value in zip(self._result.scalars, scalars) if not np.isfinite(value)]
        broken = [name for name, value in zip(self._gradient_names, half_squares) if not np.isfinite(value)]
        if not terms and not broken:
            return None
        return (
            f"{where} these terms are not finite: {_listed(terms)}; nor are the gradients of these variables:"
            f" {_listed(broken)}"
        )


def _sizes(variables):
    return [variable.shape.num_elements() for variable in variables]


def _listed(names, most=8):
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
