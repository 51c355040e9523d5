#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trains classifiers to tell the sum of two digits from a trained model's latents, with few and many labels.

Prints a table, and keeps the numbers in addition.json and addition.csv in the folder of the run, with a figure,
addition.png. What is known is not computed again.
"""

import json
import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files, run_flags
from sqair.training import runs

run_flags.define_run_and_data()
flags.DEFINE_list(
    "labelled",
    ["100", "300", "1000", "3000", "10000", "all"],
    "Numbers of training sequences with two digits to learn from, a tenth of them held out to tell when to end.",
)
flags.DEFINE_integer(
    "num_sequences", 0, "How many of the validation sequences with two digits; 0: all.", lower_bound=0
)
flags.DEFINE_integer("batch_size", None, "Sequences at a time; as trained by default.", lower_bound=1)
flags.DEFINE_string("output", None, "Folder for what is written; the run's by default.")
flags.DEFINE_boolean("json", False, "Print JSON instead of a table.")


def main(flags):
    from tqdm import tqdm

    from sqair.evaluation import addition, opening, system_curves, visualization
    from sqair.training import checkpoints

    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    checkpoint = checkpoints.of_run_or_path(flags.checkpoint or folder)
    model, _ = opening.open_run(
        folder, checkpoint, choose=addition.with_pairs,
        **run_flags.changes_of(flags, batch_size=flags.batch_size),
    )  # fmt: skip
    requests = addition.make_requests(model, checkpoint, flags.labelled, flags.num_sequences)
    output = flags.output or folder
    with files.writing(output):
        files.make_folder(output)
    additions = addition.Additions(output)
    missing = [request for request in requests if additions.find(request) is None]
    # Without a terminal, `disable=None` shows no bar.
    total = sum(addition.num_sequences(missing).values())
    with tqdm(total=total, unit="sequence", dynamic_ncols=True, disable=None) as bar:
        entries = addition.answer(model, requests, additions, bar)
    path = os.path.join(output, "addition.png")
    with files.atomic_write(path, "wb") as file:
        file.write(visualization.to_png(system_curves.addition_figure({folder: entries})))
    if flags.json:
        print(json.dumps(entries, indent=2))
        return
    print(
        f"{checkpoint.path}: sums of two digits, {entries[0]['tested']:,} validation sequences of"
        f" {entries[0]['frames']} frames"
    )
    print(addition.table(entries))
    print(f"Look at {path}")


if __name__ == "__main__":
    cli.run(main)
