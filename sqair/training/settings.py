# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of a training, in one named tuple that is checked as a whole."""

from typing import NamedTuple, Tuple

from sqair.errors import UserError

OPTIMISERS = ("rmsprop", "adam", "sgd")
ESTIMATORS = ("reference", "vimco", "reinforce")
DECAYS = ("steps", "cosine")


class Settings(NamedTuple):
    """How to train. Each field is the flag of the same name; the defaults are the original's unless said."""

    batch_size: int = 32
    k_particles: int = 5
    seq_len: int = 3  # frames at first, 0: all
    stage_itr: int = 100000  # updates until a frame more, 0: never
    train_itr: int = 2000000
    opt: str = "rmsprop"
    learning_rate: float = 1e-5
    schedule: Tuple[float, ...] = (4, 6, 10)
    decay: str = "steps"  # or "cosine", which the original does not have
    decay_from: int = 0  # where the cosine begins
    warmup_itr: int = 0  # updates over which the rate rises, 0: none
    l2: float = 0.0
    clip_norm: float = 0.0  # 0: off
    average: float = 0.0  # how long averages of the weights remember, 0: off
    estimator: str = "reference"
    seed: int = 0
    report_loss_every: int = 1000
    log_itr: int = 10000  # 0, here and in the next two: never
    fig_itr: int = 10000
    save_itr: int = 100000
    eval_on_train: bool = True
    eval_size_fraction: float = 0.05  # the original: 1
    log_at_start: bool = False
    num_threads: int = 0  # 0: as many as there are cores


def from_flags(flags):
    """The settings among flags.

    Args:
        flags: anything that has them as attributes: parsed flags, or those that a run folder holds; what an older run
            does not know has its default.

    Returns:
        `Settings`, checked.

    Raises:
        UserError: if one can't work.
    """
    values = {name: getattr(flags, name, default) for name, default in Settings()._asdict().items()}
    try:
        values["schedule"] = tuple(float(part) for part in values["schedule"])
    except ValueError:
        shown = ",".join(flags.schedule)
        raise UserError(f"`schedule={shown}` is refused: it takes numbers with commas between.") from None
    settings = Settings(**values)
    check(settings)
    return settings


def check(settings):
    """Refuses settings that can't work with any model.

    A single particle is refused where the bound makes use of an estimator that needs more (`sqair.model.bounds`).

    Raises:
        UserError: names the argument, what was found and what would work.
    """
    for name in ("batch_size", "k_particles", "train_itr", "report_loss_every"):
        _require(getattr(settings, name) >= 1, name, settings, "at least 1")
    for name in (
        "seq_len",
        "stage_itr",
        "log_itr",
        "fig_itr",
        "save_itr",
        "seed",
        "num_threads",
        "warmup_itr",
    ):
        _require(getattr(settings, name) >= 0, name, settings, "at least 0")
    for name in ("l2", "clip_norm"):
        _require(getattr(settings, name) >= 0, name, settings, "0 (off) or a positive number")
    _require(settings.seed < 2**31, "seed", settings, "below 2147483648")
    _require(settings.learning_rate > 0, "learning_rate", settings, "positive")
    _require(0 <= settings.average < 1, "average", settings, "at least 0 (off) and below 1")
    _require(0 < settings.eval_size_fraction <= 1, "eval_size_fraction", settings, "above 0 and at most 1")
    _require(settings.decay in DECAYS, "decay", settings, f"one of {', '.join(DECAYS)}")
    before_end = 0 <= settings.decay_from < settings.train_itr
    _require(before_end, "decay_from", settings, f"at least 0 and below `train_itr={settings.train_itr}`")
    _require(settings.opt in OPTIMISERS, "opt", settings, f"one of {', '.join(OPTIMISERS)}")
    _require(settings.estimator in ESTIMATORS, "estimator", settings, f"one of {', '.join(ESTIMATORS)}")
    _require(
        all(part > 0 for part in settings.schedule),
        "schedule",
        settings,
        "positive numbers with commas between",
    )


def _require(holds, name, settings, wanted):
    if not holds:
        raise UserError(f"`{name}={getattr(settings, name)}` is refused: it must be {wanted}.")
