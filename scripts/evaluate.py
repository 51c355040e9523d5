#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluates a trained model on a part of its data set, with the code that evaluates during training.

On a terminal, a bar on standard error shows the batches done, how many there are in a second, and the time left.
"""

import functools
import json
import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli
from sqair.errors import UserError
from sqair.training import runs

flags.DEFINE_string("results_dir", "results", "Where runs are.")
flags.DEFINE_string("run_name", "multi_mnist", "Name of the run.")
flags.DEFINE_string("run", "", "Which run of that name, by number or folder; the last by default.")
flags.DEFINE_string("checkpoint", None, "Path of a checkpoint; the last complete one of the run by default.")
flags.DEFINE_enum("split", "valid", ["train", "valid"], "Which part of the data set.")
flags.DEFINE_float("fraction", 1.0, "Share of its sequences to evaluate on.")
flags.DEFINE_integer("seq_len", 0, "Frames of each sequence; 0: all.", lower_bound=0)
flags.DEFINE_integer("k_particles", None, "Particles; as trained by default.", lower_bound=1)
flags.DEFINE_integer("batch_size", None, "Sequences at a time; as trained by default.", lower_bound=1)
flags.DEFINE_string("data", None, "Folder of a data set to use instead of the one it was trained on.")
flags.DEFINE_string(
    "data_config", None, "Config file of the data; as trained by default, if it is the package's."
)
flags.DEFINE_string("model_config", None, "Config file of the model; likewise.")
flags.DEFINE_boolean("json", False, "Print JSON.")


def main(flags):
    if not 0 < flags.fraction <= 1:
        raise UserError(f"`fraction={flags.fraction}` is refused: it must be above 0 and at most 1.")
    from tqdm import tqdm

    from sqair.evaluation import evaluator as evaluation

    changes = dict(k_particles=flags.k_particles, batch_size=flags.batch_size, data_dir=flags.data)
    changes.update(data_config=flags.data_config, model_config=flags.model_config)
    changes = {name: value for name, value in changes.items() if value is not None}
    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    evaluator, step = evaluation.open_run(folder, flags.checkpoint, **changes)
    # Without a terminal, `disable=None` shows no bar.
    bar = functools.partial(tqdm, unit="batch", dynamic_ncols=True, disable=None)
    numbers = evaluator.evaluate(flags.split, flags.fraction, flags.seq_len or None, progress=bar)
    if flags.json:
        print(json.dumps(dict(numbers, step=step, split=flags.split), indent=2))
    else:
        print(f"{folder} after {'an unknown number of' if step is None else step} updates, {flags.split}:")
        for name, value in numbers.items():
            print(f"  {name:16} {value:.6g}")


if __name__ == "__main__":
    cli.run(main)
