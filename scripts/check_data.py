#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what a model will see of a data set, and suggests flags for scripts/train.py, each with a reason.

The figure has the first sequences; boxes are annotated objects, if any are.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
from absl import flags  # noqa: E402

from sqair import cli, files  # noqa: E402

flags.DEFINE_string("data_dir", os.path.join("data", "videos"), "Folder of the data set.")
flags.DEFINE_enum("split", "train", ["train", "valid"], "Which part of the data set.")
flags.DEFINE_integer("num_sequences", 200, "Sequences to measure, at most.", lower_bound=1)
flags.DEFINE_integer("num_shown", 6, "Sequences in the figure.", lower_bound=1, upper_bound=50)
flags.DEFINE_string("figure", "check_data.png", "File to write the figure into.")

MAX_BYTES = 1 << 27  # of the images that are measured, as float32


def main(flags):
    from sqair.data.pipeline import SequenceDataset
    from sqair.evaluation import suggestions, visualization

    data = SequenceDataset(flags.data_dir, flags.split)
    most = max(MAX_BYTES // (4 * data.seq_len * int(np.prod(data.image_shape))), 1)
    batch = data.first(min(flags.num_sequences, most))
    shape = batch.presence.shape
    figure = visualization.tracking_figure(
        batch.images,
        None,
        batch.boxes,
        batch.presence,
        np.broadcast_to(np.arange(shape[-1]), shape),
        max_sequences=flags.num_shown,
    )
    with files.atomic_write(flags.figure, "wb") as file:
        file.write(visualization.to_png(figure))

    measures = suggestions.measure(batch.images, batch.boxes, batch.presence)
    report(data, batch, measures)
    print("\nSuggested flags for scripts/train.py:")
    found = suggestions.suggest(measures, data.image_shape[:2])
    for flag, value, why in found:
        print(f"  --{flag}={value}\n      {why}" if value else f"  --{flag}: cannot be told, {why}")
    for remark in suggestions.remarks(measures):
        print(f"\nNote: {remark}")
    print(f"\nLook at {flags.figure}: are the objects bright, whole and moving on black?")


def report(data, batch, measures):
    height, width, channels = data.image_shape
    images = batch.images
    print(
        f"{data.num_sequences} sequences of {data.seq_len} frames of {height}x{width} pixels, {channels} channel(s)."
    )
    print(f"Of {images.shape[1]} of them:")
    print(f"  pixels               mean {images.mean():.3f}, from {images.min():.3f} to {images.max():.3f}")
    print(
        f"  median over time     {measures.ground:.3f}, the ground; the noise around it {measures.noise:.3f}"
    )
    print(
        f"  objects              {measures.foreground:.1%} of the pixels, {measures.contrast:.2f} from the ground"
    )
    kind = "annotated" if measures.annotated else "connected pieces, nothing is annotated"
    print(
        f"  objects in a frame   {measures.counts.mean():.2f} on average, at most {measures.counts.max()} ({kind})"
    )


if __name__ == "__main__":
    cli.run(main)
