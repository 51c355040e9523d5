# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts that show results, as programs: track, make_figures, report; and TensorBoard on what a run wrote."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import browser
import numpy as np
import pytest
import stub_data_set
import stub_evaluation
from PIL import Image
from script_run import STUB_MODEL, run_script

from sqair.data import mnist, moving_mnist
from sqair.evaluation.evaluations import Evaluations

FRAMES, VALID = 4, 6


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of four updates with figures and validation, and its data."""
    root = tmp_path_factory.mktemp("showing")
    stub_data_set.script_set(str(root / "set"), num_train=8)
    flags = "--train_itr=4 --save_itr=2 --log_itr=2 --fig_itr=2 --batch_size=2 --k_particles=2".split()
    places = (f"--data_dir={root / 'set'}", f"--results_dir={root}", "--report_loss_every=1")
    assert run_script("train.py", STUB_MODEL, *flags, *places)[0] == 0
    return str(root / "multi_mnist" / "1")


@pytest.mark.slow
def test_track_writes_boxes_and_a_film(tmp_path):
    options = moving_mnist.Options(num_digits=(2,), seq_len=12)
    (sequence,) = moving_mnist.make_chunk(mnist.load_bundle().valid, options, 0, "valid", 0, 1)
    large = np.kron(sequence.images[..., 0], np.ones((2, 2), np.uint8))
    np.save(str(tmp_path / "x.npy"), large)
    flags = (f"--output={tmp_path}/x.csv", f"--film={tmp_path}/x.mp4", "--background=none")
    status, output, errors = run_script("track.py", f"--video={tmp_path}/x.npy", *flags)
    assert (status, errors) == (0, "")
    found = re.match(r"Tracked (\d+) objects in 12 frames, [\d.]+ frames per second.\n", output)
    assert found and int(found.group(1)) >= 1 and f"Boxes in pixels of the film: {tmp_path}/x.csv" in output
    rows = np.loadtxt(str(tmp_path / "x.csv"), delimiter=",", ndmin=2)
    assert rows.shape[1] == 10 and len(set(rows[:, 1])) == int(found.group(1))
    boxes = rows[:, [3, 2, 5, 4]] - [1, 1, 0, 0]
    brightness = [large[int(row[0]) - 1][tuple(_inside(box))].mean() for row, box in zip(rows, boxes)]
    assert np.mean(np.array(brightness) > 20) > 0.8  # they are on digits
    sampled = run_script(
        "track.py", f"--video={tmp_path}/x.npy", *flags, "--sample", "--seed=3", "--notight", "--film="
    )
    assert sampled[0] == 0 and "film:" not in sampled[1].replace("of the film:", "")
    squeezed = run_script("track.py", f"--video={tmp_path}/x.npy", *flags, "--crop=0,0,50,100")
    assert "Note: 50x100 pixels of the film became 50x50" in squeezed[1]


def _inside(box):
    y, x = np.maximum(box[:2], 0).astype(int)
    end = np.maximum(box[:2] + box[2:], 1).astype(int)
    return slice(y, max(end[0], y + 1)), slice(x, max(end[1], x + 1))


def test_track_asks_for_a_video_before_anything_else():
    assert run_script("track.py") == (
        2,
        "",
        "--video is missing; name a film, a folder of pictures, or an array.\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, sentence",
    [
        (("--video=none.mp4",), "There is no video 'none.mp4'"),
        (("--video=none.mp4", "--crop=1"), "--crop=1 is refused"),
        (("--video=none.mp4", "--model=nowhere"), "nowhere/flags.json cannot be read"),
    ],
)
def test_what_track_refuses_leaves_nothing(tmp_path, flags, sentence):
    status, output, errors = run_script("track.py", *flags, cwd=str(tmp_path))
    assert (status, output) == (2, "") and errors.startswith(sentence) and errors.count("\n") == 1
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.slow
def test_figures_and_films_of_chosen_sequences(run_folder, tmp_path):
    flags = ("--best=2", "--worst=1", "--sequences=5", f"--out={tmp_path}", "--film=mp4")
    status, output, errors = run_script("make_figures.py", f"--run={run_folder}", STUB_MODEL, *flags)
    assert (status, errors) == (0, "")
    best, worst = (
        re.search(rf"The {name} of {VALID} .*: (.*)", output).group(1) for name in ("best", "worst")
    )
    names = {"best.png", "worst.png", "sequence.png"}
    for group, numbers in (("best", best), ("worst", worst), ("sequence", "5 (")):
        for number in re.findall(r"(\d+) \(", numbers):
            names |= {f"{group}-{number}-glimpses.png", f"{group}-{number}.mp4"}
    assert len(names) == 11 and set(os.listdir(str(tmp_path))) == names
    for name in filter(lambda name: name.endswith("png"), names):
        with Image.open(str(tmp_path / name)) as picture:
            picture.verify()
    for wrong, sentence in (
        (["--sequences=1,x"], "--sequences=1,x is refused: it takes numbers"),
        (["--sequences=6", "--best=0", "--worst=0"], "There is no sequence 6: the valid data has 6"),
        (["--best=0", "--worst=0"], "Nothing is asked for; give --best, --worst or --sequences."),
    ):
        status, output, errors = run_script("make_figures.py", f"--run={run_folder}", STUB_MODEL, *wrong)
        assert status == 2 and errors.startswith(sentence) and errors.count("\n") == 1


@pytest.mark.slow
def test_a_report_without_pictures_of_sequences_needs_no_data(tmp_path):
    (tmp_path / "flags.json").write_text("{}")
    flags = (f"--run={tmp_path}", "--cases=0", f"--output={tmp_path}/x.html")
    status, output, errors = run_script("report.py", *flags)
    assert (status, output) == (2, "") and errors.startswith(
        "Nothing was evaluated yet; call scripts/evaluate.py"
    )
    Evaluations(str(tmp_path)).add(stub_evaluation.entry())
    assert run_script("report.py", *flags, "--title=Mine & yours") == (0, f"Look at {tmp_path}/x.html\n", "")
    text = (tmp_path / "x.html").read_text()
    assert "<h1>Mine &amp; yours</h1>" in text and "Well explained" not in text and "Training" not in text


@pytest.mark.slow
def test_a_report_of_a_run(run_folder, tmp_path):
    where = (f"--run={run_folder}", STUB_MODEL)
    assert run_script("evaluate.py", *where)[0] == 0
    status, output, errors = run_script("report.py", *where, "--cases=2", f"--output={tmp_path}/x.html")
    assert (status, errors) == (0, "")
    text = (tmp_path / "x.html").read_text()
    assert text.count("data:image/png") == 4 + 2 + 4 and "<h2>Training</h2>" in text
    with open(os.path.join(run_folder, "evaluation.json")) as file:
        entry = json.load(file)["evaluations"][-1]
    assert f"{entry['estimates']['normalised_iwae']['mean']:.4g}" in text
    status, _, errors = run_script("report.py", *where, f"--output={tmp_path}/no/x.html", "--cases=0")
    assert status == 2 and errors.startswith(f"{tmp_path}/no/x.html cannot be written")


@contextlib.contextmanager
def tensorboard(folder):
    """TensorBoard on a folder, on a free port: yields its address."""
    program = os.path.join(os.path.dirname(sys.executable), "tensorboard")
    command = [program, "--logdir", folder, "--host", "127.0.0.1", "--port", "0", "--reload_interval", "1"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
    try:
        for line in process.stderr:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                break
        yield found.group()
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(address, path, **query):
    query = "?" + urllib.parse.urlencode(query) if query else ""
    with urllib.request.urlopen(f"{address}/data/{path}{query}", timeout=60) as answer:
        return answer.read()


@pytest.mark.slow
def test_tensorboard_shows_the_numbers_and_figures_of_a_run(run_folder):
    with tensorboard(run_folder) as address:
        end = time.monotonic() + 60
        while "events/valid" not in json.loads(ask(address, "plugin/images/tags")):
            assert time.monotonic() < end
            time.sleep(0.5)
        scalars = json.loads(ask(address, "plugin/scalars/tags"))
        assert {"normalised_iwae", "num_step_acc"} <= set(scalars["events/valid"])
        points = json.loads(ask(address, "plugin/scalars/scalars", run="events/valid", tag="normalised_iwae"))
        assert [step for _, step, _ in points] == [2, 4]
        images = json.loads(ask(address, "plugin/images/tags"))["events/valid"]
        assert set(images) == {"tracking", "glimpses"}
        for tag in images:
            listed = json.loads(ask(address, "plugin/images/images", run="events/valid", tag=tag, sample=0))
            assert [found["step"] for found in listed] == [2, 4]
            stored = ask(address, "plugin/images/individualImage?" + listed[-1]["query"])
            with Image.open(io.BytesIO(stored)) as picture:
                assert picture.size == (listed[-1]["width"], listed[-1]["height"])
        seen = browser.dump(address, "--virtual-time-budget=30000", "--window-size=1400,1600")
        assert "<title>TensorBoard</title>" in seen and "<vz-line-chart-tooltip" in seen  # a chart was drawn
