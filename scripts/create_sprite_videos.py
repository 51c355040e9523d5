#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes films of coloured shapes that move, with ground truth in the MOT challenge's format.

They stand for your own videos in docs/own_videos.md. One seed fixes every film.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from absl import flags  # noqa: E402

from sqair import cli  # noqa: E402
from sqair.data import sprites  # noqa: E402

flags.DEFINE_string("folder", os.path.join("data", "sprite_films"), "Folder to write the films into.")
flags.DEFINE_integer("num_films", 20, "Number of films.", lower_bound=1)
flags.DEFINE_integer("num_frames", sprites.Options().num_frames, "Frames of a film.", lower_bound=1)
flags.DEFINE_integer("num_sprites", sprites.Options().num_sprites[1], "Most shapes in a film.", lower_bound=1)
flags.DEFINE_float(
    "max_speed", sprites.Options().max_speed, "Pixels per frame on each axis.", lower_bound=0.0
)
flags.DEFINE_boolean("texture", sprites.Options().texture, "A ground of blurred spots instead of plain grey.")
flags.DEFINE_integer("seed", 0, "Fixes every random choice.", lower_bound=0)


def main(flags):
    options = sprites.Options(
        num_frames=flags.num_frames,
        num_sprites=(1, flags.num_sprites),
        max_speed=flags.max_speed,
        texture=flags.texture,
    )
    sprites.create(flags.folder, options, flags.num_films, flags.seed, progress=True)
    print(f"Wrote {flags.num_films} films and their ground truth into {flags.folder}.")


if __name__ == "__main__":
    cli.run(main)
