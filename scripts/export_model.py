#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a model to share of a run: weights without the optimiser's memory, flags, and the curve of its training.

The folder is opened like that of a run: by `sqair.Tracker.from_checkpoint`, by scripts/evaluate.py --run=FOLDER, and
by scripts/train.py --init_from=FOLDER. scripts/pack_model.py makes an archive of it.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, run_flags
from sqair.errors import UserError
from sqair.training import runs

run_flags.define_run()
flags.DEFINE_string("out", "", "Folder to write, which may not exist yet.")


def main(flags):
    if not flags.out:
        raise UserError("`out` is missing; name the folder to write.")
    from sqair.training.export import export

    path = export(runs.find(flags.results_dir, flags.run_name, flags.run), flags.out, flags.checkpoint)
    print(f"Wrote {path}, and its flags and curve in {flags.out}.")


if __name__ == "__main__":
    cli.run(main)
