# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a run has trained at each step: `times.csv` of its folder.

Apart from `metrics.csv`, which is the same for every run of the same settings.
"""

import csv
import math
import os
import time

from sqair import files
from sqair.errors import UserError

NAME = "times.csv"
_HEADER = ["step", "seconds"]


class Times:
    """Notes seconds of training, evaluations and figures included, over all sessions that led to a step."""

    def __init__(self, path, last_step=None, clock=time.monotonic):
        """Starts the file, or goes on with it after dropping what lies beyond a step.

        Args:
            path: str.
            last_step: int, the step of the checkpoint that is resumed from; None for a new run.
            clock: function that returns seconds.
        """
        self._path, self._clock = path, clock
        rows = [] if last_step is None else [row for row in read(path) if row[0] <= last_step]
        if not rows and last_step:  # resumed from a run that did not note them
            rows = [(last_step, math.nan)]
        self._last_step, before = rows[-1] if rows else (-1, 0.0)
        self._start = clock() - before
        write(path, rows)

    def note(self, step):
        """Adds a row, the first time that it is called for a step."""
        if step > self._last_step:
            with files.writing(self._path), open(self._path, "a") as file:
                file.write(f"{step},{self._clock() - self._start:.3f}\n")
            self._last_step = step

    def sync(self):
        """Waits until the rows are on the disk."""
        with files.writing(self._path):
            files.sync(self._path)


def write(path, rows):
    """Writes rows as of `read`, the whole file or nothing."""
    with files.atomic_write(path) as file:
        csv.writer(file, lineterminator="\n").writerows([_HEADER, *rows])


def read(path):
    """The rows of a file: list of (step, seconds); seconds are NaN where they are not known. A cut row is left out.

    Raises:
        UserError: if it is damaged.
    """
    if not os.path.exists(path):
        return []
    with open(path) as file:
        text = file.read()
    lines = text[: text.rfind("\n") + 1].splitlines()[1:]
    try:
        return [(int(step), float(seconds)) for step, seconds in (line.split(",") for line in lines)]
    except ValueError as error:
        raise UserError(f"{path} cannot be read as the times of a run ({error}); remove it.") from None
