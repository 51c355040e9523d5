# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains the systems of the paper's table for some hours each, or takes those that come along, and measures them.

All that is known is read from folders, so that what was cut at any point goes on: runs know their updates and their
time, evaluations and results of the addition task what was found.
"""

import functools
import math
import os
import signal
import sys
from collections import OrderedDict
from typing import NamedTuple

from sqair import files
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation import addition, curves, evaluations
from sqair.training import checkpoints, runs, times
from sqair.training.reporting import TRAIN, VALID
from sqair.verification import child
from sqair.verification.paper_table import BY_FRAME, Measured, Number
from sqair.verification.training_legs import STAGE_ITR, next_leg, state_of

SCRIPTS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "scripts"
)
_SAVED_BY_SIGTERM = 128 + signal.SIGTERM  # exit status of a training


class System(NamedTuple):
    """A model and what its training and evaluation need beside what all of them do."""

    model_config: str
    curriculum: bool  # from 3 frames on, one more at a time; all frames at once otherwise
    resamples: bool  # needs all particles in memory together
    tiny: dict  # flags of a model that is there to try everything


_TINY_SQAIR = dict(n_units=1, n_what=4)
_TINY_VRNN = dict(hidden_size=8, n_layers=1, n_latent=4)
SYSTEMS = OrderedDict(
    mlp_sqair=System("mlp_mnist_model.py", True, False, _TINY_SQAIR),
    conv_sqair=System("conv_mnist_model.py", True, False, _TINY_SQAIR),
    mlp_air=System("mlp_air_model.py", False, False, _TINY_SQAIR),
    conv_vrnn=System("conv_vrnn_model.py", True, True, _TINY_VRNN),
    mlp_vrnn=System("mlp_vrnn_model.py", True, True, _TINY_VRNN),
)


class Plan(NamedTuple):
    """What is done with every system."""

    data_dir: str
    results_dir: str
    models_dir: str  # where models that come along are; "" to train all
    hours: float  # of each training
    few: int = 5  # particles
    many: int = 1000
    few_sequences: int = 0  # to evaluate; 0: all
    many_sequences: int = 400
    labelled: tuple = ("100", "300", "1000", "3000", "10000", "all")
    tiny: bool = False
    num_threads: int = 0


def subjects(names, plan):
    """`Subject`s of a plan, by name.

    Raises:
        UserError: if there is no such system.
    """
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown or not names:
        raise UserError(
            f"`systems={','.join(names)}` is refused: it takes some of {', '.join(SYSTEMS)}, commas between, or `all`"
            " alone."
        )
    return [Subject(name, plan) for name in dict.fromkeys(names)]


def check(plan):
    """Refuses at once what would be refused only after hours of training.

    Raises:
        UserError: if the data are missing, or there are not as many sequences.
    """
    valid = SequenceDataset(plan.data_dir, VALID)
    for name in ("few_sequences", "many_sequences"):
        if getattr(plan, name) > valid.num_sequences:
            raise UserError(
                f"`{name}={getattr(plan, name)}` is refused: {plan.data_dir} has {valid.num_sequences} validation"
                " sequences."
            )
    numbers_labelled(plan)


@functools.lru_cache(maxsize=None)
def pairs(data_dir):
    """What the addition task takes of a folder's data, looked for once: dict of split -> `SequenceDataset`.

    Raises:
        UserError: if that is nothing.
    """
    return addition.with_pairs({split: SequenceDataset(data_dir, split) for split in (TRAIN, VALID)})


def numbers_labelled(plan):
    """How many sequences the classifiers of a plan learn from: list of int; errors as of `addition`."""
    return addition.numbers_labelled(plan.labelled, pairs(plan.data_dir)[TRAIN].num_sequences)


class Subject:
    """A system of a plan: brought to be trained, evaluated and classified, step by step."""

    def __init__(self, name, plan, run=child.run):
        """Takes the name, one of `SYSTEMS`, a `Plan` and what runs programs, as `child.run`."""
        self.name, self._system, self._plan, self._run = name, SYSTEMS[name], plan, run
        known = os.path.join(plan.models_dir, name) if plan.models_dir else ""
        self.comes_along = bool(known) and os.path.exists(os.path.join(known, "flags.json"))
        self._model = known
        self.output = os.path.join(plan.results_dir, name)

    @property
    def folder(self):
        """Where its weights are; None before its training."""
        if self.comes_along:
            return self._model
        state = state_of(self._plan.results_dir, self.name)
        return state and state.folder

    def train(self, progress=lambda hours: None):
        """Trains it as far as it is not yet; `progress` is told the hours of its run now and then."""
        while not self.comes_along:
            state, hours = state_of(self._plan.results_dir, self.name), self._plan.hours
            leg = next_leg(state, hours, STAGE_ITR if self._system.curriculum else 0)
            if leg is None:
                return
            before = state and state.step
            if leg.resume:
                _forget_times_beyond(leg.resume, state.step)
            over = lambda leg=leg: self._is_over(leg, progress)  # noqa: E731
            self._call("train.py", self._training_flags(leg), over, allowed=(0, _SAVED_BY_SIGTERM))
            after = state_of(self._plan.results_dir, self.name)
            if after is None or (after.step == before and leg.flags == {} and leg.until_seconds == math.inf):
                raise UserError(f"The training of {self.name} does not get on; see {self._log}.")

    def evaluate_few(self):
        """Evaluates it with few particles on many sequences, unless that is known."""
        self._evaluate(self._plan.few, self._plan.few_sequences)

    def evaluate_many(self):
        """Evaluates it with many particles on few sequences, unless that is known."""
        self._evaluate(self._plan.many, self._plan.many_sequences)

    def _evaluate(self, particles, num_sequences):
        if self.evaluation(particles, num_sequences) is not None:
            return
        together = self._system.resamples and particles > self._plan.few
        flags = dict(
            k_particles=particles, num_sequences=num_sequences, tracked=0, batch_size=2 if together else 16
        )
        if together:
            flags["particles_at_once"] = particles
        self._call("evaluate.py", dict(self._where(), **flags))

    def add(self):
        """Trains classifiers on its latents, unless that is known."""
        self._call(
            "train_addition.py", dict(self._where(), labelled=",".join(self._plan.labelled), batch_size=16)
        )

    def evaluation(self, particles, num_sequences):
        """The entry of an evaluation of its weights as they are, None if there is none."""
        if self.folder is None:
            return None
        data = SequenceDataset(self._plan.data_dir, VALID)
        wanted = dict(
            weights=self._weights(), data=evaluations.digest_of(data), split=VALID, particles=particles,
            sequences=num_sequences or data.num_sequences, frames=data.seq_len,
            bound="fivo" if self._system.resamples else "iwae",
        )  # fmt: skip
        for folder in filter(os.path.isdir, (self.output, self.folder)):
            for entry in evaluations.Evaluations(folder).entries():
                if all(entry[name] == value for name, value in wanted.items()):
                    return entry
        return None

    def additions(self):
        """The entries of the addition task with its weights as they are, one for each number of labels asked for."""
        if self.folder is None or not os.path.isdir(self.output):
            return []
        data, counts = pairs(self._plan.data_dir), numbers_labelled(self._plan)
        wanted = dict(
            weights=self._weights(), data=addition.digest_of_pairs(data), method=addition.METHOD,
            tested=data[VALID].num_sequences,
        )  # fmt: skip
        return [
            entry
            for entry in addition.Additions(self.output).entries()
            if entry["labelled"] in counts and all(entry[name] == value for name, value in wanted.items())
        ]

    def measured(self):
        """All that is known: `Measured`; None if it is not trained."""
        plan, folder = self._plan, self.folder
        if folder is None:
            return None
        many = self.evaluation(plan.many, plan.many_sequences)
        few = self.evaluation(plan.few, plan.few_sequences)
        numbers = {}
        for quantity, entry, estimate, scale in (
            ("bound", many, "normalised_iwae", "frames"),
            ("bound_few", few, "normalised_iwae", "frames"),
            ("elbo", few, "normalised_vae", "frames"),
            ("data_ll", many, "data_ll", "frames"),
            ("kl", many, "kl", "frames"),
            ("counting", few, "num_step_acc", None),
        ):
            found = entry["estimates"].get(estimate) if entry is not None else None
            if found is not None and found["mean"] is not None:  # None: not finite
                factor = entry[scale] if scale else 1
                error = found["standard_error"]
                numbers[quantity] = Number(factor * found["mean"], None if error is None else factor * error)
        additions, most = self.additions(), max(numbers_labelled(plan))
        for entry in additions:
            if entry["labelled"] == most:
                numbers["addition"] = Number(entry["accuracy"], entry["standard_error"])
        estimates = {} if few is None else few["estimates"]
        by_frame = {
            name: estimates[name]["by_frame"]
            for name in BY_FRAME
            if name in estimates and None not in estimates[name]["by_frame"]
        }
        hours, source = self._hours()
        step = checkpoints.of_run_or_path(folder).step
        return Measured(hours, source, step, numbers, additions, by_frame)

    def curve(self):
        """Hours and bounds of its evaluations in training, nats per frame, those of all frames: pair of lists."""
        folder = self.folder
        if folder is None:
            return [], []
        seconds = dict(times.read(os.path.join(folder, times.NAME)))
        frames = SequenceDataset(self._plan.data_dir, VALID).seq_len
        rows = [
            (seconds[row["step"]] / 3600, row["normalised_iwae"])
            for row in curves.rows_of(curves.file_of(folder))
            if row["seq_len"] == frames and row["step"] in seconds
        ]
        return [hour for hour, _ in rows], [bound for _, bound in rows]

    def _hours(self):
        """Hours trained, None if that is not known, and where they come from."""
        folder = self.folder
        rows = times.read(os.path.join(folder, times.NAME))
        origin = "comes along" if self.comes_along else "was trained here"
        if not rows or not math.isfinite(rows[-1][1]):
            return None, f"{origin}, its hours were not noted"
        noted = "by the run's own records" if len(rows) > 1 else "as estimated afterwards"
        return rows[-1][1] / 3600, f"{origin}, hours {noted}"

    def _is_over(self, leg, progress):
        state_folder = leg.resume or _last_run(self._plan.results_dir, self.name)
        rows = times.read(os.path.join(state_folder, times.NAME)) if state_folder else []
        if rows:
            progress(rows[-1][1] / 3600)
        return bool(rows) and rows[-1][1] >= leg.until_seconds

    def _training_flags(self, leg):
        flags = dict(leg.flags, num_threads=self._plan.num_threads)
        if leg.resume:
            return dict(flags, resume_run=leg.resume)
        flags.update(
            model_config=self._system.model_config, data_dir=self._plan.data_dir,
            results_dir=self._plan.results_dir, run_name=self.name,
        )  # fmt: skip
        if self._plan.tiny:
            flags.update(self._system.tiny, batch_size=4, k_particles=2, report_loss_every=1, log_itr=2)
        return flags

    def _where(self):
        return dict(run=self.folder, output=self.output, data=self._plan.data_dir)

    @property
    def _log(self):
        return os.path.join(self.output, "log.txt")

    def _call(self, script, flags, is_over=lambda: False, allowed=(0,)):
        with files.writing(self.output):
            files.make_folder(self.output)
        words = [f"--{name}={_word(value)}" for name, value in flags.items()]
        command = [sys.executable, os.path.join(SCRIPTS, script), *words]
        child.check(self._run(command, self._log, is_over), command, self._log, allowed)

    def _weights(self):
        return checkpoints.digest(checkpoints.of_run_or_path(self.folder).values)


def _forget_times_beyond(folder, step):
    """Drops times beyond a checkpoint, which after a crash would seem to end a leg at once; not while a run trains."""
    run = runs.Run(folder)
    times.Times(run.times, step)
    run.close()


def _last_run(results_dir, name):
    try:
        return runs.find(results_dir, name)
    except UserError:
        return None


def _word(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
