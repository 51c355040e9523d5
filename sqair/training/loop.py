# SPDX-License-Identifier: GPL-3.0-or-later
"""A training session: updates, and between them reports, evaluations, figures and checkpoints when due.

Everything that happens at a step depends on the settings and the step alone, and what was written already is
not done twice. So a session that ends at any point, kill -9 included, is continued by the next one as if it
had not stopped.
"""

import os
import re
import signal
import time

from sqair import files
from sqair.engine import ranks
from sqair.errors import UserError
from sqair.evaluation.evaluator import Evaluator
from sqair.training import checkpoints
from sqair.training.diagnosis import Diagnosis
from sqair.training.graph import NonFiniteError
from sqair.training.reporting import BATCH, TRAIN, VALID, Console, Metrics, TensorBoard
from sqair.training.times import Times

ROLLING_SECONDS = 600.0
FIGURE_SEQUENCES = 4
FIGURES = "tracking", "glimpses"
_REMEDY = (
    ". Resuming with the same settings would repeat this: change `learning_rate`, `clip_norm` or `seed`."
)


class StopSignals:
    """Notes SIGINT and SIGTERM instead of ending the process; a second one ends it."""

    def __init__(self):
        self.received = None
        self._previous = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self):
        return self.received is not None

    def agree(self, group):
        """Whether any rank of a group has noted a signal, which all note then.

        All of them call this at the same step and get the same answer: a signal that comes meanwhile is of the next.
        """
        number = group.highest(self.received or 0)
        if number:
            self.received = signal.Signals(number)
        return number > 0

    def _note(self, number, _):
        self.received = signal.Signals(number)
        self.__exit__()


def train(run, graph, make_model, data, settings, checkpoint=None, group=ranks.ALONE):
    """Trains to `settings.train_itr`, or until SIGINT or SIGTERM.

    Args:
        run: `sqair.training.runs.Run` to write into; its session has begun.
        graph: `TrainingGraph` of the same model, data, settings and checkpoint.
        make_model: callable without arguments that builds the model in the default graph, for evaluation.
        data: mapping of "train" and "valid" -> `SequenceDataset`.
        settings: `sqair.training.settings.Settings`, checked.
        checkpoint: `sqair.training.checkpoints.Checkpoint` that the graph goes on from; None if it starts.
        group: `sqair.engine.ranks.Together` that the graph is of. This is its rank 0; the others `follow`.

    Returns:
        The `signal.Signals` that stopped it, or None if it trained to the end. All is saved in both cases.

    Raises:
        NonFiniteError: if a loss or gradient is not finite; the last checkpoint before that is kept.
        UserError: if something can't be written, or another rank has ended.
    """
    with StopSignals() as stop:
        session = _Session(run, graph, make_model, data, settings, checkpoint, group, stop)
        try:
            session.train()
        except NonFiniteError as error:
            raise session.explained(error) from error
        finally:
            session.close()
        return stop.received


def follow(graph, settings, group):
    """Trains as `train` does on rank 0, which alone writes, evaluates and saves.

    Args:
        graph, settings, group: as in `train`.

    Returns:
        The `signal.Signals` that stopped all ranks, or None; rank 0 has saved then.

    Raises:
        NonFiniteError: if a loss or gradient is not finite, as on all ranks.
        UserError: if another rank has ended.
    """
    with StopSignals() as stop:
        try:
            while graph.step < settings.train_itr and not stop.agree(group):
                graph.update(with_numbers=False)
        except NonFiniteError as error:
            raise NonFiniteError(error.step, f"{error}; rank 0 says what is kept{_REMEDY}") from error
        finally:
            graph.close()
        stop.agree(group)
        return stop.received


class _Session:
    """What `train` works with: the training graph, its evaluator, and where numbers and pictures go."""

    def __init__(self, run, graph, make_model, data, settings, checkpoint, group, stop):
        self._run, self._make_model, self._data, self._settings = run, make_model, data, settings
        self._graph, self._group, self._stop = graph, group, stop
        self._evaluator = None  # built when it is first needed: the first update need not wait for it
        self._evaluator_step = None
        last_step = None if checkpoint is None else checkpoint.step
        self._saved_step, self._saved_time = last_step, time.time()
        self._metrics = Metrics(run.metrics, graph.names, last_step)
        self._times = Times(run.times, last_step)
        self._tensorboard = TensorBoard(run.events, last_step)
        _remove_figures_after(graph.step, run.figures)
        self._console = Console(settings.train_itr, graph.step)
        may_use_vimco = settings.k_particles > 1 and settings.estimator != "vimco"
        self._diagnosis = Diagnosis(graph.model.n_steps, graph.model.bound.keeps_ids, may_use_vimco)

    def train(self):
        """Updates until the end or a signal, and saves."""
        settings, graph = self._settings, self._graph
        if graph.step == 0 and self._saved_step is None:
            self._save(rolling=True)  # shows early whether checkpoints can be written
        self._between_updates()
        while graph.step < settings.train_itr and not self._stop.agree(self._group):
            due = (graph.step + 1) % settings.report_loss_every == 0
            begin = time.time()
            numbers = graph.update(with_numbers=due or self._console.wants_numbers)
            self._console.step(time.time() - begin, numbers)
            if due:
                self._times.note(graph.step)
                self._console.heartbeat(graph.step, numbers)
                self._write(BATCH, numbers)
                for symptom in self._diagnosis.add(numbers):
                    self._console.line(f"Warning at step {graph.step}: {symptom}.")
            self._between_updates()
        if graph.step != self._saved_step:
            self._save(rolling=bool(self._stop))
        self._stop.agree(self._group)  # the others end when all is saved

    def explained(self, error):
        """A `NonFiniteError` that also says what is left and how to go on; noted in the run folder."""
        checkpoint = checkpoints.latest(self._run.checkpoints)
        kept = (
            f"the last good checkpoint, {checkpoint.path}, is kept"
            if checkpoint
            else "there is no checkpoint yet"
        )
        self._run.record_failure(error.step, str(error))
        return NonFiniteError(error.step, f"{error}; {kept}{_REMEDY}")

    def close(self):
        """Frees sessions and ends files."""
        self._console.close()
        self._tensorboard.close()
        self._graph.close()
        if self._evaluator is not None:
            self._evaluator.close()

    def _between_updates(self):
        """Checkpoint, evaluation and figures, if the step asks for them and they are not there yet."""
        settings, step = self._settings, self._graph.step
        if _is_due(step, settings.log_itr):
            self._times.note(step)
        permanent = _is_due(step, settings.save_itr) or step == settings.train_itr
        if (permanent and step != self._saved_step) or time.time() - self._saved_time > ROLLING_SECONDS:
            self._save(rolling=not permanent)
        if _is_due(step, settings.log_itr) or (settings.log_at_start and step == 0):
            if settings.eval_on_train:
                self._evaluate(TRAIN)
            self._evaluate(VALID)
        if _is_due(step, settings.fig_itr):
            self._draw()

    def _evaluate(self, split):
        step = self._graph.step
        if self._stop or self._metrics.has(step, split):
            return
        numbers = self._current_evaluator().evaluate(
            split,
            self._settings.eval_size_fraction,
            self._graph.seq_len(),
            should_stop=lambda: bool(self._stop),
        )
        if numbers is None:  # stopped: the next session evaluates this step again
            return
        numbers["seq_len"] = self._graph.seq_len()
        self._write(split, numbers)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self._console.line(f"step {step}, {split}: {shown}")

    def _draw(self):
        step = self._graph.step
        names = FIGURES if self._graph.model.n_steps else FIGURES[:1]  # without objects there are no glimpses
        paths = {name: os.path.join(self._run.figures, f"{name}-{step}.png") for name in names}
        if self._stop or all(os.path.exists(path) for path in paths.values()):
            return
        from sqair.evaluation import visualization  # matplotlib is slow to import

        seen = self._current_evaluator().predict(VALID, FIGURE_SEQUENCES)
        draw = {
            "tracking": lambda: visualization.tracking_figure(*seen.tracks, max_sequences=FIGURE_SEQUENCES),
            "glimpses": lambda: visualization.glimpse_figure(*seen.tracks, seen.glimpses, seen.presence_prob),
        }
        for name in names:
            figure = draw[name]()
            size = visualization.to_array(figure).shape[:2]
            png = visualization.to_png(figure)
            self._tensorboard.write_image(step, VALID, name, png, size)
            with files.writing(self._run.figures):
                files.make_folder(self._run.figures)
            with files.atomic_write(paths[name], "wb") as file:
                file.write(png)

    def _current_evaluator(self):
        if self._evaluator is None:
            self._evaluator = Evaluator(self._make_model, self._data, self._settings)
        if self._evaluator_step != self._graph.step:
            self._evaluator.load(self._graph.values(), f"update {self._graph.step}")
            self._evaluator_step = self._graph.step
        return self._evaluator

    def _write(self, source, numbers):
        self._metrics.write(self._graph.step, source, numbers)
        self._tensorboard.write(self._graph.step, source, numbers)

    def _save(self, rolling):
        self._times.note(self._graph.step)
        self._times.sync()
        self._metrics.sync()  # what precedes a checkpoint is there when it is resumed
        self._tensorboard.sync()
        self._graph.save(self._run.checkpoints, rolling)
        self._saved_step, self._saved_time = self._graph.step, time.time()


def _remove_figures_after(step, folder):
    """Removes the figures of steps beyond the one that is resumed from: they show another model."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        match = re.fullmatch(rf"({'|'.join(FIGURES)})-(\d+)\.png", name)
        if match and int(match.group(2)) > step:
            with files.writing(folder):
                os.remove(os.path.join(folder, name))


def _is_due(step, interval):
    return interval > 0 and step > 0 and step % interval == 0


def resume_point(run, report):
    """The checkpoint that a run is resumed from; damaged ones are reported and passed over.

    Raises:
        UserError: if the run has no complete checkpoint.
    """
    checkpoint = checkpoints.latest(run.checkpoints, report)
    if checkpoint is None:
        raise UserError(
            f"Run {run.folder} has no complete checkpoint in {run.checkpoints} to resume from; start a new run"
            " without `resume`."
        )
    return checkpoint
