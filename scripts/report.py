#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes one HTML file of an evaluation by scripts/evaluate.py: numbers, plots, and sequences it did well and badly on.

It holds everything it shows, runs no script, and is readable on a phone and in print.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files, run_flags
from sqair.training import runs

run_flags.define_run_and_data()
flags.DEFINE_string("evaluations", None, "Folder of evaluation.json; the run's by default.")
flags.DEFINE_integer("entry", None, "Which of its evaluations, from 1; the last by default.")
flags.DEFINE_integer(
    "cases", 3, "How many good and bad sequences to show; 0 needs no data.", lower_bound=0, upper_bound=50
)
flags.DEFINE_integer(
    "num_sequences",
    1000,
    "How many evaluated sequences, from the first on, they are chosen from.",
    lower_bound=1,
)
flags.DEFINE_string("title", "", "What to call the model; the folder by default.")
flags.DEFINE_string("output", "report.html", "The HTML file to write.")


def main(flags):
    from tqdm import tqdm

    from sqair.evaluation import curves, evaluated_cases, evaluations, report

    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    store = evaluations.Evaluations(flags.evaluations or folder)
    entry = evaluations.choose(store.entries(), flags.entry)
    sections = []
    if flags.cases:
        changes = run_flags.changes_of(flags)
        among = min(flags.num_sequences, entry["sequences"])
        # Without a terminal, `disable=None` shows no bar.
        with tqdm(total=among, unit="sequence", dynamic_ncols=True, disable=None) as bar:
            sections = evaluated_cases.sections(
                folder, entry, flags.cases, among, flags.checkpoint, changes, bar
            )
    training = curves.read(folder) if os.path.exists(curves.file_of(folder)) else None
    text = report.render(entry, flags.title or folder, sections, training)
    with files.atomic_write(flags.output) as file:
        file.write(text)
    print(f"Look at {flags.output}")


if __name__ == "__main__":
    cli.run(main)
