# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags of how a film's frames are prepared: the same for a data set to train on and for a film to track."""

from absl import flags

from sqair.cli import group
from sqair.data import frames
from sqair.errors import UserError

_DEFAULT = frames.Framing()

with group("Frames"):
    flags.DEFINE_string("crop", None, "Part of the film to use, in its pixels: Y,X,HEIGHT,WIDTH.")
    flags.DEFINE_boolean("invert", _DEFAULT.invert, "Make light dark and dark light.")
    flags.DEFINE_enum(
        "background",
        _DEFAULT.background,
        frames.BACKGROUNDS,
        "SQAIR draws objects over black, so that the median over time is taken away. difference: its absolute"
        " difference from the frame; cutout: the frame itself where it differs, else black; none: for films whose"
        " ground is black.",
    )
    flags.DEFINE_float(
        "min_difference",
        _DEFAULT.min_difference,
        "What differs less from the background, of 1, is black: raise it if the ground flickers.",
    )
    flags.DEFINE_float("gain", _DEFAULT.gain, "Multiplies brightness: raise it if objects are dim.")


def framing(flags, size=_DEFAULT.size, colour=_DEFAULT.colour):
    """The `Framing` that the flags ask for.

    Args:
        flags: what holds the values of the flags above as attributes.
        size: tuple of int, as of `Framing`.
        colour: bool.

    Raises:
        UserError: if `crop` is not four numbers.
    """
    return frames.Framing(
        crop=_parse_crop(flags.crop),
        size=size,
        colour=colour,
        invert=flags.invert,
        background=flags.background,
        min_difference=flags.min_difference,
        gain=flags.gain,
    )


def numbers(text, separator):
    """Tuple of int in a text, None if it holds anything else."""
    parts = [part.strip() for part in text.lower().split(separator)]
    return tuple(map(int, parts)) if all(part.isdecimal() and len(part) < 7 for part in parts) else None


def _parse_crop(text):
    """`(y, x, h, w)` of "0,10,100,120"; None of None."""
    crop = None if text is None else numbers(text, ",")
    if text is not None and (crop is None or len(crop) != 4):
        raise UserError(f"`crop={text}` is refused: it takes four numbers of pixels, Y,X,HEIGHT,WIDTH.")
    return crop
