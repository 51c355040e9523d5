# SPDX-License-Identifier: GPL-3.0-or-later
import os

import numpy as np
import pytest
from PIL import Image
from script_run import run_script

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODEL = f"--run={os.path.join(ROOT, 'models', 'mlp_sqair')}"


def call(*flags):
    return run_script("generate.py", MODEL, *flags)


def read(path):
    with np.load(path) as stored:
        return dict(stored)


def test_a_figure_is_a_png_file():
    status, output, errors = call("--output=x.jpg")
    assert (status, output) == (2, "") and errors == "--output=x.jpg is refused: its name must end in .png.\n"


@pytest.mark.slow
def test_samples_from_the_prior(tmp_path):
    png, npz = str(tmp_path / "x.png"), str(tmp_path / "x.npz")
    status, output, errors = call("--num_sequences=2", "--num_frames=3", f"--output={png}")
    assert (status, errors) == (0, "") and output == f"Look at {png}; the arrays are in {npz}\n"
    assert read(npz)["reconstruction"].shape == (3, 2, 50, 50, 1)
    with Image.open(png) as image:
        assert image.size[0] > 300


@pytest.mark.slow
def test_videos_of_a_file_go_on(tmp_path):
    data, png = str(tmp_path / "videos.npz"), str(tmp_path / "x.png")
    videos = np.zeros((2, 4, 50, 50), np.uint8)
    videos[0, :, 10:30, 10:14] = 255
    np.savez(data, images=videos[..., None])
    flags = "--observe=3", "--num_sequences=2", "--num_futures=2", "--num_frames=2", f"--data={data}"
    status, _, errors = call(*flags, f"--output={png}")
    assert (status, errors) == (0, "")
    found = read(str(tmp_path / "x.npz"))
    assert found["num_observed"] == 3 and found["presence"].shape == (5, 4, 3)
    assert (found["presence"][2].sum(-1) > 0).tolist() == [True, True, False, False]
    assert np.abs(found["what"][3, 0] - found["what"][3, 1]).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--output=nowhere/x.png"], "nowhere/x.png cannot be written"),
        (["--num_frames=0"], "--num_frames=0 is refused"),
        (["--num_sequences=9999999"], "--num_sequences=9999999 is refused: with 10 frames"),
        (["--seed=2147483648"], "--seed=2147483648 is refused"),
        (["--checkpoint=nowhere"], "Checkpoint nowhere is incomplete"),
        (["--observe=2", "--data=nowhere"], "nowhere"),
        (["--observe=4", "--data=videos.npy"], "--observe=4 is refused: a video has 3 frames."),
        (["--observe=2", "--data=videos.npy"], "`frames` holds a frame of shape [9, 9, 1]"),
        (
            ["--observe=2", "--num_sequences=3", "--data=videos.npy"],
            "--num_sequences=3 is refused: 'videos.npy' has 2.",
        ),
        (["--observe=2", "--data=damaged.npz"], "'damaged.npz' is damaged"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(flags, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("videos.npy", np.zeros((2, 3, 9, 9, 1), np.uint8))
    (tmp_path / "damaged.npz").write_bytes(b"PK\3\4 and nothing")
    status, output, errors = call("--num_sequences=2", *flags)
    assert status == 2 and output == "" and errors.count("\n") == 1
    assert sentence in errors
    assert sorted(os.listdir()) == ["damaged.npz", "videos.npy"]
