# SPDX-License-Identifier: GPL-3.0-or-later
"""Films of coloured shapes that move smoothly, with ground truth: something to try a user's own videos with."""

import os
from typing import NamedTuple, Tuple

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from sqair import files
from sqair.data import mot, trajectories, video_files
from sqair.errors import UserError

SHAPES = ("disc", "square", "triangle")  # a shape's place here, from 1, is its class
COLOURS = ((230, 60, 50), (60, 200, 80), (70, 110, 240), (240, 210, 60), (220, 80, 220), (70, 210, 220))

_SUPERSAMPLING = 4  # smooth outlines
_TEXTURE_CELLS = 8  # on the longer side of a textured ground
_GROUND, _TEXTURE_RANGE = 70, 40  # brightness of the ground, and what a texture spans


class Options(NamedTuple):
    """What the films are like."""

    size: Tuple[int, int] = (120, 160)  # H, W in pixels, even
    num_frames: int = 150
    num_sprites: Tuple[int, int] = (1, 3)  # fewest and most in a film
    sides: Tuple[int, int] = (22, 34)  # smallest and largest side of a sprite in pixels
    max_speed: float = 4.0  # pixels per frame, on each axis
    texture: bool = False  # a ground of blurred spots instead of plain grey
    noise: float = 2.0  # standard deviation of a camera's noise, of 255


def create(directory, options=None, num_films=20, seed=0, progress=False):
    """Writes `001.mp4`, `001.txt` and so on: films and their ground truth in the format of `mot`.

    Args:
        directory: path of a folder that does not exist or is empty.
        options: `Options`, the defaults if None.
        num_films: int, at least 1.
        seed: int, at least 0.
        progress: whether to show a progress bar on a terminal.

    Raises:
        UserError: if an option makes no sense, or the folder is in use or cannot be written.
    """
    options = Options() if options is None else options
    _check(options)
    with files.writing(directory):
        files.make_folder(directory)
        if os.listdir(directory):
            raise UserError(f"Folder {directory!r} is not empty; name another one for the films.")
    for number in tqdm(range(num_films), unit=" films", disable=None if progress else True):
        frames, tracks = make_film(options, np.random.SeedSequence(seed, spawn_key=(number,)))
        path = os.path.join(directory, f"{number + 1:03}")
        with files.atomic_write(path + ".txt") as file:
            file.write(mot.lines(tracks))
        video_files.write_video(path + ".mp4", frames)


def make_film(options, seed):
    """A film.

    Args:
        options: `Options`.
        seed: what `numpy.random.PCG64` takes.

    Returns:
        Tuple of frames `[T, H, W, 3]` uint8 and `mot.Tracks`; later objects lie above earlier ones.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    count = rng.integers(options.num_sprites[0], options.num_sprites[1] + 1)
    sides = rng.integers(options.sides[0], options.sides[1] + 1, count)
    shapes, colours = rng.integers(len(SHAPES), size=count), rng.permutation(len(COLOURS))[:count]
    bounds = np.array(options.size) - sides[:, None]
    motion = trajectories.Motion(options.max_speed, options.max_speed / 20, options.max_speed / 100)
    start = rng.uniform(size=(count, 2)) * bounds
    corners = [  # [T, 2] of each: bounds differ
        np.rint(trajectories.draw(rng, start[i], bounds[i], options.num_frames, motion)).astype(int)
        for i in range(count)
    ]
    frames = np.tile(_ground(rng, options), (options.num_frames, 1, 1, 1))
    for i, side in enumerate(sides):
        opacity = _opacity(SHAPES[shapes[i]], side)
        for frame, (y, x) in zip(frames, corners[i]):
            patch = frame[y : y + side, x : x + side]
            patch += opacity * (np.array(COLOURS[colours[i]]) - patch)
    frames += options.noise * rng.standard_normal(frames.shape)
    boxes = np.concatenate(
        [np.stack(corners, 1), np.tile(sides[None, :, None], (options.num_frames, 1, 2))], -1
    )
    tracks = mot.Tracks(
        frames=np.repeat(np.arange(options.num_frames), count),
        ids=np.tile(np.arange(1, count + 1), options.num_frames),
        boxes=boxes.reshape(-1, 4).astype(np.float64),
        classes=np.tile(shapes + 1, options.num_frames).astype(np.int32),
    )
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8), tracks


def _ground(rng, options):
    """`[H, W, 3]` float64."""
    height, width = options.size
    if not options.texture:
        return np.full((height, width, 3), float(_GROUND))
    cells = [max(_TEXTURE_CELLS * side // max(options.size), 2) for side in options.size]
    spots = rng.integers(256, size=(*cells, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(spots).resize((width, height), Image.BICUBIC), np.float64)
    return _GROUND + (smooth / 255 - 0.5) * _TEXTURE_RANGE


def _opacity(shape, side):
    """Share of each pixel that a shape covers, `[side, side, 1]`; it touches all four sides."""
    large = side * _SUPERSAMPLING
    image = Image.new("L", (large, large))
    draw, end = ImageDraw.Draw(image), large - 1
    if shape == "disc":
        draw.ellipse([0, 0, end, end], fill=255)
    elif shape == "square":
        draw.rectangle([0, 0, end, end], fill=255)
    else:
        draw.polygon([(end / 2, 0), (0, end), (end, end)], fill=255)
    return np.asarray(image.resize((side, side), Image.BOX), np.float64)[..., None] / 255


def _check(options):
    height, width = options.size
    if height % 2 or width % 2 or min(options.size) < options.sides[1]:
        raise UserError(
            f"The `size` must be even and hold a sprite of {options.sides[1]} pixels, not {height}x{width}."
        )
    if not 1 <= options.num_sprites[0] <= options.num_sprites[1] <= len(COLOURS):
        raise UserError(f"A film shows 1 to {len(COLOURS)} sprites, not {options.num_sprites[1]}.")
