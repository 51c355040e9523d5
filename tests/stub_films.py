# SPDX-License-Identifier: GPL-3.0-or-later
"""A film of a square that moves over grey, made and encoded when it is needed."""

import numpy as np

from sqair.data import video_files

GROUND, LIGHT, SIDE = 80, (250, 220, 200), 8


def frames(num_frames=12, size=(24, 40), start=2, step=2):
    """`[T, H, W, 3]` uint8; the square's left edge is at `start + step * t`, its top at 6."""
    film = np.full((num_frames, *size, 3), GROUND, np.uint8)
    for t in range(num_frames):
        left = start + step * t
        film[t, 6 : 6 + SIDE, left : left + SIDE] = LIGHT
    return film


def truth(num_frames=12, start=2, step=2):
    """Its ground truth, as the text of a file."""
    rows = [f"{t + 1},1,{start + step * t + 1},7,{SIDE},{SIDE},1,3,1\n" for t in range(num_frames)]
    return "".join(rows)


def write(folder, *names, **options):
    """Writes films of these names without ending, with their ground truth; returns the paths."""
    paths = []
    for name in names:
        paths.append(str(folder / f"{name}.mp4"))
        video_files.write_video(paths[-1], frames(**options))
        (folder / f"{name}.txt").write_text(truth(options.get("num_frames", 12)))
    return paths
