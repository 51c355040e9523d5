# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
import stub_films
from PIL import Image
from script_run import run_script

from sqair.data import own_videos
from sqair.data.frames import Framing


@pytest.mark.slow
@pytest.mark.parametrize("truth", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sizes_numbers_suggestions_and_a_figure(tmp_path, truth):
    paths = stub_films.write(tmp_path, "a", "b")
    options = own_videos.Options(4, framing=Framing(size=(24, 40), colour=True), truth=truth)
    own_videos.create(str(tmp_path / "set"), paths, options)
    figure, number = str(tmp_path / "figure.png"), 2 if truth else 3  # the median has to be the ground
    status, out, err = run_script(
        "check_data.py",
        f"--data_dir={tmp_path}/set",
        f"--figure={figure}",
        "--split=valid",
        f"--num_sequences={number}",
    )
    assert (status, err) == (0, "")
    assert "3 sequences of 4 frames of 24x40 pixels, 3 channel(s)." in out and f"Of {number} of them:" in out
    assert (
        f"--scale_prior={'-2.7,-2.1' if truth else '-2.'}" in out
        and "--n_steps_per_image=1" in out
        and "--output_std=0.2" in out
    )
    assert ("annotated objects, 8x8 pixels" in out) == truth == ("num_step_acc" not in out)
    with Image.open(figure) as image:
        assert image.size[0] > 400
    assert "figure.png: are the objects bright" in out


@pytest.mark.slow
def test_mistakes_end_in_one_sentence(tmp_path):
    status, out, err = run_script("check_data.py", f"--data_dir={tmp_path}/none")
    assert (status, out, err.count("\n")) == (2, "", 1) and "There is no data set in" in err
    own_videos.create(str(tmp_path / "set"), stub_films.write(tmp_path, "a"), own_videos.Options(4))
    status, out, err = run_script(
        "check_data.py", f"--data_dir={tmp_path}/set", f"--figure={tmp_path}/none/a.png"
    )
    assert (status, out, err.count("\n")) == (2, "", 1) and "a.png cannot be written: No such file" in err
