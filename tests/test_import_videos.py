# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import stub_films
from script_run import run_script

from sqair.data.pipeline import SequenceDataset

SCRIPTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts")
TINY = (
    "--n_units=1",
    "--n_what=3",
    "--glimpse_size=5",
    "--batch_size=2",
    "--k_particles=2",
    "--num_threads=1",
)


def decodes(process):
    """Whether a process has started another one, which decodes a film."""
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as stream:
        return bool(stream.read())


def test_every_option_reaches_the_data(tmp_path):
    paths = stub_films.write(tmp_path, "a", "b", num_frames=14)
    folder = str(tmp_path / "set")
    status, out, err = run_script(
        "import_videos.py",
        f"--videos={tmp_path}/*.mp4",
        f"--data_dir={folder}",
        *"--truth --valid_share=.4 --seed=2 --seq_len=3 --stride=2 --frame_step=2 --crop=2,4,20,30".split(),
        *"--size=10x15 --colour --invert --background=cutout --min_difference=.2 --gain=1.5".split(),
    )
    assert (status, err) == (0, "")
    assert "Frames of 10x15 pixels, 3 channel(s); at most 1 objects known." in out
    assert "train: 3 sequences of 1 video(s); mean_pixel " in out and f"Wrote {folder} in " in out
    with open(os.path.join(folder, "dataset.json")) as stream:
        index = json.load(stream)
    framing = index["options"].pop("framing")
    assert index["seed"] == 2
    assert index["options"] == dict(seq_len=3, stride=2, frame_step=2, truth=True, valid_share=0.4)
    assert framing == dict(
        crop=[2, 4, 20, 30],
        size=[10, 15],
        colour=True,
        invert=True,
        background="cutout",
        min_difference=0.2,
        gain=1.5,
    )
    assert SequenceDataset(folder, "valid").image_shape == (10, 15, 3)
    assert index["splits"]["train"]["videos"][0] in paths
    status, out, err = run_script("import_videos.py", f"--videos={paths[0]}", f"--data_dir={folder}")
    assert (status, out) == (2, "") and "--overwrite" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((), "No videos are given; name files or folders in --videos."),
        (("--videos=none.mp4",), "There is no video 'none.mp4'; give films"),
        (("--videos=none.mp4", "--size=50x"), "--size=50x is refused: it takes a number of pixels, or two"),
        (("--videos=none.mp4", "--size=9x9x9"), "--size=9x9x9 is refused"),
        (("--videos=none.mp4", "--crop=1,2,3"), "--crop=1,2,3 is refused: it takes four numbers"),
        (("--videos=none.mp4", "--size=0"), "The --size of frames must be 1 to 512 pixels, not 0."),
        (("--videos=none.mp4", "--background=mean"), "--background=mean is refused"),
        (("--videos=none.mp4", "--gain=nan"), "--gain=nan is refused"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, arguments, sentence):
    status, out, err = run_script(
        "import_videos.py", *arguments, f"--data_dir={tmp_path}/set", cwd=str(tmp_path)
    )
    assert (status, out) == (2, "") and sentence in err and err.count("\n") == 1
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.slow
def test_a_full_disk_and_an_interruption_leave_nothing(tmp_path):
    stub_films.write(tmp_path, "a", num_frames=300, size=(64, 800), step=1)
    arguments = (f"--videos={tmp_path}/a.mp4", f"--data_dir={tmp_path}/new/set", "--size=64x800")

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    status, out, err = run_script("import_videos.py", *arguments, "--size=64x400", preexec_fn=limit)
    assert (status, out) == (2, "")
    assert err == f"Folder '{tmp_path}/new/set' cannot be written: File too large; nothing was kept.\n"
    assert os.listdir(str(tmp_path / "new")) == []

    command = [sys.executable, os.path.join(SCRIPTS, "import_videos.py"), *arguments[:2], "--size=512x512"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while not (os.listdir(str(tmp_path / "new")) and decodes(process)):
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.2)  # the film takes seconds
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "Interrupted; no data set was written.\n")
    assert os.listdir(str(tmp_path / "new")) == []


@pytest.mark.slow
@pytest.mark.parametrize("truth", [True, False])
def test_the_walk_through_in_colour(tmp_path, truth):
    """Films, data set, figure, training, evaluation: with annotations and without any."""
    films, data_dir, results = (str(tmp_path / name) for name in ("films", "set", "results"))
    steps = [
        ("create_sprite_videos.py", "--folder", films, "--num_films=3", "--num_frames=40"),
        (
            "import_videos.py",
            f"--videos={films}/*.mp4",
            "--data_dir",
            data_dir,
            "--size=20",
            "--seq_len=4",
            "--colour",
        ),
        ("check_data.py", "--data_dir", data_dir, "--figure", str(tmp_path / "check.png")),
        ("train.py", "--data_dir", data_dir, "--results_dir", results, "--test_run", *TINY),
        ("evaluate.py", "--results_dir", results, "--run_name=test_run", "--json", "--batch_size=3"),
    ]
    for script, *arguments in steps:
        if script == "import_videos.py" and truth:
            arguments.append("--truth")
        status, out, err = run_script(script, *arguments)
        assert (status, err) == (0, ""), script
    (entry,) = json.loads(out)
    assert (
        ("num_step_acc" in entry["estimates"]) == bool(entry["confusion"]) == bool(entry["objects"]) == truth
    )
    assert 0 <= entry["estimates"]["num_steps"]["mean"] <= 3
    figures = os.listdir(os.path.join(results, "test_run", "1", "figures"))
    assert {"tracking-4.png", "glimpses-4.png"} <= set(figures)
