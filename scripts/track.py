#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks the objects of a film, a folder of pictures or an array with a trained model.

Writes a box for each object in each frame, in the film's own pixels, in the format of the MOT challenge
(frame,id,left,top,width,height,confidence,-1,-1,-1, counted from 1), and with --film the film with boxes beside what
the model makes of it. Frames are resized to what the model was trained on; the flags of frames have to be those
that its data set was made with, which is --background=none for digits. Films of any length take the same memory. Where
the background is taken away, the film is read twice: the median of frames from all of it comes first.
"""

import os
import sys

from absl import flags

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from sqair import cli, framing_flags
from sqair.errors import UserError

MODEL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "models", "mlp_sqair")

flags.DEFINE_string("video", "", "A film, a folder of pictures, or an array as of scripts/import_videos.py.")
flags.DEFINE_string("model", MODEL, "Folder of a run or of a trained model.")
flags.DEFINE_string(
    "checkpoint", None, "Path of a checkpoint; the last complete one of the folder by default."
)
flags.DEFINE_string(
    "model_config", None, "Config file of the model; as trained by default, if it is the package's."
)
flags.DEFINE_string("output", "tracks.csv", "File of boxes to write.")
flags.DEFINE_string("film", None, "Annotated film to write, .mp4 or .gif.")
flags.DEFINE_integer("fps", 10, "Frames per second of that.", lower_bound=1, upper_bound=100)
flags.DEFINE_integer("frame_step", 1, "Take every n-th frame, as the data set did.", lower_bound=1)
flags.DEFINE_boolean("tight", True, "Boxes around what is drawn of an object; off: the model's glimpses.")
flags.DEFINE_boolean("sample", False, "Sample from the posterior instead of taking its mode.")
flags.DEFINE_integer("seed", 0, "Of the samples.", lower_bound=0, upper_bound=2**31 - 1)

SQUEEZED = 1.1  # proportions that differ by more are worth a word


def main(flags):
    cli.take_sigterm_as_interrupt("Interrupted; nothing was written.")
    if not flags.video:
        raise UserError("`video` is missing; name a film, a folder of pictures, or an array.")
    from sqair.evaluation.tracker import Tracker
    from sqair.evaluation.video_tracking import track_video

    framing = framing_flags.framing(flags)
    seed = flags.seed if flags.sample else None
    tracker = Tracker.from_checkpoint(flags.model, flags.checkpoint, flags.model_config, seed=seed)
    found = track_video(
        tracker,
        flags.video,
        framing,
        flags.output,
        flags.film,
        flags.fps,
        flags.frame_step,
        flags.tight,
        progress=True,
    )
    rate = found.frames / max(found.seconds, 1e-9)
    print(f"Tracked {found.objects} objects in {found.frames} frames, {rate:.1f} frames per second.")
    _, _, height, width = found.view.crop
    stretch = height / width * found.view.size[1] / found.view.size[0]
    if max(stretch, 1 / stretch) > SQUEEZED:
        print(
            f"Note: {height}x{width} pixels of the film became {'x'.join(map(str, found.view.size))}, which changes its"
            " proportions; --crop mends that."
        )
    print(f"Boxes in pixels of the film: {flags.output}" + (f"; film: {flags.film}" if flags.film else ""))


if __name__ == "__main__":
    cli.run(main)
