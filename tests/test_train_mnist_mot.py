# SPDX-License-Identifier: GPL-3.0-or-later
"""The legs of scripts/train_mnist_mot.sh, with a training beside it that only notes what it is asked for."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest
from script_run import SCRIPTS

TRAINING = """#!/usr/bin/env bash
set -eu
echo "$@" >> calls
case $1 in *_$CUT)
  trap 'echo saving >> calls; sleep 0.5; echo saved >> calls; exit 143' TERM
  touch ready
  for i in $(seq 600); do sleep 0.1; done ;;
esac
for argument in "$@"; do
  case $argument in --results_dir=*) results=${argument#*=} ;; esac
done
mkdir -p "${results:-results}/${1#*=}/2/checkpoints"
touch "${results:-results}/${1#*=}/2/checkpoints/model-3.index"
"""


@pytest.fixture
def start(tmp_path):
    """Function that starts the script, in a folder of its own."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(os.path.join(SCRIPTS, "train_mnist_mot.sh"), str(scripts))
    (scripts / "train_fast.sh").write_text(TRAINING)
    (scripts / "train_fast.sh").chmod(0o755)

    with contextlib.ExitStack() as ended:

        def run(*flags, cut="none"):
            process = subprocess.Popen(
                [str(scripts / "train_mnist_mot.sh"), *flags],
                cwd=str(tmp_path),
                env=dict(os.environ, CUT=cut),
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            return ended.enter_context(process)

        yield run


def calls(tmp_path):
    """What trainings were asked for since the last time: name of the run, and the flag that says how it begins."""
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink() if path.exists() else None
    return [
        " ".join(word for word in line.split() if word.startswith(("--run_name", "--init_from", "--resume")))
        if line.startswith("--")
        else line
        for line in lines
    ]


def test_each_leg_begins_with_the_weights_of_the_one_before_and_goes_on_when_called_again(start, tmp_path):
    (tmp_path / "results" / "mnist_mot_64" / "1").mkdir(parents=True)  # ended before it had saved anything
    assert start("--seed=3").wait() == 0
    assert calls(tmp_path) == [
        "--run_name=mnist_mot_64 --init_from=",
        "--run_name=mnist_mot_96 --init_from=results/mnist_mot_64/2",
        "--run_name=mnist_mot_128 --init_from=results/mnist_mot_96/2",
    ]
    assert start("--seed=3").wait() == 0
    assert calls(tmp_path) == [f"--run_name=mnist_mot_{side} --resume" for side in (64, 96, 128)]
    assert start("--results_dir=other").wait() == 0
    assert calls(tmp_path)[1] == "--run_name=mnist_mot_96 --init_from=other/mnist_mot_64/2"
    for flag in ("--test_run", "--test_run=True", "--test_run=1"):
        assert start(flag).wait() == 0
        assert calls(tmp_path) == [f"--run_name=mnist_mot_{side} --init_from=" for side in (64, 96, 128)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_training_save_and_ends_all_of_it(start, tmp_path, number):
    process = start(cut="96")
    end = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    # As Ctrl-C on a terminal does, to all of the script's own process group.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    assert process.wait(30) == 143
    assert calls(tmp_path)[2:] == ["saving", "saved"]


@pytest.mark.parametrize("flags", [("--run_name=x",), ("--run_name", "x"), ("--results_dir", "x")])
def test_flags_of_the_legs_own_are_refused(start, tmp_path, flags):
    process = start(*flags)
    assert process.wait() == 2 and calls(tmp_path) == []
    sentence = process.stderr.read()
    assert sentence.startswith(f"`{flags[0]}` is refused: ") and sentence.count("\n") == 1
