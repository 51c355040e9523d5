# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of how trainings went: validation numbers against updates, a line for each run."""

import os

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sqair.errors import UserError
from sqair.evaluation.evaluations import TITLES
from sqair.training.reporting import VALID, read_metrics

BOUND, ACCURACY, OBJECTS = "normalised_iwae", "num_step_acc", "num_steps"
MOST_RUNS = 10  # that colours tell apart
# Told apart with red-green blindness too; a second set of line styles doubles them.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#444444")
STYLES = ("-", "--")


def read(path):
    """The validation rows of a training.

    Args:
        path: str, the folder of a run or a file like its `metrics.csv`.

    Returns:
        List of dict of name -> number, with `step`.

    Raises:
        UserError: if there are none.
    """
    file = os.path.join(path, "metrics.csv") if os.path.isdir(path) else path
    try:
        rows = [row for row in read_metrics(file) if row["source"] == VALID]
    except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as the metrics of a training: {error!r}.") from None
    rows = [row for row in rows if BOUND in row and (ACCURACY in row or OBJECTS in row)]
    if not rows:
        raise UserError(
            f"{file} holds no validation numbers; name the folder of a run that was evaluated (`log_itr`)."
        )
    return rows


def training_figure(runs, title=""):
    """The bound and the share of right counts against updates; the number of objects where none are annotated.

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
    figure = Figure(figsize=(9.5, 3.6), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    counted = all(ACCURACY in row for rows in runs.values() for row in rows)
    for i, name in enumerate((BOUND, ACCURACY if counted else OBJECTS)):
        axes = figure.add_subplot(1, 2, i + 1)
        for j, (label, rows) in enumerate(runs.items()):
            style = {"color": COLOURS[j % len(COLOURS)], "linestyle": STYLES[j // len(COLOURS)]}
            axes.plot(
                [row["step"] for row in rows],
                [row[name] for row in rows],
                label=label,
                linewidth=1.5,
                **style,
            )
        axes.set_xlabel("updates")
        axes.set_ylabel(", ".join(TITLES[name]), fontsize=9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(left=0)
        axes.margins(x=0.02)
        highest = max(np.max([row[name] for row in rows]) for rows in runs.values())
        axes.set_ylim(top=highest + 0.05 * abs(highest))
    if title:
        figure.suptitle(title, fontsize=11)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8)
    figure.tight_layout()
    return figure
