#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes figures and films of what a model sees: of its best and worst sequences by the bound, and of those you name.

For each of these groups: NAME.png, its first sequences over time, frames above and what the model makes of them below;
for each sequence NAME-NUMBER-glimpses.png, what each slot draws, and a film NAME-NUMBER.gif.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, run_flags
from sqair.errors import UserError
from sqair.training import runs

run_flags.define_run_and_data()
flags.DEFINE_enum("split", "valid", ["train", "valid"], "Which part of the data set.")
flags.DEFINE_integer("seq_len", 0, "Frames of each sequence; 0: all.", lower_bound=0)
flags.DEFINE_integer(
    "num_sequences",
    1000,
    "How many sequences, from the first on, the best and worst are chosen from.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "best", 3, "How many of the best, of those that show an object.", lower_bound=0, upper_bound=100
)
flags.DEFINE_integer("worst", 3, "How many of the worst.", lower_bound=0, upper_bound=100)
flags.DEFINE_list("sequences", [], "Numbers of sequences to show beside these, from 0, with commas between.")
flags.DEFINE_enum("film", "gif", ["gif", "mp4", "none"], "Kind of the films.")
flags.DEFINE_integer("fps", 4, "Frames per second of films.", lower_bound=1, upper_bound=100)
flags.DEFINE_string("out", "figures", "Folder to write into.")


def main(flags):
    numbers = [text.strip() for text in flags.sequences]
    if not all(text.isdecimal() and len(text) < 10 for text in numbers):
        raise UserError(f"`sequences={','.join(numbers)}` is refused: it takes numbers, as in 0,7,12.")
    if not (numbers or flags.best or flags.worst):
        raise UserError("Nothing is asked for; give `best`, `worst` or `sequences`.")
    from tqdm import tqdm

    from sqair.evaluation import cases, gallery, opening

    changes = run_flags.changes_of(flags)
    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    model, _ = opening.open_run(folder, flags.checkpoint, **changes)
    groups = {"sequence": list(map(int, numbers))}
    if flags.best or flags.worst:
        among = min(flags.num_sequences, model.data[flags.split].num_sequences)
        # Without a terminal, `disable=None` shows no bar.
        with tqdm(total=among, unit="sequence", dynamic_ncols=True, disable=None) as bar:
            found = cases.bounds(model, flags.split, among, flags.seq_len, progress=bar)
        groups.update(best=found.best(flags.best), worst=found.worst(flags.worst))
        for name in ("best", "worst"):
            shown = ", ".join(f"{number} ({found.bound[number]:.1f})" for number in groups[name])
            print(f"The {name} of {among:,} sequences (bound in nats per frame): {shown or 'none asked for'}")
    for path in gallery.make(
        model,
        flags.split,
        groups,
        flags.out,
        flags.seq_len,
        "" if flags.film == "none" else f".{flags.film}",
        flags.fps,
    ):
        print(f"Wrote {path}", flush=True)


if __name__ == "__main__":
    cli.run(main)
