# SPDX-License-Identifier: GPL-3.0-or-later
"""Videos from files: films (ffmpeg), folders of pictures, and NumPy arrays, one frame at a time."""

import glob
import itertools
import os
import re
import subprocess
import tempfile
import warnings
from typing import Any, NamedTuple

import imageio_ffmpeg
import numpy as np
from PIL import Image

from sqair import files
from sqair.data import array_files
from sqair.errors import UserError

FILMS = (".mp4", ".avi", ".gif", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
WRITTEN = (".mp4", ".gif")  # the films that can be written
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
_CONTAINERS = "mov,avi,gif,matroska,mpeg,mpegts,mpegvideo,asf"  # of these films, by ffmpeg's names
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes
_ENCODERS = {
    ".mp4": ["-c:v", "libx264", "-crf", "14", "-pix_fmt", "yuv420p", "-threads", "1", "-f", "mp4"],
    # A palette for each frame, which needs no more than that frame in memory; it loops for ever.
    ".gif": [
        "-filter_complex",
        "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1:dither=none",
        *("-loop", "0", "-f", "gif"),
    ],
}
_KINDS = "films (mp4, avi, gif, ...), folders of pictures (png, jpg), or arrays (npy, npz)"


class Video(NamedTuple):
    """A video that can be read once."""

    name: str  # for messages: the path; of one of several in an array `path[number]`
    path: str  # of the file or folder
    frames: Any  # iterator of [h, w, 1 or 3] uint8, all of one size


def open_videos(paths):
    """Yields the videos of files and folders, one after the other.

    Args:
        paths: list of paths or patterns such as `films/*.mp4`. A folder of pictures is one video, whose frames are
            in natural order (2 before 10); any other folder stands for the videos in it.

    Yields:
        `Video`s. The frames of each have to be read before the next is asked for.

    Raises:
        UserError: if there is no such file, or one is of no known kind; while reading, if one is damaged.
    """
    for path in paths:
        for found in _expanded(path):
            yield from _videos(found)


def check_written(path):
    """Raises UserError if a path does not end like a film that can be written."""
    if not path.lower().endswith(WRITTEN):
        raise UserError(f"{path!r} is no film that can be written; let it end in {' or '.join(WRITTEN)}.")


def write_video(path, frames, fps=10):
    """Writes an MP4 film or a GIF that loops, wholly or not at all; a frame is in memory at a time.

    Args:
        path: str, ending in .mp4 or .gif.
        frames: iterable of `[h, w, 3]` uint8; of an MP4 both sides are even.
        fps: frames per second.

    Raises:
        UserError: if it cannot be written.
    """
    check_written(path)
    frames = iter(frames)
    first = next(frames)
    partial = f"{path}.{os.getpid()}.partial"
    command = [_ffmpeg(), "-nostdin", "-v", "error", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{first.shape[1]}x{first.shape[0]}", "-r", str(fps), "-i", "-"]
    command += _ENCODERS[os.path.splitext(path)[1].lower()]
    with files.writing(path), tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*command, f"file:{partial}"], stdin=subprocess.PIPE, stderr=complaints
            )
            try:
                with process:
                    for frame in itertools.chain([first], frames):
                        process.stdin.write(frame.tobytes())
            except BrokenPipeError:
                pass  # it has said why
            if process.returncode:
                raise OSError(_complaint(complaints))
            files.publish(partial, path)
        finally:
            if os.path.exists(partial):
                os.remove(partial)


def natural_key(name):
    """Sorts names by the numbers in them: `f2` before `f10`."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else part) for part in re.split(r"(\d+)", name)
    ]


def _expanded(path):
    """The paths that a path or pattern stands for."""
    if os.path.exists(path):
        return [path]
    found = sorted(glob.glob(path), key=natural_key)
    if not found:
        raise UserError(f"There is no video {path!r}; give {_KINDS}.")
    return found


def _videos(path, within=True):
    ending = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        yield from _folder_videos(path, within)
    elif ending in FILMS:
        yield Video(path, path, _film_frames(path))
    elif ending in array_files.ENDINGS:
        for name, frames in array_files.read_videos(path):
            yield Video(name, path, frames)
    else:
        raise UserError(f"{path!r} is not a video; give {_KINDS}.")


def _folder_videos(folder, within):
    try:
        names = sorted((name for name in os.listdir(folder) if name[0] != "."), key=natural_key)
    except OSError as error:
        raise UserError(f"Folder {folder!r} cannot be read: {error.strerror or error}.") from None
    pictures = [name for name in names if name.lower().endswith(PICTURES)]
    if pictures:
        yield Video(folder, folder, _picture_frames([os.path.join(folder, name) for name in pictures]))
        return
    videos = [name for name in names if name.lower().endswith(FILMS + array_files.ENDINGS)]
    videos = videos or [name for name in names if os.path.isdir(os.path.join(folder, name)) and within]
    if not videos:
        raise UserError(f"Folder {folder!r} holds no video; give {_KINDS}.")
    for name in videos:
        yield from _videos(os.path.join(folder, name), within=False)


def _picture_frames(paths):
    size = None
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as picture:
                    mode = picture.mode
                    frame = np.asarray(picture.convert("RGB"))
        except (
            OSError,
            ValueError,
            SyntaxError,
            MemoryError,
            EOFError,
        ) as error:  # what Pillow's readers raise
            raise UserError(
                f"Picture {path!r} cannot be read: {_reason(error)}; replace or remove it."
            ) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UserError(f"Picture {path!r} is too large to be a frame; make it smaller.") from None
        if mode not in _EIGHT_BITS:
            raise UserError(
                f"Picture {path!r} has pixels of kind {mode}; save it with 8 bits for each channel."
            )
        if size not in (None, frame.shape[:2]):
            raise UserError(
                f"Picture {path!r} has {_sides(frame.shape)} pixels, but those before it {_sides(size)}; the frames of"
                " a video have one size."
            )
        size = frame.shape[:2]
        yield frame


def _film_frames(path):
    """Decodes a film; every frame is one as stored, none is left out or repeated to keep the time."""
    # A playlist that calls itself a film would open addresses, and wait for them for ever.
    command = [_ffmpeg(), "-nostdin", "-v", "error", "-protocol_whitelist", "file"]
    command += ["-format_whitelist", _CONTAINERS]
    command += ["-i", f"file:{path}", "-map", "0:v:0", "-vsync", "passthrough"]
    command += ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    with tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints) as process:
            try:
                yield from _ppm_frames(process.stdout)
            except BaseException:  # nobody reads on
                process.kill()
                raise
        complaint = _complaint(complaints)
    if complaint:
        raise UserError(
            f"Film {path!r} is damaged or of an unknown kind ({complaint}); replace it, or encode it anew with ffmpeg."
        )


def _ppm_frames(stream):
    """Frames `[h, w, 3]` of portable pixmaps that follow each other; a part of one at the end is left out."""
    while stream.readline() == b"P6\n":
        width, height = map(int, stream.readline().split())
        stream.readline()  # the largest value, 255
        content = stream.read(3 * width * height)
        if len(content) == 3 * width * height:
            yield np.frombuffer(content, np.uint8).reshape(height, width, 3)


def _ffmpeg():
    """Path of the program that comes with the package imageio-ffmpeg, or of the one that is installed."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise UserError(
            "Films need ffmpeg, which is not there; install it, or give folders of pictures."
        ) from None


def _complaint(complaints):
    """The first thing that ffmpeg has complained of, "" if there is none."""
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return re.sub(r"^\[.*?\] ", "", lines[0]).rstrip(".") if lines else ""


def _reason(error):
    return str(getattr(error, "strerror", None) or error).split("\n")[0].rstrip(".") or type(error).__name__


def _sides(shape):
    return f"{shape[0]}x{shape[1]}"
