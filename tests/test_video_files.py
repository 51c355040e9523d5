# SPDX-License-Identifier: GPL-3.0-or-later
import os
import subprocess
import weakref

import imageio_ffmpeg
import numpy as np
import pytest
import stub_films
from PIL import Image

from sqair.data import video_files
from sqair.errors import UserError


def read(*paths):
    """The videos of paths: list of (name, [T, H, W, C])."""
    return [
        (video.name, np.stack(list(video.frames))) for video in video_files.open_videos(list(map(str, paths)))
    ]


def save(folder, *names, size=(6, 9), mode="RGB"):
    """Pictures whose brightness is their place."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.new(mode, size[::-1], i if mode in ("L", "I;16") else (i, i, i)).save(str(folder / name))


@pytest.mark.parametrize("ending", ["mp4", "avi", "gif", "mov", "mkv", "webm", "mpg", "wmv"])
def test_a_film_has_the_frames_that_were_written(tmp_path, ending):
    wanted = stub_films.frames()
    (path,) = stub_films.write(tmp_path, "film")
    if ending != "mp4":
        other = str(tmp_path / f"film.{ending}")
        options = ["-r", "25", "-vf", "setpts=N/25/TB"] if ending == "mpg" else []  # its slowest
        subprocess.check_call([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, *options, other])
        path = other
    ((name, found),) = read(path)
    assert name == path and found.shape == wanted.shape and found.dtype == np.uint8
    assert np.mean(np.abs(found.astype(float) - wanted)) < (16 if ending == "gif" else 6)  # few colours
    brightest = found.mean(-1).max(1).argmax(-1)
    assert np.all(np.abs(brightest - (2 + 2 * np.arange(12))) <= stub_films.SIDE)
    assert not [name for name in os.listdir(str(tmp_path)) if "partial" in name]


def test_pictures_come_in_natural_order(tmp_path):
    save(tmp_path / "film", "f1.png", "f2.PNG", "f10.png", "f11.jpg")
    (tmp_path / "film" / "notes.txt").write_text("")
    ((name, found),) = read(tmp_path / "film")
    assert name == str(tmp_path / "film") and found.shape == (4, 6, 9, 3)
    assert found[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert sorted(["b10", "a", "b9", "10", "9"], key=video_files.natural_key) == ["9", "10", "a", "b9", "b10"]


def test_folders_and_patterns_stand_for_what_is_in_them(tmp_path):
    (tmp_path / "all").mkdir()
    for name in ("s10", "s9"):
        save(tmp_path / "all" / name, "1.png")
    np.save(str(tmp_path / "x2.npy"), np.zeros((3, 4, 5), np.uint8))
    np.save(str(tmp_path / "x10.npy"), np.zeros((2, 3, 4, 5, 1), np.uint8))
    names = [os.path.relpath(name, str(tmp_path)) for name, _ in read(tmp_path / "x*.npy", tmp_path / "all")]
    assert names == ["x2.npy", "x10.npy[0]", "x10.npy[1]", "all/s9", "all/s10"]


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "text.txt").write_text("hello")
    for path, sentence in (
        ("none.mp4", "There is no video"),
        ("none*.mp4", "There is no video"),
        ("empty", "holds no video; give films"),
        ("deep", "er' holds no video"),
        ("text.txt", "is not a video; give films"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(tmp_path / path)


@pytest.mark.parametrize("keep", [0, 100, 3000, -100])
def test_a_damaged_film_is_refused(tmp_path, keep):
    (path,) = stub_films.write(tmp_path, "film", num_frames=60, size=(64, 200))
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:keep])
    with pytest.raises(UserError, match=r"film.mp4' is damaged or of an unknown kind \(.+\); replace it"):
        read(path)


def test_a_playlist_is_no_film(tmp_path):
    text = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:1/x.ts\n"
    (tmp_path / "list.avi").write_text(text)
    with pytest.raises(
        UserError, match="list.avi' is damaged or of an unknown kind .*(whitelist|Not detecting m3u8)"
    ):
        read(tmp_path / "list.avi")


def test_a_film_that_breaks_in_the_middle_is_refused(tmp_path):
    (path,) = stub_films.write(tmp_path, "film", num_frames=60, size=(64, 200))
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 3)
        file.write(os.urandom(1500))
    with pytest.raises(UserError, match="is damaged"):
        read(path)


def test_a_decoder_ends_when_nobody_reads_on(tmp_path, monkeypatch):
    (path,) = stub_films.write(tmp_path, "film", num_frames=100, size=(200, 320))
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    video = next(video_files.open_videos([path]))
    next(video.frames)
    video.frames.close()
    assert [process.returncode is not None for process in started] == [True]


def test_pictures_of_different_sizes_or_depths_are_refused(tmp_path):
    save(tmp_path / "film", "1.png")
    save(tmp_path / "film", "2.png", size=(7, 9))
    with pytest.raises(UserError, match="2.png' has 7x9 pixels, but those before it 6x9"):
        read(tmp_path / "film")
    save(tmp_path / "deep", "1.png", mode="I;16")
    with pytest.raises(UserError, match="pixels of kind I.*; save it with 8 bits"):
        read(tmp_path / "deep")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n and no more", b"hello"])
def test_a_damaged_picture_is_refused(tmp_path, content):
    save(tmp_path / "film", "1.png")
    (tmp_path / "film" / "2.png").write_bytes(content)
    with pytest.raises(UserError, match="Picture .*2.png' cannot be read: .+; replace or remove it"):
        read(tmp_path / "film")


def test_a_picture_beyond_all_bounds_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "film", "1.png")
    for limit in (20, 40):  # of pixels: more than twice as many is an error to Pillow, more a warning
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UserError, match="1.png' is too large"):
            read(tmp_path / "film")


def test_a_film_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"none/film.mp4 cannot be written: .+"):
        video_files.write_video(str(tmp_path / "none" / "film.mp4"), stub_films.frames())
    with pytest.raises(UserError, match="cannot be written: .*not divisible by 2"):
        video_files.write_video(str(tmp_path / "film.mp4"), stub_films.frames(size=(23, 40)))
    assert os.listdir(str(tmp_path)) == []


def test_a_gif_loops_and_shows_every_frame_in_its_colours(tmp_path):
    path, film = str(tmp_path / "film.GIF"), stub_films.frames(num_frames=5, size=(23, 41))
    video_files.write_video(path, iter(film), fps=5)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (5, 0, 200)
        for t, frame in enumerate(film):
            gif.seek(t)
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frame)
    assert os.listdir(str(tmp_path)) == ["film.GIF"]


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_frames_are_written_as_they_come(tmp_path, name):
    """None is kept: what was given before is gone when the next one is asked for."""
    alive = []

    def frames():
        for frame in stub_films.frames(num_frames=6):
            assert sum(reference() is not None for reference in alive) <= 2  # the first one, and the last
            frame = frame.copy()
            alive.append(weakref.ref(frame))
            yield frame

    video_files.write_video(str(tmp_path / name), frames())
    assert len(alive) == 6


@pytest.mark.parametrize("good", [0, 3])
def test_frames_that_end_in_an_error_leave_no_film(tmp_path, good):
    def frames():
        yield from stub_films.frames(num_frames=good)
        raise UserError("The rest is silence.")

    with pytest.raises(UserError, match="silence"):
        video_files.write_video(str(tmp_path / "film.mp4"), frames())
    assert os.listdir(str(tmp_path)) == []


def test_other_kinds_of_films_are_not_written(tmp_path):
    for name in ("film", "film.avi", "gif"):
        with pytest.raises(UserError, match=f"'{name}' is no film .* end in .mp4 or .gif"):
            video_files.write_video(name, stub_films.frames())


def test_without_ffmpeg_the_remedy_is_said(tmp_path, monkeypatch):
    def nothing():
        raise RuntimeError

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    with pytest.raises(UserError, match="install it, or give folders of pictures"):
        video_files.write_video(str(tmp_path / "film.mp4"), stub_films.frames())
