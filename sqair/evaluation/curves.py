# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of numbers: validation against updates, a line for each run, and an evaluation frame by frame."""

import os
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sqair.errors import UserError
from sqair.evaluation import evaluations
from sqair.evaluation.quantities import OF_OBJECTS, TITLES, title_of
from sqair.training.reporting import VALID, read_metrics

BOUND, ACCURACY, OBJECTS, ERROR = "normalised_iwae", "num_step_acc", "num_steps", "mse"
MOST_RUNS = 10  # that colours tell apart
# Told apart with red-green blindness too; a second set of line styles doubles them.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#444444")
STYLES = ("-", "--")
# What is drawn over frames, one panel each: its title, and quantities of one unit.
_OVER_FRAMES = (
    ("Bound", ("normalised_iwae",)),
    ("Objects", ("num_steps", "num_prop_steps", "num_disc_steps")),
    ("Right counts", ("num_step_acc", "visible_step_acc")),
)
_BESIDE = ACCURACY, OBJECTS, ERROR  # the bound: the first that all trainings know
_MOST_MARKED = 20  # frames with a dot each


def read(path):
    """The validation rows of a training.

    Args:
        path: str, the folder of a run or of a model, or a file like their `metrics.csv` and `curve.csv`.

    Returns:
        List of dict of name -> number, with `step`.

    Raises:
        UserError: if there are none.
    """
    file = file_of(path) if os.path.isdir(path) else path
    rows = [row for row in rows_of(file) if BOUND in row and any(name in row for name in _BESIDE)]
    if not rows:
        raise UserError(
            f"{file} holds no validation numbers; name the folder of a run that was evaluated (`log_itr`)."
        )
    return rows


def rows_of(file):
    """The validation rows of a file, as of `read`; there may be none."""
    try:
        return [row for row in read_metrics(file) if row.get("source", VALID) == VALID]
    except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as the metrics of a training: {error!r}.") from None


def file_of(folder):
    """Where a folder keeps the numbers of a training, whether it does or not."""
    metrics, curve = (os.path.join(folder, name) for name in ("metrics.csv", "curve.csv"))
    return curve if os.path.exists(curve) and not os.path.exists(metrics) else metrics


def panels(runs):
    """The names of the two numbers to draw of trainings, lists of rows; right counts if all know them."""
    known = [name for name in _BESIDE if all(name in row for rows in runs for row in rows)]
    return (BOUND, *known[:1])


def training_figure(runs, title=""):
    """The bound and the share of right counts against updates.

    Where no objects are annotated it is their number, of models that know no objects the squared error.

    Args:
        runs: dict of label -> rows as of `read`, at most `MOST_RUNS`.
        title: str.

    Returns:
        A matplotlib `Figure`.

    Raises:
        UserError: if there are none or too many runs.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise UserError(f"{len(runs)} runs cannot be told apart in a figure; name 1 to {MOST_RUNS}.")
    figure = blank_figure(9.5, 3.6)
    for i, name in enumerate(panels(runs.values())):
        axes = figure.add_subplot(1, 2, i + 1)
        _draw_training(axes, name, runs)
    if title:
        figure.suptitle(title, fontsize=11)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def training_panel(rows, name):
    """One number of one training against updates.

    Args:
        rows: as of `read`.
        name: str, a key of the rows and of `quantities.TITLES`.

    Returns:
        A matplotlib `Figure`, small enough for a phone.
    """
    figure, axes = _small_figure()
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _draw_training(axes, name, {"": rows})
    axes.set_ylabel("\n".join(training_title(name)), fontsize=9)
    figure.tight_layout()
    return figure


def training_title(name):
    """Title and unit of a number of trainings, whose records do not say if their bound is IWAE or FIVO."""
    title, unit = TITLES[name]
    return ("bound" if name == BOUND else title), unit


class FramePanel(NamedTuple):
    """Numbers of an evaluation for each of its frames, of one unit."""

    title: str
    unit: str
    lines: OrderedDict  # label -> pair of arrays [T]: means and standard errors, NaN where there is none


def frame_panels(entry):
    """What an evaluation says of each frame: the bound, and of what is annotated, counts and tracking.

    Args:
        entry: dict as of `evaluations.evaluate`.

    Returns:
        List of `FramePanel`.

    Raises:
        KeyError, TypeError, ValueError: if the entry lacks something or has numbers of other frames.
    """
    panels = []
    for title, names in _OVER_FRAMES:
        if names[0] not in OF_OBJECTS or names[0] in entry["estimates"]:
            estimates = [entry["estimates"][name] for name in names]
            lines = [
                tuple(_by_frame(e[key], entry) for key in ("by_frame", "by_frame_error")) for e in estimates
            ]
            labels = [title_of(name, entry) for name in names]
            panels.append(FramePanel(title, TITLES[names[0]][1], OrderedDict(zip(labels, lines))))
    if entry["objects"]:
        scores = _by_frame(entry["objects"]["tight"]["mota_by_frame"], entry)
        lines = OrderedDict([("tight boxes", (scores, np.full_like(scores, np.nan)))])
        panels.append(FramePanel("Tracking", "MOTA", lines))
    return panels


def frame_figure(panel):
    """A `FramePanel` with two standard errors on both sides: a matplotlib `Figure`, small enough for a phone."""
    figure, axes = _small_figure()
    _draw_frames(axes, panel)
    figure.tight_layout()
    return figure


def frames_figure(entry, title=""):
    """All of `frame_panels` side by side.

    Args:
        entry: dict as of `evaluations.evaluate`.
        title: str.

    Returns:
        A matplotlib `Figure`.

    Raises:
        UserError: if the entry is damaged.
    """
    with evaluations.reading(entry):
        shown = frame_panels(entry)
    figure = blank_figure(3.6 * len(shown), 3.0)
    for i, panel in enumerate(shown):
        _draw_frames(figure.add_subplot(1, len(shown), i + 1), panel)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    return figure


def _draw_frames(axes, panel):
    for (label, (mean, error)), colour in zip(panel.lines.items(), COLOURS):
        frames = np.arange(1, len(mean) + 1)
        marker = "." if len(mean) <= _MOST_MARKED else None
        axes.plot(frames, mean, color=colour, linewidth=1.5, marker=marker, label=label)
        axes.fill_between(frames, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, linewidth=0)
    axes.set_xlabel("frame")
    axes.set_ylabel(
        "\n".join([*panel.lines, panel.unit]) if len(panel.lines) == 1 else panel.unit, fontsize=9
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(axes)
    if len(panel.lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def _by_frame(values, entry):
    """Array `[T]`; None, of what is not finite, becomes NaN."""
    if len(values) != entry["frames"]:
        raise ValueError(f"{len(values)} numbers for {entry['frames']} frames")
    return np.array(values, np.float64)


def blank_figure(width, height, dpi=100):
    """A white `Figure` of so many inches that needs no screen."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _small_figure():
    figure = blank_figure(4.2, 3.0, dpi=150)
    return figure, figure.add_subplot(1, 1, 1)


def _draw_training(axes, name, runs):
    """One number of runs, dict of label -> rows, against updates."""
    for j, (label, rows) in enumerate(runs.items()):
        style = {"color": COLOURS[j % len(COLOURS)], "linestyle": STYLES[j // len(COLOURS)]}
        axes.plot(
            [row["step"] for row in rows], [row[name] for row in rows], label=label, linewidth=1.5, **style
        )
    axes.set_xlabel("updates")
    axes.set_ylabel(", ".join(training_title(name)), fontsize=9)
    tidy(axes)
    axes.set_xlim(left=0)
    highest = max(np.max([row[name] for row in rows]) for rows in runs.values())
    axes.set_ylim(top=1.0 if name == ACCURACY else highest + 0.05 * abs(highest))


def tidy(axes):
    """A light grid, and no frame on the right and above."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)
