# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos in `.npy` and `.npz` files, read frame by frame; nothing in them is ever executed."""

import contextlib
import os
import tokenize
import zipfile
import zlib

import numpy as np

from sqair.errors import UserError

ENDINGS = (".npy", ".npz")
NAME = "images"  # of the array to take where a file holds several

_MAX_FRAME_BYTES = 1 << 28
_WANTED = "[T, H, W], [T, H, W, C] or [N, T, H, W, C] with C of 1 or 3, as uint8, or as floats from 0 to 1"
# What readers of zip files and of array headers raise if the bytes are not what they should be.
_BROKEN = (ValueError, EOFError, SyntaxError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError)
_BROKEN += (zipfile.BadZipFile, zlib.error, tokenize.TokenError)


def read_videos(path):
    """Yields the videos in an array of shape `[T, H, W]`, `[T, H, W, C]` or `[N, T, H, W, C]`.

    Args:
        path: str, ends in `.npy` or `.npz`. Of several arrays in a file the one called `images` is taken.

    Yields:
        Tuples of a name and an iterator of frames `[H, W, C]` uint8, to be read before the next is asked for.

    Raises:
        UserError: if the file is missing or damaged, has another shape or type, or values that are no brightness.
    """
    with _reported(path), _opened(path) as stream:
        shape, dtype = _header(path, stream)
        several = len(shape) == 5
        num_frames, *frame_shape = shape[1:] if several else shape
        frame_shape = (*frame_shape, 1) if len(shape) == 3 else tuple(frame_shape)
        for number in range(shape[0] if several else 1):
            name = f"{path}[{number}]" if several else path
            yield name, _frames(path, name, stream, num_frames, frame_shape, dtype)


def _frames(path, name, stream, num_frames, shape, dtype):
    num_bytes = dtype.itemsize * int(np.prod(shape))
    for t in range(num_frames):
        with _reported(path):
            content = stream.read(num_bytes)
            if len(content) < num_bytes:
                raise EOFError(f"it ends in frame {t + 1} of {num_frames}")
        yield _to_uint8(np.frombuffer(content, dtype).reshape(shape), f"Frame {t + 1} of {name!r}")


def _to_uint8(frame, where):
    """Brightness 0 to 255 of a frame."""
    if frame.dtype == np.uint8:
        return frame
    if not np.all((frame >= 0) & (frame <= 1)):  # NaN is neither
        raise UserError(
            f"{where} has values that are not finite, or outside 0 to 1 ({frame.min()} to {frame.max()}); divide by the"
            " largest, or save as uint8."
        )
    return np.rint(frame.astype(np.float64) * 255).astype(np.uint8)


@contextlib.contextmanager
def _opened(path):
    """The bytes of the one array of a file, from the header of its npy format on."""
    if path.lower().endswith(".npy"):
        with open(path, "rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        named = [name for name in names if name == NAME + ".npy"] or names
        if len(named) != 1:
            listed = ", ".join(os.path.splitext(name)[0] for name in names[:8]) or "none"
            raise UserError(
                f"{path!r} holds {len(names)} arrays ({listed}); save the videos as the one called {NAME!r}."
            )
        with archive.open(named[0]) as stream:
            yield stream


def _header(path, stream):
    """Shape and type of the array that follows in a stream."""
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran_order, dtype = read[version](stream)
    channels = shape[-1] if len(shape) > 3 else 1
    fits = len(shape) in (3, 4, 5) and channels in (1, 3) and min(shape) > 0
    if not fits or not (dtype == np.uint8 or dtype.kind in "bf"):
        raise UserError(f"{path!r} holds {dtype} of shape {list(shape)}; videos are {_WANTED}.")
    if fortran_order:
        raise UserError(f"{path!r} is stored column by column; save np.ascontiguousarray of it.")
    if dtype.itemsize * int(np.prod(shape[-3:], dtype=object)) > _MAX_FRAME_BYTES:
        raise UserError(f"{path!r} holds frames of shape {list(shape[-3:])}, which are too large.")
    return shape, dtype


@contextlib.contextmanager
def _reported(path):
    """Turns what broken files raise into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path!r} cannot be read: {error.strerror or error}.") from None
    except _BROKEN as error:
        reason = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(f"{path!r} is damaged or no file of arrays ({reason}); save it again.") from None
