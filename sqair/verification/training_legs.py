# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast recipe (docs/recipe.md) by the clock: what a training of so many hours does next.

It has two legs: at a constant rate for two thirds of the time, then down half a cosine in as many updates as the rest
of the time allows, at the speed that was measured. Given more hours than before, a training that was complete goes on
in the same way, from a high rate again.
"""

import math
import os
from typing import NamedTuple, Optional

from sqair.errors import UserError
from sqair.training import checkpoints, runs, times

OPEN_END = 10**8  # train_itr of the first leg, which time ends
CONSTANT_RATE = dict(train_itr=OPEN_END, decay_from=OPEN_END - 1)
FALLING_SHARE = 1 / 3  # of the time
COMPLETE_SHARE = 0.8  # of the time; the second leg, whose updates are counted, can end a little early
CURRICULUM_HOURS, STAGE_ITR = (
    2.0,
    1500,
)  # the recipe's updates for each more frame, fewer if there is less time
FAST = dict(
    batch_size=16,
    opt="adam",
    learning_rate=3e-4,
    decay="cosine",
    clip_norm=500,
    estimator="vimco",
    average=0.999,
    report_loss_every=100,
    log_itr=500,
    eval_on_train=False,
    eval_size_fraction=0.04,
    fig_itr=0,
    save_itr=0,
)


class State(NamedTuple):
    """How far a training is."""

    folder: str
    step: int
    seconds: float
    updates_per_second: float  # lately
    train_itr: int


class Leg(NamedTuple):
    """The next part of a training."""

    resume: Optional[str]  # the run's folder; None: a new one
    flags: dict
    until_seconds: float  # of the run's time; infinite: as its flags say


def next_leg(state, hours, stage_itr=STAGE_ITR):
    """What a training is to do next.

    Args:
        state: `State`; None if there is no run yet.
        hours: float, for all of it.
        stage_itr: int, updates for each more frame; 0 without a curriculum.

    Returns:
        `Leg`, None if it is complete.
    """
    first = 3600 * hours * (1 - FALLING_SHARE)
    if state is None:
        scaled = max(round(stage_itr * min(hours / CURRICULUM_HOURS, 1)), 1) if stage_itr else 0
        flags = dict(FAST, **CONSTANT_RATE, stage_itr=scaled)
        flags["seq_len"] = 3 if stage_itr else 0
        return Leg(None, flags, first)
    falls = state.train_itr != OPEN_END
    if falls and state.step < state.train_itr:
        return Leg(state.folder, {}, math.inf)
    if falls and state.seconds >= 3600 * hours * COMPLETE_SHARE:
        return None
    if state.seconds < first:
        return Leg(state.folder, CONSTANT_RATE if falls else {}, first)
    left = max(3600 * hours - state.seconds, 0.0)
    end = state.step + max(round(left * state.updates_per_second), 1)
    return Leg(state.folder, dict(train_itr=end, decay_from=state.step), math.inf)


def state_of(results_dir, name):
    """The `State` of the last run of a name; None if there is none, or it has no checkpoint.

    Raises:
        UserError: if it has not noted its time, or for how long it was to train.
    """
    try:
        folder = runs.find(results_dir, name)
    except UserError:
        return None
    checkpoint = checkpoints.latest(os.path.join(folder, "checkpoints"))
    if checkpoint is None:
        return None
    path = os.path.join(folder, times.NAME)
    rows = [row for row in times.read(path) if row[0] <= checkpoint.step]
    if checkpoint.step and not (rows and math.isfinite(rows[-1][1])):
        raise UserError(
            f"{path} does not say how long {folder} was trained, so that it cannot go on by the clock; move this"
            " folder away to train it anew."
        )
    train_itr = runs.read_json(os.path.join(folder, "flags.json")).get("train_itr")
    if not isinstance(train_itr, int):
        raise UserError(
            f"{folder}/flags.json does not say `train_itr`; move this folder away to train it anew."
        )
    return State(folder, checkpoint.step, rows[-1][1] if rows else 0.0, speed(rows), train_itr)


def speed(rows):
    """Updates per second over the later half of the time; 0 if that cannot be told. `rows`: (step, seconds)."""
    if not rows:
        return 0.0
    step, seconds = rows[-1]
    before = [row for row in rows if row[1] <= seconds / 2]
    if not before or seconds <= before[-1][1]:
        return 0.0
    return (step - before[-1][0]) / (seconds - before[-1][1])
