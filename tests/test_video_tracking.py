# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracking of films by a stand-in that finds the brightest pixel."""

import os

import numpy as np
import pytest
import stub_films

from sqair.data import video_files
from sqair.data.frames import Framing
from sqair.errors import UserError
from sqair.evaluation import films, video_tracking
from sqair.evaluation.tracker import Tracks

CHUNK = 5


class BrightestPixel:
    """One object, number 7, at the brightest pixel: a glimpse of a pixel, and a tight box of half of one."""

    def __init__(self, image_shape):
        self.image_shape, self.frames = image_shape, []

    def stream(self, frames):
        chunk = []
        for frame in frames:
            assert frame.shape == self.image_shape and frame.dtype == np.uint8
            chunk.append(frame)
            self.frames.append(frame)
            if len(chunk) == CHUNK:
                yield self._tracks(chunk)
                chunk = []
        if chunk:
            yield self._tracks(chunk)

    def _tracks(self, chunk):
        places = [np.unravel_index(frame.sum(-1).argmax(), frame.shape[:2]) for frame in chunk]
        boxes = np.array([[[y, x, 1, 1]] for y, x in places], float)
        ones = np.ones(boxes.shape[:2])
        fields = dict.fromkeys(Tracks._fields, ones)
        fields.update(
            boxes=boxes,
            tight_boxes=boxes * [1, 1, 0.5, 0.5],
            ids=7 * ones.astype(int),
            presence=ones > 0,
            reconstruction=np.zeros([len(chunk), *self.image_shape]),
            first_frame=len(self.frames) - len(chunk),
        )
        return Tracks(**fields)


@pytest.fixture
def film(tmp_path):
    """A square of 8 pixels that moves 2 pixels a frame over grey."""
    np.save(str(tmp_path / "film.npy"), stub_films.frames(num_frames=12))
    return str(tmp_path / "film.npy")


def rows(path):
    return np.loadtxt(str(path), delimiter=",", ndmin=2)


def test_boxes_are_in_pixels_and_frames_of_the_film(film, tmp_path):
    """A quarter of the film's size: the square is two pixels large."""
    tracker = BrightestPixel((6, 10, 1))
    found = video_tracking.track_video(tracker, film, Framing(), str(tmp_path / "x.csv"), tight=False)
    assert (found.frames, found.objects, found.view.crop) == (12, 8, (0, 0, 24, 40))
    lines = rows(tmp_path / "x.csv")
    np.testing.assert_array_equal(lines[:, 0], np.arange(1, 13))
    np.testing.assert_array_equal(lines[:, 4:6], 4)
    for t, (_, number, left, top, *_) in enumerate(lines):
        assert number == 8 and 6 <= top - 1 < 6 + stub_films.SIDE
        assert 2 + 2 * t - 4 < left - 1 < 2 + 2 * t + stub_films.SIDE
    assert max(frame.max() for frame in tracker.frames) > 100  # the ground's grey is taken away
    assert min(frame[:1].max() for frame in tracker.frames) == 0


def test_a_crop_a_step_and_tight_boxes(film, tmp_path):
    tracker = BrightestPixel((10, 16, 3))
    framing = Framing(crop=(4, 2, 20, 32), background="none")
    video_tracking.track_video(tracker, film, framing, str(tmp_path / "x.csv"), frame_step=5)
    lines = rows(tmp_path / "x.csv")
    np.testing.assert_array_equal(lines[:, 0], [1, 6, 11])
    np.testing.assert_array_equal(lines[:, 4:6], 1)  # half of two pixels
    np.testing.assert_allclose(lines[:, 3], 7, atol=2)
    np.testing.assert_allclose(lines[:, 2], [3, 13, 23], atol=2)
    assert len(tracker.frames) == 3 and tracker.frames[0].max() == stub_films.LIGHT[0]


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_the_annotated_film_shows_the_films_own_colours(film, tmp_path, ending):
    path = str(tmp_path / f"annotated{ending}")
    video_tracking.track_video(
        BrightestPixel((6, 10, 1)), film, Framing(), str(tmp_path / "x.csv"), path, fps=5
    )
    (video,) = video_files.open_videos([path])
    frames = list(video.frames)
    assert len(frames) == 12
    np.testing.assert_allclose(frames[0][35, 300], [stub_films.GROUND] * 3, atol=6)
    assert np.any(np.all(np.abs(frames[3] - np.array(stub_films.LIGHT, float)) < 12, axis=-1))


def test_few_frames_wait_whatever_the_length(tmp_path, monkeypatch):
    made, waiting = [], []
    crop, annotate = video_tracking._Source._crop_of, films.Annotator.frame
    monkeypatch.setattr(video_tracking._Source, "_crop_of", lambda *args: made.append(1) or crop(*args))

    def drawn(annotator, *args):
        waiting.append(len(made) - len(waiting))
        return annotate(annotator, *args)

    monkeypatch.setattr(films.Annotator, "frame", drawn)
    np.save(str(tmp_path / "long.npy"), stub_films.frames(num_frames=40, size=(8, 100)))
    arguments = (BrightestPixel((8, 100, 1)), str(tmp_path / "long.npy"), Framing(), str(tmp_path / "x.csv"))
    video_tracking.track_video(*arguments, film=str(tmp_path / "x.gif"))
    assert len(made) == len(waiting) == 40 and max(waiting) == CHUNK


def test_a_film_without_frames_is_refused(tmp_path, monkeypatch):
    empty = video_files.Video("x.mp4", "x.mp4", iter(()))
    monkeypatch.setattr(video_files, "open_videos", lambda paths: iter([empty]))
    for background in ("none", "cutout"):
        arguments = (
            BrightestPixel((8, 8, 1)),
            "x.mp4",
            Framing(background=background),
            str(tmp_path / "x.csv"),
        )
        with pytest.raises(UserError, match="'x.mp4' holds no frame"):
            video_tracking.track_video(*arguments)
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize("background", ["none", "difference"])
@pytest.mark.parametrize(
    "name, sentence",
    [
        ("several.npy", "'.*several.npy' holds several videos; give one, in a file or folder of its own"),
        ("missing.mp4", "There is no video"),
        ("broken.mp4", "is damaged or of an unknown kind"),
    ],
)
def test_what_is_no_single_film_is_refused_and_nothing_kept(tmp_path, name, sentence, background):
    np.save(str(tmp_path / "several.npy"), np.stack([stub_films.frames()] * 2))
    (tmp_path / "broken.mp4").write_bytes(b"no film at all")
    before = sorted(os.listdir(str(tmp_path)))
    with pytest.raises(UserError, match=sentence):
        video_tracking.track_video(
            BrightestPixel((6, 10, 1)),
            str(tmp_path / name),
            Framing(background=background),
            str(tmp_path / "x.csv"),
            str(tmp_path / "x.gif"),
        )
    assert sorted(os.listdir(str(tmp_path))) == before


def test_the_film_is_not_written_over(film, tmp_path):
    content = (tmp_path / "film.npy").read_bytes()
    tracker, other = BrightestPixel((6, 10, 1)), str(tmp_path / "x.gif")
    for output, annotated in ((film, None), (other, other), (str(tmp_path / "." / "film.npy"), other)):
        with pytest.raises(UserError, match="name the same file"):
            video_tracking.track_video(tracker, film, Framing(), output, annotated)
    with pytest.raises(UserError, match="is no film that can be written"):
        video_tracking.track_video(tracker, film, Framing(), other, "x.avi")
    with pytest.raises(UserError, match="nowhere/x.csv cannot be written"):
        video_tracking.track_video(tracker, film, Framing(), str(tmp_path / "nowhere" / "x.csv"))
    assert (tmp_path / "film.npy").read_bytes() == content and os.listdir(str(tmp_path)) == ["film.npy"]
