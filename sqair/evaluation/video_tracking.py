# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks a user's film into a file of boxes and an annotated film, a few frames in memory at a time.

The film is read twice if its background is taken away, which is the median over time of all of it.
"""

import collections
import itertools
import os
import time
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from sqair import files
from sqair.data import frames, video_files
from sqair.errors import UserError
from sqair.evaluation import films
from sqair.evaluation.tracker import mot_line


class Summary(NamedTuple):
    """What became of a film."""

    frames: int  # that were tracked
    objects: int  # different ones
    seconds: float  # for reading, tracking and drawing; not for the background
    view: frames.View  # the part of the film that the model saw


def track_video(tracker, path, framing, output, film=None, fps=10, frame_step=1, tight=True, progress=False):
    """Follows the objects of a film.

    Args:
        tracker: `sqair.evaluation.tracker.Tracker`.
        path: str, of one video as of `video_files.open_videos`.
        framing: `frames.Framing`; its size and colour are those of the model's images, whatever it says.
        output: str, a file to write as MOTChallenge's (`tracker.mot_line`): boxes in pixels of the film, numbers of
            the film's frames.
        film: str, an annotated film to write, ending in .mp4 or .gif; None for none.
        fps: frames per second of that.
        frame_step: int, every how many frames one is taken.
        tight: whether boxes are those around what is drawn of an object, not its glimpse's.
        progress: whether to show a progress bar on a terminal.

    Returns:
        `Summary`.

    Raises:
        UserError: if the film cannot be read, is several, or does not fit, or a file cannot be written.
    """
    height, width, channels = tracker.image_shape
    framing = framing._replace(size=(height, width), colour=channels == 3)
    frames.check(framing)
    _check_targets(path, output, film)
    with files.atomic_write(output) as file:
        annotator = films.Annotator(tracker.image_shape, titles=("film", "model"))
        source = _Source(path, framing, frame_step, annotator.panel if film else None, progress)
        begin, last_id, count = time.time(), -1, 0

        def tracked():
            nonlocal last_id, count
            for tracks in tracker.stream(source.inputs()):
                file.writelines(map(mot_line, _film_rows(tracks, source.view, frame_step, tight)))
                last_id, count = max(last_id, int(tracks.ids.max())), count + len(tracks.ids)
                yield tracks

        if film:
            video_files.write_video(film, _annotated(tracked(), source.shown, annotator, tight), fps)
        else:
            collections.deque(tracked(), maxlen=0)
    return Summary(count, last_id + 1, time.time() - begin, source.view)


class _Source:
    """A film, its frames as the model gets them."""

    def __init__(self, path, framing, frame_step, panel, progress):
        """Reads it once if it has a background; `panel` is the size (height, width) to show it in, None for none."""
        self._path, self._framing, self._frame_step, self._progress = path, framing, frame_step, progress
        self._panel, self.shown = (
            panel,
            collections.deque(),
        )  # of what was given and not yet taken to be shown
        self.view = None
        self._background, self._length = 0.0, None
        if framing.background != "none":
            self._background = frames.background_of(
                frames.prepare(frame, framing, self.view) for frame in self._frames("background")
            )

    def inputs(self):
        """Yields `[H, W, C]` uint8."""
        for frame in self._frames("tracking"):
            if self._panel:
                self.shown.append(self._crop_of(frame))
            prepared = frames.prepare(frame, self._framing, self.view)
            yield frames.remove_background(prepared[None], self._background, self._framing)[0]

    def _crop_of(self, frame):
        """What the model sees of a frame, in the film's own colours: `[*panel, 3]` uint8."""
        y, x, height, width = self.view.crop
        return np.asarray(films.stretched(frame[y : y + height, x : x + width], self._panel))

    def _frames(self, what):
        """The frames of the film, at least one; sets the view."""
        videos = video_files.open_videos([self._path])
        video = next(videos)
        count = 0
        with tqdm(
            unit=" frames", desc=what, total=self._length, disable=None if self._progress else True
        ) as bar:
            for frame in itertools.islice(video.frames, 0, None, self._frame_step):
                self.view = self.view or frames.view_of(self._framing, frame.shape, video.name)
                yield frame
                count += 1
                bar.update()
        self._length = count
        if not count:
            raise UserError(f"{self._path!r} holds no frame; at least one is needed.")
        if next(videos, None) is not None:
            raise UserError(f"{self._path!r} holds several videos; give one, in a file or folder of its own.")


def _film_rows(tracks, view, frame_step, tight):
    """`Tracks.rows` in pixels and frames of the film."""
    boxes = {name: view.film_boxes(getattr(tracks, name)) for name in ("boxes", "tight_boxes")}
    for frame, *others in tracks._replace(**boxes).rows(tight):
        yield (frame * frame_step, *others)


def _annotated(chunks, shown, annotator, tight):
    """Frames of the annotated film."""
    for tracks in chunks:
        boxes = tracks.tight_boxes if tight else tracks.boxes
        for arrays in zip(tracks.reconstruction, boxes, tracks.presence, tracks.ids):
            yield annotator.frame(shown.popleft(), *arrays)


def _check_targets(path, output, film):
    """Refuses to write over the film itself, or what cannot be written."""
    if film:
        video_files.check_written(film)
    places = [os.path.realpath(place) for place in (path, output, film) if place]
    if len(set(places)) < len(places):
        raise UserError("`video`, `output` and `film` name the same file; give each one of its own.")
