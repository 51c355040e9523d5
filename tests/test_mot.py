# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest

from sqair.data import mot
from sqair.errors import UserError

TEXT = """2,7,11,21,30,40,1,3,0.5

1,9,1.5,1,3,4
1,7,10,20,30,40,1,3,1
1,8,10,20,30,40,0,1,1
5,9,-4,1,3,4,1,-1,-1
"""


@pytest.fixture
def tracks(tmp_path):
    (tmp_path / "gt.txt").write_text(TEXT)
    return mot.read(str(tmp_path / "gt.txt"))


def test_frames_and_pixels_count_from_0_and_what_is_not_considered_is_left_out(tracks):
    assert tracks.frames.tolist() == [0, 0, 1, 4]
    assert tracks.ids.tolist() == [7, 9, 7, 9]
    assert tracks.classes.tolist() == [3, mot.NO_CLASS, 3, mot.NO_CLASS]
    assert tracks.boxes.tolist() == [[19, 9, 40, 30], [0, 0.5, 4, 3], [20, 10, 40, 30], [0, -5, 4, 3]]


def test_what_is_written_is_what_is_read(tracks, tmp_path):
    (tmp_path / "again.txt").write_text(mot.lines(tracks))
    for one, other in zip(mot.read(str(tmp_path / "again.txt")), tracks):
        np.testing.assert_array_equal(one, other)


def test_a_step_takes_every_nth_frame(tracks):
    rows = tracks.every(2)
    assert (rows.frames.tolist(), rows.ids.tolist()) == ([0, 0, 2], [7, 9, 9])


def test_a_window_has_the_objects_of_its_frames(tracks):
    boxes, classes = mot.window(tracks, 1, 4)
    assert boxes.shape == (4, 2, 4) and boxes.dtype == np.float32 and classes.tolist() == [3, 0]
    assert boxes[0].tolist() == [[20, 10, 40, 30], [0, 0, 0, 0]]
    assert boxes[3].tolist() == [[0, 0, 0, 0], [0, -5, 4, 3]]
    assert not boxes[1:3].any()
    boxes, classes = mot.window(tracks, 2, 2)
    assert boxes.shape == (2, 0, 4) and classes.shape == (0,)


def test_an_empty_file_has_no_objects(tmp_path):
    (tmp_path / "gt.txt").write_text("\n")
    tracks = mot.read(str(tmp_path / "gt.txt"))
    assert tracks.boxes.shape == (0, 4) and mot.window(tracks.every(2), 0, 3)[0].shape == (3, 0, 4)


def test_truth_lies_beside_its_video(tmp_path):
    assert mot.beside("a/film.1.mp4") == "a/film.1.txt"
    sequence = tmp_path / "seq"
    (sequence / "img1").mkdir(parents=True)
    assert mot.beside(str(sequence / "img1")) == str(sequence / "gt" / "gt.txt")
    (sequence / "img1" / "gt").mkdir()
    (sequence / "img1" / "gt" / "gt.txt").write_text("")
    assert mot.beside(str(sequence / "img1")) == str(sequence / "img1" / "gt" / "gt.txt")


@pytest.mark.parametrize(
    "line, sentence",
    [
        (
            "1,2,3,4,5",
            "Line 2 of .* is not frame, id, left, top, width, height as finite numbers: '1,2,3,4,5'",
        ),
        ("a,b,c,d,e,f", "as finite numbers"),
        ("1,2,nan,4,5,6", "as finite numbers"),
        ("1,2,3,4,inf,6", "as finite numbers"),
        ("0,2,3,4,5,6", "Line 2 of .* is refused: frames count from 1"),
        ("1.5,2,3,4,5,6", "whole numbers"),
        ("1,2.5,3,4,5,6", "whole numbers"),
        ("1,2,3,4,0,6", "boxes have an area"),
        ("1,2,3,4,5,-6", "boxes have an area"),
        ("1e300,2,3,4,5,6", "is refused"),
        ("3,1,9,9,9,9", "Line 2 of .* repeats object 1 of frame 3"),
        ("\x00", "no table|finite numbers"),
    ],
)
def test_bad_lines_are_refused_by_their_number(tmp_path, line, sentence):
    (tmp_path / "gt.txt").write_text(f"3,1,1,1,5,5\n{line}\n")
    with pytest.raises(UserError, match=sentence):
        mot.read(str(tmp_path / "gt.txt"))


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no ground truth .*none.txt'; put it there, or do without"):
        mot.read(str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        mot.read(str(tmp_path))
    (tmp_path / "film.txt").write_bytes(os.urandom(5000) + b"\xff\xfe")
    with pytest.raises(UserError, match="no table of numbers|finite numbers"):
        mot.read(str(tmp_path / "film.txt"))
