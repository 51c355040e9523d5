# SPDX-License-Identifier: GPL-3.0-or-later
"""Ground truth of the MOT challenge (Milan et al. 2016, arXiv:1603.00831): a line for each object in each frame.

`frame, id, left, top, width, height, considered, class, ...`; frames and pixels count from 1, `considered` 0 says that
the line is to be left out, and what follows the height may be missing.
"""

import csv
import math
import os
from typing import Any, NamedTuple

import numpy as np

from sqair.errors import UserError

_REQUIRED = 6  # columns
NO_CLASS = 0


class Tracks(NamedTuple):
    """Boxes of objects, one row for each object in each frame that has it, in order of frames."""

    frames: Any  # [n] int64, from 0
    ids: Any  # [n] int64
    boxes: Any  # [n, 4] float64 (y, x, h, w) in pixels, (0, 0) the corner of the image
    classes: Any  # [n] int32, 0 where not given

    def where(self, chosen):
        """The rows that `[n]` bool or indices `chosen` names."""
        return Tracks(*(column[chosen] for column in self))

    def every(self, step):
        """Those of frames 0, step, 2 * step, ..., which become 0, 1, 2, ..."""
        rows = self.where(self.frames % step == 0)
        return rows._replace(frames=rows.frames // step)


def beside(path):
    """Where the ground truth of a video lies: `film.txt` beside `film.mp4`; `gt/gt.txt` in or beside a folder."""
    if not os.path.isdir(path):
        return os.path.splitext(path)[0] + ".txt"
    within = os.path.join(path, "gt", "gt.txt")
    return (
        within
        if os.path.exists(within)
        else os.path.join(os.path.dirname(os.path.abspath(path)), "gt", "gt.txt")
    )


def read(path):
    """Reads a file of ground truth: `Tracks`.

    Raises:
        UserError: if it is missing, or a line is not what it should be.
    """
    rows, seen = [], set()
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            for number, line in enumerate(csv.reader(stream), 1):
                row = _parsed(line, f"Line {number} of {path!r}")
                if row is None:
                    continue
                if row[:2] in seen:
                    raise UserError(
                        f"Line {number} of {path!r} repeats object {row[1]} of frame {row[0] + 1}."
                    )
                seen.add(row[:2])
                rows.append(row)
    except FileNotFoundError:
        raise UserError(
            f"There is no ground truth {path!r}; put it there, or do without: `notruth`."
        ) from None
    except OSError as error:
        raise UserError(f"Ground truth {path!r} cannot be read: {error.strerror or error}.") from None
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"Ground truth {path!r} is no table of numbers with commas between") from None
    rows.sort(key=lambda row: row[:2])
    frames, ids, boxes, classes = zip(*rows) if rows else ([], [], [], [])
    return Tracks(
        np.array(frames, np.int64), np.array(ids, np.int64), np.array(boxes, np.float64).reshape(-1, 4),
        np.array(classes, np.int32),
    )  # fmt: skip


def lines(tracks):
    """The text of a file that `read` gives these `Tracks` of."""
    text = "{},{},{:.2f},{:.2f},{:.2f},{:.2f},1,{}\n"
    rows = zip(tracks.frames, tracks.ids, tracks.boxes, tracks.classes)
    return "".join(
        text.format(t + 1, i, x + 1, y + 1, width, height, label)
        for t, i, (y, x, height, width), label in rows
    )


def window(tracks, first, seq_len):
    """The objects of a window of frames.

    Args:
        tracks: `Tracks`.
        first: int, the window's first frame.
        seq_len: int T.

    Returns:
        Tuple of boxes `[T, m, 4]` float32, zeros where an object is not in the frame, and classes `[m]` int32 of the m
        objects in any of these frames, in order of their ids.
    """
    begin, end = np.searchsorted(tracks.frames, [first, first + seq_len])
    rows = tracks.where(slice(begin, end))
    ids, at, objects = np.unique(rows.ids, return_index=True, return_inverse=True)
    boxes = np.zeros((seq_len, len(ids), 4), np.float32)
    boxes[rows.frames - first, objects] = rows.boxes
    return boxes, rows.classes[at]


def _parsed(line, where):
    """(frame, id, box, class) of the cells of a line; None if it is blank or to be left out."""
    if not "".join(line).strip():
        return None
    try:
        numbers = [float(cell) for cell in line if cell.strip()]
    except ValueError:
        numbers = []
    if len(numbers) < _REQUIRED or not all(map(math.isfinite, numbers)):
        raise UserError(
            f"{where} is not frame, id, left, top, width, height as finite numbers: {','.join(line)[:60]!r}."
        )
    frame, object_id, left, top, width, height, *rest = numbers
    if rest and rest[0] == 0:
        return None
    label = max(rest[1], NO_CLASS) if len(rest) > 1 else NO_CLASS  # older files have -1 there
    whole = all(value == int(value) for value in (frame, object_id, label))
    if not whole or frame < 1 or max(map(abs, numbers)) >= 2**31 or width <= 0 or height <= 0:
        raise UserError(
            f"{where} is refused: frames count from 1, ids and classes are whole numbers, and boxes have an area:"
            f" {','.join(line)[:60]!r}."
        )
    return int(frame) - 1, int(object_id), (top - 1, left - 1, height, width), int(label)
