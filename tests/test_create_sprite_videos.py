# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from script_run import run_script

from sqair.data import mot, video_files


@pytest.mark.slow
def test_every_option_reaches_the_films(tmp_path):
    folder = str(tmp_path / "films")
    status, out, err = run_script(
        "create_sprite_videos.py",
        f"--folder={folder}",
        *"--num_films=2 --num_frames=5 --num_sprites=1 --max_speed=0 --texture --seed=1".split(),
    )
    assert (status, err) == (0, "") and out == f"Wrote 2 films and their ground truth into {folder}.\n"
    videos = 0
    for video in video_files.open_videos([folder]):
        film, tracks = np.stack(list(video.frames)), mot.read(mot.beside(video.path))
        assert len(film) == 5 and set(tracks.ids) == {1} and np.ptp(tracks.boxes, axis=0).max() == 0
        assert np.std(film[0, :20]) > 5  # textured
        videos += 1
    assert videos == 2
    status, out, err = run_script("create_sprite_videos.py", f"--folder={folder}")
    assert (status, out, err.count("\n")) == (2, "", 1) and "is not empty; name another one" in err
