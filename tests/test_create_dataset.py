# SPDX-License-Identifier: GPL-3.0-or-later
import fcntl
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from sqair.data.pipeline import SequenceDataset

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "scripts", "create_multi_mnist_dataset.sh")
LONG = ("--bundled_digits", "--num_train=10000000", "--workers=2")


def environment(**change):
    return {**os.environ, "PYTHON": sys.executable, **change}


def run(*arguments, **options):
    done = subprocess.run([SCRIPT, *arguments], env=environment(), capture_output=True, text=True, **options)
    return done.returncode, done.stdout, done.stderr


def processes_with(text):
    """Ids of the processes with this text in their command line."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb") as stream:
                if text.encode() in stream.read():
                    found.append(int(process))
        except OSError:
            continue
    return found


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_option_reaches_the_data(tmp_path):
    folder = str(tmp_path / "new" / "set")
    status, out, err = run(
        "--bundled_digits",
        f"--data_dir={folder}",
        *(
            "--num_train=6 --num_valid 4 --canvas_size=30x44 --seq_len=3 --num_digits=1,3-4 --digit_scale=.5"
        ).split(),
        *("--max_speed=4 --max_acceleration=1 --noise=.5 --seed=8 --workers=2").split(),
        cwd=str(tmp_path),
    )
    assert (status, err) == (0, "")
    assert "train: 6 sequences; mean_pixel " in out and f"Wrote {folder} in " in out
    with open(os.path.join(folder, "dataset.json")) as stream:
        index = json.load(stream)
    assert index["seed"] == 8
    assert index["options"] == {
        "canvas_size": [30, 44],
        "digit_scale": 0.5,
        "num_digits": [1, 3, 4],
        "seq_len": 3,
        "motion": {"max_speed": 4.0, "max_acceleration": 1.0, "acceleration_noise": 0.5},
    }
    train, valid = SequenceDataset(folder, "train"), SequenceDataset(folder, "valid")
    assert (train.num_sequences, valid.num_sequences) == (6, 4)
    assert (train.seq_len, train.image_shape, train.max_objects) == (3, (30, 44, 1), 4)

    status, out, err = run("--bundled_digits", f"--data_dir={folder}")
    assert (status, out) == (2, "") and "--overwrite" in err


def test_mnist_mot_has_defaults_of_its_own_and_every_option_reaches_it(tmp_path):
    arguments = "--kind=mnist_mot --bundled_digits --num_train=2 --num_valid=1 --workers=1".split()
    assert run(*arguments, cwd=str(tmp_path))[::2] == (0, "")
    folder = str(tmp_path / "data" / "mnist_mot")
    train = SequenceDataset(folder, "train")
    assert (train.num_sequences, train.seq_len, train.image_shape) == (2, 20, (128, 128, 1))
    others = "--canvas_size=40x50 --frame_size=30 --seq_len=4 --max_digits=2 --speed=3 --wait=1"
    others += " --birth_prob=.7 --history=9"
    assert run(*arguments, *others.split(), "--overwrite", f"--data_dir={folder}")[::2] == (0, "")
    with open(os.path.join(folder, "dataset.json")) as stream:
        index = json.load(stream)
    wanted = dict(canvas_size=[40, 50], frame_size=[30, 30], seq_len=4, max_digits=2, speed=3.0, wait=1)
    wanted.update(birth_prob=0.7, history=9)
    assert (index["name"], index["options"]) == ("MNIST-MOT", wanted)


def test_help_and_mistakes(tmp_path):
    status, out, err = run("--help")
    assert (status, err) == (0, "")
    for part in (
        "The data set:",
        "Sequences:",
        "Moving multi-MNIST:",
        "MNIST-MOT:",
        "Digits:",
        "--num_train (default 60000)",
    ):
        assert part in out
    for arguments, sentence in (
        (("--num-train=3",), "Unknown flag --num-train; did you mean --num_train?"),
        (
            ("--canvas_size=50x",),
            "--canvas_size=50x is refused: it takes a number of pixels, or two as in 40x60.",
        ),
        (("--kind=mnist_mot", "--noise=1"), "--noise=1.0 is refused: it is for --kind=moving_mnist alone."),
        (("--speed=1",), "--speed=1.0 is refused: it is for --kind=mnist_mot alone."),
        (
            ("--kind=mnist_mot", "--bundled_digits", "--speed=30", f"--data_dir={tmp_path}/set"),
            "--speed=30.0 is refused: it must be above 0 and at most 28",
        ),
        (("--num_digits=2-1",), "--num_digits=2-1 is refused: it takes a number, a range like 0-2"),
        (("--bundled_digits", "--mnist_dir=/", f"--data_dir={tmp_path}/set"), "exclude each other"),
        ((f"--mnist_dir={tmp_path}/none", f"--data_dir={tmp_path}/set"), "does not exist"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, "") and sentence in err and err.count("\n") == 1
    assert os.listdir(str(tmp_path)) == []


@pytest.mark.parametrize(
    "sent, status", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_run_leaves_nothing_that_looks_complete(tmp_path, sent, status):
    folder = str(tmp_path / "set")
    process = subprocess.Popen(
        [SCRIPT, f"--data_dir={folder}", *LONG], env=environment(), stderr=subprocess.PIPE, text=True
    )

    def is_writing():
        shards = [name for _, _, names in os.walk(str(tmp_path)) for name in names]
        return "train-00000-of-01000.tfrecord" in shards

    try:
        wait_until(is_writing)
        assert len(processes_with(folder)) == 3
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status
    assert not os.path.exists(folder)
    if sent != signal.SIGKILL:
        assert err == "Interrupted; no data set was written.\n"
        assert os.listdir(str(tmp_path)) == []
    wait_until(lambda: not processes_with(folder))  # the workers are gone too
    if sent == signal.SIGKILL:
        assert run("--bundled_digits", f"--data_dir={folder}", "--num_train=3", "--num_valid=3")[0] == 0
        assert os.listdir(str(tmp_path)) == ["set"]


def test_in_the_background_an_interruption_is_ignored_and_a_termination_leaves_nothing(tmp_path):
    folder = str(tmp_path / "set")
    process = subprocess.Popen(
        [SCRIPT, f"--data_dir={folder}", *LONG],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        wait_until(
            lambda: any(".tfrecord" in name for _, _, names in os.walk(str(tmp_path)) for name in names)
        )
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "Interrupted; no data set was written.\n")
    assert os.listdir(str(tmp_path)) == []
    wait_until(lambda: not processes_with(folder))


def test_ctrl_c_reaches_the_workers_too(tmp_path):
    """A terminal sends SIGINT to the whole group; still there is one sentence and no traceback."""
    process = subprocess.Popen(
        [SCRIPT, f"--data_dir={tmp_path}/set", *LONG],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until(
            lambda: any(".tfrecord" in name for _, _, names in os.walk(str(tmp_path)) for name in names)
        )
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "Interrupted; no data set was written.\n")
    assert os.listdir(str(tmp_path)) == []


def test_a_full_disk(tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    status, out, err = run(
        "--bundled_digits", f"--data_dir={tmp_path}/set", "--num_train=500", "--workers=2", preexec_fn=limit
    )
    assert (status, out) == (2, "")
    assert err == f"Folder '{tmp_path}/set' cannot be written: File too large; nothing was kept.\n"
    assert os.listdir(str(tmp_path)) == []


def test_without_an_environment_the_way_to_get_one_is_said(tmp_path):
    (tmp_path / "scripts").mkdir()
    for script in (SCRIPT, os.path.join(os.path.dirname(SCRIPT), "python.sh")):
        shutil.copy(script, str(tmp_path / "scripts"))
    for python in ("", "/nowhere/python"):
        done = subprocess.run(
            [str(tmp_path / "scripts" / os.path.basename(SCRIPT))],
            env=environment(PYTHON=python),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert "run scripts/setup.sh first" in done.stderr and done.stderr.count("\n") == 1


def test_a_terminal_shows_the_progress_and_the_time_left(tmp_path):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    arguments = ("--bundled_digits", "--num_train=3000", "--num_valid=10", f"--data_dir={tmp_path}/set")
    subprocess.run(
        [SCRIPT, *arguments], env=environment(), stderr=theirs, stdout=subprocess.DEVNULL, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert re.search(r"100%\|.*\| 3010/3010 \[\d\d:\d\d<\d\d:\d\d, .* sequences/s\]", shown)
