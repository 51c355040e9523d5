#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts a checkpoint of the authors' release into a run folder for scripts/evaluate.py, or a run's into theirs.

    scripts/convert_checkpoint.py --source=FOLDER/model.ckpt-1000000 --out=results/released/1
    scripts/convert_checkpoint.py --to=release --source=models/mlp_sqair --out=results/mlp_sqair_release

The weights stay the same, bit for bit. Flags are those of the flags.json beside the checkpoint, or of the run, unless
they are given here.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli
from sqair.configs import mlp_mnist_model, seq_mnist_data
from sqair.errors import UserError
from sqair.training import runs
from sqair.training.settings import Settings

with cli.group("Conversion"):
    flags.DEFINE_string("source", "", "Path of a checkpoint, without its endings; or the folder of a run.")
    flags.DEFINE_string(
        "source_flags", "", "JSON file of the flags it was trained with; flags.json beside it by default."
    )
    flags.DEFINE_string("out", "", "Folder to write; it may not exist.")
    flags.DEFINE_enum(
        "to", "run", ["run", "release"], "What to write: a run folder, or what the release has."
    )
with cli.group("Evaluation"):
    flags.DEFINE_integer("k_particles", Settings().k_particles, "Particles.", lower_bound=1)
    flags.DEFINE_integer("batch_size", Settings().batch_size, "Sequences at a time.", lower_bound=1)

OWN_FLAGS = ("source", "source_flags", "out", "to")


def main(flags):
    for name in ("source", "out"):
        if not getattr(flags, name):
            raise UserError(f"`{name}` is missing; see --help.")
    from sqair.verification.conversion import convert

    values = {name: flag.value for name, flag in cli.own_flags().items() if name not in OWN_FLAGS}
    configs = {"data_config": seq_mnist_data, "model_config": mlp_mnist_model}
    values.update((name, os.path.basename(module.__file__)) for name, module in configs.items())
    settings = dict(Settings()._asdict(), debug=False)
    path = convert(flags.source, {**settings, **values}, flags.out, flags.to)
    print(f"Wrote {path}, and its flags in {flags.out}.")


def expanded(argv):
    """The command line, with the flags of the source put before those that were given."""
    early = flags.FlagValues()
    for name in OWN_FLAGS:
        early[name] = flags.FLAGS[name]
    early.set_gnu_getopt(True)
    try:
        early(argv, known_only=True)
    except flags.Error:
        return argv  # `cli.run` says what is wrong
    if not early.source:
        return argv
    folder = early.source if os.path.isdir(early.source) else os.path.dirname(early.source)
    path = early.source_flags or os.path.join(folder, "flags.json")
    stored = runs.read_json(path)
    if not isinstance(stored, dict):
        raise UserError(
            f"{path} holds no flags; give `source_flags`, a JSON file of an object with their names."
        )
    known = [name for name in cli.own_flags() if name not in OWN_FLAGS and stored.get(name) is not None]
    return argv[:1] + [f"--{name}={stored[name]}" for name in known] + argv[1:]


if __name__ == "__main__":
    cli.run(main, expand=expanded)
