#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws an evaluation by scripts/evaluate.py frame by frame: the bound, objects, right counts and tracking."""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files

flags.DEFINE_string("evaluations", os.path.join("models", "mlp_sqair"), "Folder of evaluation.json.")
flags.DEFINE_integer("entry", None, "Which of its evaluations, from 1; the last by default.")
flags.DEFINE_string("title", "", "A title.")
flags.DEFINE_string("output", "evaluation.png", "The PNG file to write.")


def main(flags):
    from sqair.evaluation import curves, evaluations, visualization

    entry = evaluations.choose(evaluations.Evaluations(flags.evaluations).entries(), flags.entry)
    figure = curves.frames_figure(entry, flags.title)
    with files.atomic_write(flags.output, "wb") as file:
        file.write(visualization.to_png(figure))
    print(f"Look at {flags.output}")


if __name__ == "__main__":
    cli.run(main)
