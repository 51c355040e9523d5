# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest

from sqair.data import mot, sprites, video_files
from sqair.data.sprites import Options
from sqair.errors import UserError

QUIET = Options(noise=0.0, num_frames=15)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_touch_the_shapes_on_all_sides(seed):
    frames, tracks = sprites.make_film(QUIET._replace(num_sprites=(1, 1)), seed)
    assert frames.shape == (15, 120, 160, 3) and frames.dtype == np.uint8 and len(tracks.frames) == 15
    for t, (y, x, height, width) in zip(tracks.frames, tracks.boxes.astype(int)):
        differs = np.any(frames[t] != frames[t][(y + 80) % 120, (x + 80) % 160], -1)
        rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (y, y + height, x, x + width)
    shape = sprites.SHAPES[tracks.classes[0] - 1]
    share = differs.sum() / (height * width)
    assert {"square": share == 1, "disc": 0.75 < share < 0.9, "triangle": 0.45 < share < 0.62}[shape]


def test_sprites_move_smoothly_and_stay_within_the_film():
    frames, tracks = sprites.make_film(QUIET._replace(num_sprites=(3, 3), num_frames=80), 4)
    boxes = tracks.boxes.reshape(80, 3, 4)
    assert tracks.frames.reshape(80, 3)[:, 0].tolist() == list(range(80))
    assert tracks.ids.reshape(80, 3).tolist() == [[1, 2, 3]] * 80
    steps = np.abs(np.diff(boxes[..., :2], axis=0))
    assert steps.max() <= QUIET.max_speed + 1 and np.all(np.ptp(boxes[..., :2], axis=0).max(-1) > 5)
    assert boxes.min() >= 0 and np.all(boxes[..., :2] + boxes[..., 2:] <= (120, 160))
    assert len(frames) == 80


def test_a_textured_ground_and_noise():
    plain, _ = sprites.make_film(QUIET, 0)
    spotted, _ = sprites.make_film(QUIET._replace(texture=True), 0)
    noisy, _ = sprites.make_film(QUIET._replace(noise=5.0), 0)
    assert np.mean(plain == 70) > 0.8 > 0.2 > np.mean(spotted == 70)
    flicker = [np.median(np.abs(np.diff(film.astype(float), axis=0))) for film in (plain, noisy)]
    assert flicker[0] == 0 and flicker[1] > 2


def test_films_lie_beside_their_truth_and_follow_from_the_seed(tmp_path):
    options = Options(num_frames=4)
    for name, seed in (("a", 0), ("again", 0), ("other", 1)):
        sprites.create(str(tmp_path / name), options, num_films=2, seed=seed)
    assert sorted(os.listdir(str(tmp_path / "a"))) == ["001.mp4", "001.txt", "002.mp4", "002.txt"]
    for name in os.listdir(str(tmp_path / "a")):
        content = [(tmp_path / folder / name).read_bytes() for folder in ("a", "again", "other")]
        assert content[0] == content[1] != content[2]
    wanted, tracks = sprites.make_film(options, np.random.SeedSequence(0, spawn_key=(1,)))
    video = list(video_files.open_videos([str(tmp_path / "a")]))[1]
    found = mot.read(mot.beside(video.path))
    np.testing.assert_array_equal(found.boxes, tracks.boxes)


def test_the_film_is_what_was_drawn(tmp_path):
    sprites.create(str(tmp_path / "a"), Options(num_frames=4), num_films=1)
    wanted, _ = sprites.make_film(Options(num_frames=4), np.random.SeedSequence(0, spawn_key=(0,)))
    (found,) = [np.stack(list(video.frames)) for video in video_files.open_videos([str(tmp_path / "a")])]
    assert np.mean(np.abs(found.astype(float) - wanted)) < 4


def test_options_without_sense_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    for folder, options, sentence in (
        ("a", Options(size=(31, 40)), "must be even and hold a sprite of 34 pixels, not 31x40"),
        ("a", Options(size=(30, 40)), "not 30x40"),
        ("a", Options(num_sprites=(1, 9)), "shows 1 to 6 sprites, not 9"),
        ("full", Options(), "full' is not empty; name another"),
        ("full/thesis.tex", Options(), "cannot be written: (Not a directory|File exists)"),
    ):
        with pytest.raises(UserError, match=sentence):
            sprites.create(str(tmp_path / folder), options)
    assert os.listdir(str(tmp_path)) == ["full"]
