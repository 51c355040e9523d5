#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a data set of your own videos: films, folders of pictures, or arrays, with or without ground truth.

scripts/train.py trains on it with --data_dir. docs/own_videos.md goes through it step by step.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from absl import flags  # noqa: E402

from sqair import cli, framing_flags  # noqa: E402
from sqair.data import frames, own_videos  # noqa: E402
from sqair.data.publishing import check_target  # noqa: E402
from sqair.errors import UserError  # noqa: E402

DEFAULT, FRAMING = own_videos.Options(), frames.Framing()

with cli.group("The data set"):
    flags.DEFINE_list(
        "videos",
        [],
        "Files, folders or quoted patterns like 'films/*.mp4', with commas between. A folder of pictures is one video,"
        " any other folder holds videos. Arrays are [T,H,W], [T,H,W,C] or [N,T,H,W,C], uint8 or 0 to 1.",
    )
    flags.DEFINE_string("data_dir", os.path.join("data", "videos"), "Folder to write the data set into.")
    flags.DEFINE_boolean(
        "truth",
        DEFAULT.truth,
        "Read ground truth in the MOT challenge's format: film.txt beside film.mp4, gt/gt.txt in or beside a folder of"
        " pictures. It is used to evaluate, never to train.",
    )
    flags.DEFINE_float("valid_share", DEFAULT.valid_share, "Share of the sequences for validation.")
    flags.DEFINE_integer("seed", 0, "Fixes which videos are for validation, and the order.", lower_bound=0)
    flags.DEFINE_boolean("overwrite", False, "Replace the data set that is in the folder.")

with cli.group("Sequences"):
    flags.DEFINE_integer("seq_len", DEFAULT.seq_len, "Frames of a sequence.", lower_bound=1)
    flags.DEFINE_integer(
        "stride", DEFAULT.stride, "Frames between the beginnings of sequences; 0: --seq_len.", lower_bound=0
    )
    flags.DEFINE_integer(
        "frame_step", DEFAULT.frame_step, "Take every n-th frame: larger for slow objects.", lower_bound=1
    )

with cli.group("Frames"):
    flags.DEFINE_string("size", "50", "Pixels of the shorter side, or HEIGHTxWIDTH.")
    flags.DEFINE_boolean("colour", FRAMING.colour, "Three channels instead of grey.")


def parse_size(text):
    """`(side,)` of "50", `(H, W)` of "40x60"."""
    size = framing_flags.numbers(text, "x")
    if size is None or len(size) > 2:
        raise UserError(f"--size={text} is refused: it takes a number of pixels, or two as in 40x60.")
    return size


def main(flags):
    cli.take_sigterm_as_interrupt()
    framing = framing_flags.framing(flags, parse_size(flags.size), flags.colour)
    options = own_videos.Options(
        flags.seq_len, flags.stride, flags.frame_step, framing, flags.truth, flags.valid_share
    )
    begin = time.time()
    try:
        check_target(flags.data_dir, flags.overwrite)
        index = own_videos.create(
            flags.data_dir, flags.videos, options, flags.seed, flags.overwrite, progress=True
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Interrupted; no data set was written.") from None
    height, width, channels = index["image_shape"]
    print(
        f"Frames of {height}x{width} pixels, {channels} channel(s); at most {index['max_objects']} objects known."
    )
    for split, entry in index["splits"].items():
        described = ", ".join(f"{name} {value:.4g}" for name, value in entry["statistics"].items())
        print(f"{split}: {entry['num_sequences']} sequences of {len(entry['videos'])} video(s); {described}")
    print(f"Wrote {flags.data_dir} in {time.time() - begin:.0f} s. Look at it: scripts/check_data.py.")


if __name__ == "__main__":
    cli.run(main)
