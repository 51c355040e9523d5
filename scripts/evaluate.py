#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates checkpoints of a run or a trained model: bounds, likelihood and counts with standard errors, and tracking.

Prints a table, and keeps the numbers, also by frame, in evaluation.json and evaluation.csv in the folder of the run.
What is known is not computed again, and an evaluation that was cut goes on where it was. On a terminal, a bar on
standard error shows the sequences done and the time left.
"""

import json
import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files, run_flags
from sqair.errors import UserError
from sqair.training import runs

run_flags.define_run_and_data()
flags.DEFINE_integer(
    "every", 0, "Evaluate every n-th checkpoint that the run has kept, and the last.", lower_bound=0
)
flags.DEFINE_enum("split", "valid", ["train", "valid"], "Which part of the data set.")
flags.DEFINE_integer("num_sequences", 0, "How many of its sequences, the first ones; 0: all.", lower_bound=0)
flags.DEFINE_integer("seq_len", 0, "Frames of each sequence; 0: all.", lower_bound=0)
flags.DEFINE_integer("k_particles", None, "Particles; as trained by default.", lower_bound=1)
flags.DEFINE_enum(
    "bound",
    None,
    ["iwae", "fivo"],
    "Bound to estimate, for models that can do both; the one trained on by default. fivo resamples particles between "
    "frames, so that all of them must be in memory at once.",
)
flags.DEFINE_integer(
    "particles_at_once", 50, "Most particles in memory at once; they come in equal parts.", lower_bound=1
)
flags.DEFINE_integer("batch_size", None, "Sequences at a time; as trained by default.", lower_bound=1)
flags.DEFINE_integer(
    "tracked", 1000, "How many of the sequences, at most, to score tracking on; 0: none.", lower_bound=0
)
flags.DEFINE_string("output", None, "Folder for evaluation.json and evaluation.csv; the run's by default.")
flags.DEFINE_boolean("json", False, "Print JSON instead of tables.")


def main(flags):
    if flags.checkpoint and flags.every:
        raise UserError(
            "`checkpoint` and `every` exclude each other: name one checkpoint, or take several of a run."
        )
    from tqdm import tqdm

    from sqair.evaluation import evaluations, opening, quantities
    from sqair.training import checkpoints

    cli.take_sigterm_as_interrupt()  # what is known by then is kept

    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    if flags.output:
        with files.writing(flags.output):
            files.make_folder(flags.output)
    store = evaluations.Evaluations(flags.output or folder)
    paths = [flags.checkpoint or folder]
    if flags.every:
        paths = checkpoints.every(os.path.join(folder, "checkpoints"), flags.every) or paths
    particles = flags.k_particles or runs.read_json(os.path.join(folder, "flags.json"))["k_particles"]
    parts = evaluations.parts_of(particles, flags.particles_at_once)
    changes = run_flags.changes_of(flags, k_particles=particles // parts, batch_size=flags.batch_size)
    model, entries = None, []
    for path in paths:
        checkpoint = checkpoints.of_run_or_path(path)
        if model is None:
            model, _ = opening.open_run(folder, checkpoint, flags.bound, **changes)
        else:
            model.load(checkpoint.values, checkpoint.path)
        request = evaluations.make_request(
            model, checkpoint, parts, flags.split, flags.num_sequences, flags.seq_len, flags.tracked
        )
        # Without a terminal, `disable=None` shows no bar.
        with tqdm(total=request.sequences, unit="sequence", dynamic_ncols=True, disable=None) as bar:
            entries.append(evaluations.evaluate(model, request, parts, store, bar))
        if not flags.json:
            print(quantities.table(entries[-1]), flush=True)
    if flags.json:
        print(json.dumps(entries, indent=2))


if __name__ == "__main__":
    cli.run(main)
