# SPDX-License-Identifier: GPL-3.0-or-later
"""Data sets of a user's own videos, with or without annotations.

A video is decoded once; its prepared frames wait in a file without a name until its background and the sequences of
all videos are known, so that memory holds a few frames and sequences whatever the videos' length.
"""

import os
import tempfile
from typing import Any, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from sqair.data import digit_sequences, frames, mot, storage, tfrecords, video_files
from sqair.data.publishing import staged_folder
from sqair.errors import UserError

SPLITS = ("train", "valid")

_BACKGROUND_FRAMES = 101  # of a video, evenly spaced, that the median is taken of
_MAX_SEQUENCE_BYTES = 1 << 28
_CHUNK_SEQUENCES = 16


class Options(NamedTuple):
    """How videos become sequences."""

    seq_len: int = 10  # frames of a sequence
    stride: int = 0  # frames between the beginnings of sequences; 0: as many as a sequence has
    frame_step: int = 1  # every how many frames of the film one is taken
    framing: frames.Framing = frames.Framing()
    truth: bool = False  # read what lies at `mot.beside` each video
    valid_share: float = 0.1  # of the sequences, for validation


class Clip(NamedTuple):
    """A prepared video, its frames in the file of all."""

    name: str
    offset: int  # of its first frame in the file, bytes
    num_frames: int
    background: Any  # [H, W, C]
    tracks: Optional[mot.Tracks]  # in pixels and frames of the data set


def create(directory, paths, options=None, seed=0, overwrite=False, progress=False):
    """Writes a data set of videos into a folder, wholly or not at all.

    Whole videos go to training or to validation where there are several; of a single one the end is for validation,
    and no frame is in both.

    Args:
        directory: path of a folder that does not exist or is empty.
        paths: list of str, as of `video_files.open_videos`.
        options: `Options`, the defaults if None.
        seed: int, at least 0, which videos are for validation, and the order of sequences.
        overwrite: whether a data set in `directory` is replaced.
        progress: whether to show a progress bar on a terminal.

    Returns:
        Dict, the content of `dataset.json`; `["splits"][split]["statistics"]` describes the sequences.

    Raises:
        UserError: if an option makes no sense, a video or its annotation cannot be read or does not fit, or the folder
            cannot be written or is in use.
    """
    options = Options() if options is None else options
    check_options(options, seed)
    with staged_folder(directory, overwrite) as folder, tempfile.TemporaryFile(dir=folder) as spool:
        clips, image_shape = _spool(spool, paths, options, progress)
        windows = choose_windows([clip.num_frames for clip in clips], options, seed)
        max_objects = max(
            len(mot.window(clips[c].tracks, first, options.seq_len)[1]) if clips[c].tracks else 0
            for split in SPLITS
            for c, first in windows[split]
        )
        layout = storage.Layout(options.seq_len, image_shape, max_objects)
        sources = _Sources(spool, clips, layout, options.framing)
        entries = {split: _write(folder, split, sources, windows[split], progress) for split in SPLITS}
        described = {**options._asdict(), "framing": dict(options.framing._asdict())}
        return storage.write_index(folder, layout, entries, name="own videos", seed=seed, options=described)


def check_options(options, seed=0):
    """Raises UserError if an option makes no sense."""
    frames.check(options.framing)
    for name, least in (("seq_len", 1), ("stride", 0), ("frame_step", 1)):
        if getattr(options, name) < least:
            raise UserError(f"`{name}={getattr(options, name)}` is refused: it must be at least {least}.")
    if not 0 < options.valid_share < 1:
        raise UserError(f"`valid_share={options.valid_share}` is refused: it must be above 0 and below 1.")
    if not 0 <= seed < 2**32:
        raise UserError(f"`seed={seed}` is refused: it must be 0 to {2**32 - 1}.")


def choose_windows(lengths, options, seed):
    """Which sequences there are, and what they are for.

    Args:
        lengths: list of int, frames of each video.
        options: `Options`.
        seed: int.

    Returns:
        Dict of split -> list of (number of the video, first frame), in random order.

    Raises:
        UserError: if there is but one sequence.
    """
    stride, rng = options.stride or options.seq_len, np.random.RandomState(seed)
    starts = [range(0, length - options.seq_len + 1, stride) for length in lengths]
    wanted = options.valid_share * sum(map(len, starts))
    windows = {split: [] for split in SPLITS}
    if len(lengths) == 1:
        number = max(int(round(wanted)), 1)
        for_valid = starts[0][-number:]
        windows["valid"] = [(0, first) for first in for_valid]
        windows["train"] = [(0, first) for first in starts[0] if first + options.seq_len <= for_valid[0]]
    else:
        *for_valid, last = rng.permutation(len(lengths))  # the last is for training, whatever the share
        for video in for_valid:
            split = "valid" if len(windows["valid"]) < wanted else "train"
            windows[split] += [(video, first) for first in starts[video]]
        windows["train"] += [(last, first) for first in starts[last]]
    if not windows["train"]:
        raise UserError(
            f"A single video of {lengths[0]} frames gives no sequences of {options.seq_len} both for training and for"
            " validation; lower `seq_len`, `stride` or `valid_share`, or give more videos."
        )
    return {split: [windows[split][i] for i in rng.permutation(len(windows[split]))] for split in SPLITS}


def _spool(spool, paths, options, progress):
    """Prepares all videos into a file; returns list of `Clip` and the shape of images."""
    clips, image_shape = [], None
    with tqdm(unit=" frames", desc="reading", disable=None if progress else True) as bar:
        for video in video_files.open_videos(paths):
            tracks = mot.read(mot.beside(video.path)) if options.truth else None
            offset, num_frames, view, num_read = spool.tell(), 0, None, 0
            for num_read, frame in enumerate(video.frames, 1):
                bar.update()
                if (num_read - 1) % options.frame_step:
                    continue
                if view is None:
                    view = frames.view_of(options.framing, frame.shape, video.name)
                prepared = frames.prepare(frame, options.framing, view)
                spool.write(prepared.tobytes())
                num_frames += 1
            _check_length(video.name, num_frames, num_read, options)
            if image_shape is None:
                image_shape = prepared.shape
            _check_shape(video.name, prepared.shape, image_shape, options.seq_len)
            spool.flush()
            if tracks is not None:
                tracks = _mapped(tracks, view, num_read, options.frame_step, mot.beside(video.path))
            background = _median(spool, offset, num_frames, image_shape)
            clips.append(Clip(video.name, offset, num_frames, background, tracks))
    if not clips:
        raise UserError("No videos are given; name files or folders in `videos`.")
    return clips, image_shape


def _mapped(tracks, view, num_frames, frame_step, path):
    """Tracks in frames and pixels of the data set, without what is out of sight."""
    if len(tracks.frames) and tracks.frames[-1] >= num_frames:
        raise UserError(
            f"Ground truth {path!r} has frame {tracks.frames[-1] + 1}, but its video ends with {num_frames}; is it that"
            " of another video?"
        )
    tracks = tracks.every(frame_step)
    tracks = tracks._replace(boxes=view.boxes(tracks.boxes))
    return tracks.where(digit_sequences.visible_share(tracks.boxes, view.size) > 0)


def _check_length(name, num_frames, num_read, options):
    if num_frames < options.seq_len:
        taken = (
            f", of which `frame_step={options.frame_step}` takes {num_frames}"
            if options.frame_step > 1
            else ""
        )
        raise UserError(
            f"{name!r} has {num_read} frames{taken}, fewer than a sequence (`seq_len={options.seq_len}`); lower that,"
            " or leave the video out."
        )


def _check_shape(name, shape, first, seq_len):
    if shape != first:
        raise UserError(
            f"Frames of {name!r} become {shape[0]}x{shape[1]} pixels, but those of the first video"
            f" {first[0]}x{first[1]}; give `size` as HEIGHTxWIDTH, or a `crop`."
        )
    if seq_len * int(np.prod(shape)) > _MAX_SEQUENCE_BYTES:
        raise UserError(
            f"Sequences of {seq_len} frames of {shape[0]}x{shape[1]} are too large; lower `seq_len` or `size`."
        )


def _median(spool, offset, num_frames, shape):
    """Median over time of a clip's frames, `[H, W, C]` float32."""
    chosen = np.unique(np.linspace(0, num_frames - 1, _BACKGROUND_FRAMES).astype(int))
    return np.median([_read(spool, offset, t, 1, shape)[0] for t in chosen], axis=0).astype(np.float32)


def _read(spool, offset, first, count, shape):
    """Frames `[count, H, W, C]` of a clip that begins at `offset`."""
    size = int(np.prod(shape))
    content = os.pread(spool.fileno(), count * size, offset + first * size)
    return np.frombuffer(content, np.uint8).reshape((count,) + tuple(shape))


class _Sources(NamedTuple):
    """What sequences are cut from."""

    spool: Any
    clips: Any  # list of `Clip`
    layout: storage.Layout
    framing: frames.Framing

    def sequence(self, clip, first):
        """The arrays of a sequence, dict by the names of `Layout.fields`."""
        clip, layout = self.clips[clip], self.layout
        images = _read(self.spool, clip.offset, first, layout.seq_len, layout.image_shape)
        boxes = np.zeros((layout.seq_len, layout.max_objects, 4), np.float32)
        labels = np.full(layout.max_objects, digit_sequences.NO_LABEL, np.int32)
        presence = np.zeros(layout.max_objects, np.uint8)
        if clip.tracks is not None:
            found, classes = mot.window(clip.tracks, first, layout.seq_len)
            boxes[:, : len(classes)], labels[: len(classes)], presence[: len(classes)] = found, classes, 1
        return {
            "images": frames.remove_background(images, clip.background, self.framing),
            "boxes": boxes,
            "visible": digit_sequences.visible_share(boxes, layout.image_shape[:2]),
            "labels": labels,
            "presence": presence,
        }


def _write(folder, split, sources, windows, progress):
    """Writes the records of a split; returns what the index holds about it."""
    pixels, objects = 0, 0
    bar = tqdm(total=len(windows), unit=" sequences", desc=split, disable=None if progress else True)
    with storage.SplitWriter(folder, split, sources.layout, len(windows)) as writer, bar:
        for first in range(0, len(windows), _CHUNK_SEQUENCES):
            chunk = [sources.sequence(*window) for window in windows[first : first + _CHUNK_SEQUENCES]]
            pixel_sum = sum(sequence["images"].sum(0, np.uint64) for sequence in chunk)
            records = [storage.encode(sources.layout, sequence) for sequence in chunk]
            writer.write(tfrecords.frame(records), pixel_sum)
            pixels += int(pixel_sum.sum())
            objects += sum(int((sequence["visible"] > 0).sum()) for sequence in chunk)
            bar.update(len(chunk))
        entry = writer.entry()
    num_frames = len(windows) * sources.layout.seq_len
    mean_pixel = pixels / (255.0 * num_frames * int(np.prod(sources.layout.image_shape)))
    videos = sorted({sources.clips[c].name for c, _ in windows})
    statistics = {"mean_pixel": mean_pixel, "objects_per_frame": objects / num_frames}
    return {**entry, "statistics": statistics, "videos": videos}
