#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets a trained model imagine videos: samples from its prior, or, with --observe, how videos may go on.

Writes a figure, a row for each of the first imagined videos, and the arrays of all into an .npz file beside it.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, files, run_flags
from sqair.errors import UserError
from sqair.training import runs

run_flags.define_run()
with cli.group("Run"):
    flags.DEFINE_string(
        "model_config", None, "Config file of the model; as trained by default, if it is the package's."
    )

with cli.group("What to imagine"):
    flags.DEFINE_integer(
        "num_sequences", 4, "How many videos to sample; with --observe, to continue.", lower_bound=1
    )
    flags.DEFINE_integer("num_frames", 10, "How many frames of each to imagine.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Fixes every random choice.", lower_bound=0)
    flags.DEFINE_integer(
        "observe", 0, "How many frames of each video the model sees first; 0: none.", lower_bound=0
    )
    flags.DEFINE_integer("num_futures", 3, "With --observe: in how many ways each goes on.", lower_bound=1)
    flags.DEFINE_boolean(
        "sample_posterior",
        False,
        "With --observe: infer what is seen anew for each future, by a sample instead of the mode.",
    )
    flags.DEFINE_string(
        "data",
        None,
        "With --observe: folder of a data set, whose first validation sequences are continued, or a .npy or .npz file"
        " of videos; what the model was trained on by default.",
    )

flags.DEFINE_string("output", "generated.png", "The PNG file to write; the arrays go beside it, into .npz.")


def main(flags):
    stem, ending = os.path.splitext(flags.output)
    if ending != ".png":
        raise UserError(f"`output={flags.output}` is refused: its name must end in .png.")
    from sqair.evaluation import generator, visualization

    folder = runs.find(flags.results_dir, flags.run_name, flags.run)
    videos, observed = None, flags.observe
    if observed:
        data = flags.data or runs.read_json(os.path.join(folder, "flags.json"))["data_dir"]
        videos = generator.read_videos(data, flags.num_sequences, observed + flags.num_frames)
        if min(map(len, videos)) < observed:
            raise UserError(f"`observe={observed}` is refused: a video has {min(map(len, videos))} frames.")
    model = generator.Generator.from_checkpoint(
        folder, flags.checkpoint, flags.model_config, sample_posterior=flags.sample_posterior
    )
    if observed:
        imagined = generator.join([
            model.continue_video(
                video[:observed], flags.num_frames, flags.num_futures, flags.seed, v * flags.num_futures
            )
            for v, video in enumerate(videos)
        ])  # fmt: skip
    else:
        imagined = model.sample(flags.num_sequences, flags.num_frames, flags.seed)
    figure = visualization.generation_figure(*imagined[:4], videos, observed)
    with files.atomic_write(flags.output, "wb") as file:
        file.write(visualization.to_png(figure))
    imagined.to_npz(stem + ".npz")
    print(f"Look at {flags.output}; the arrays are in {stem}.npz")


if __name__ == "__main__":
    cli.run(main)
