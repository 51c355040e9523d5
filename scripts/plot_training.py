#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws how trainings went: the bound and the share of right counts on validation data, a line for each run."""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files
from sqair.errors import UserError

flags.DEFINE_list("runs", [], "Folders of runs, or files like their metrics.csv, with commas between.")
flags.DEFINE_list("labels", [], "What to call them; the paths by default.")
flags.DEFINE_string("title", "", "A title.")
flags.DEFINE_string("output", "training.png", "The PNG file to write.")


def main(flags):
    from sqair.evaluation import curves, visualization

    labels = flags.labels or flags.runs
    if len(labels) != len(flags.runs) or len(set(labels)) < len(labels):
        raise UserError(
            f"`labels` has {len(flags.labels)} names for {len(flags.runs)} `runs`; give each one of its own."
        )
    figure = curves.training_figure(
        {label: curves.read(path) for label, path in zip(labels, flags.runs)}, flags.title
    )
    with files.atomic_write(flags.output, "wb") as file:
        file.write(visualization.to_png(figure))
    print(f"Look at {flags.output}")


if __name__ == "__main__":
    cli.run(main)
