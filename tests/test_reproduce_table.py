# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from script_run import SCRIPTS, run_script

SYSTEMS = "mlp_sqair,mlp_vrnn"


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_test_run_goes_through_all_of_it_also_when_it_was_cut(tmp_path):
    flags = ("--test_run", f"--systems={SYSTEMS}", f"--results_dir={tmp_path / 'table'}", "--num_threads=1")
    flags += (f"--out={tmp_path / 'page.md'}",)
    times = tmp_path / "table" / "mlp_sqair" / "1" / "times.csv"
    process = subprocess.Popen(
        [sys.executable, os.path.join(SCRIPTS, "reproduce_table.py"), *flags],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: times.exists() and times.read_text().count("\n") > 2)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "Interrupted; what is known is kept, and the same command goes on.\n"
    log = (tmp_path / "table" / "mlp_sqair" / "log.txt").read_text()
    assert "Stopped by SIGTERM" in log

    status, output, errors = run_script("reproduce_table.py", *flags)
    assert (status, errors) == (0, "") and "mlp_vrnn: evaluating, K = 4" in output
    page = (tmp_path / "page.md").read_text()
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in page.split("##")[0].splitlines()
        if "| " in line
    }
    assert all(cell.strip() for cell in rows["MLP-SQAIR"])
    there = [bool(cell.strip()) for cell in rows["MLP-VRNN"]]
    assert there == [True] * 4 + [False] + [True] * 2 + [False, True]  # neither an ELBO nor objects to count
    assert "![Addition by labels](page_addition.png)" in page
    outcomes = [
        line.split("|")[-2] for line in page.splitlines() if line.startswith("| MLP-SQAIR | MLP-VRNN |")
    ]
    assert len(outcomes) == 1 and ("yes" in outcomes[0] or "no" in outcomes[0])
    for name in SYSTEMS.split(","):
        with open(str(tmp_path / "table" / name / "1" / "flags.json")) as file:
            used = json.load(file)
        assert used["train_itr"] < 10**8 and used["decay_from"] < used["train_itr"]
        assert not (tmp_path / "table" / name / "2").exists()

    before = (tmp_path / "page.md").read_bytes()
    log = (tmp_path / "table" / "mlp_sqair" / "log.txt").read_text()
    assert run_script("reproduce_table.py", *flags)[0] == 0
    assert (tmp_path / "page.md").read_bytes() == before
    again = (tmp_path / "table" / "mlp_sqair" / "log.txt").read_text()[len(log) :]
    assert "Training" not in again and "Resuming" not in again

    assert (
        run_script("reproduce_table.py", *flags, "--systems=mlp_vrnn")[0] == 0
    )  # keeps what is known of others
    after = (tmp_path / "page.md").read_bytes()
    assert after != before and after.replace(b"--systems=mlp_vrnn", f"--systems={SYSTEMS}".encode()) == before


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_trained(tmp_path):
    (tmp_path / "file").write_text("")
    flags = ("--test_run", "--systems=mlp_air", f"--out={tmp_path / 'file' / 'page.md'}")
    status, output, errors = run_script("reproduce_table.py", *flags, cwd=str(tmp_path))
    assert status == 2 and output == "" and errors.startswith(f"{tmp_path / 'file'} cannot be written")
    assert not (tmp_path / "results" / "table_test_run" / "mlp_air").exists()


def test_a_test_run_is_apart_from_what_is_real(tmp_path):
    status, _, errors = run_script("reproduce_table.py", "--test_run", "--systems=x", cwd=str(tmp_path))
    assert status == 2 and errors.startswith("--systems=x is refused")
    assert os.listdir(str(tmp_path)) == ["results"]
    assert os.listdir(str(tmp_path / "results")) == ["table_test_run"]


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--systems=mlp_rnn"], "--systems=mlp_rnn is refused: it takes some of mlp_sqair, "),
        (["--systems=all,mlp_air"], "--systems=all,mlp_air is refused: it takes some of "),
        (["--systems="], "--systems= is refused"),
        (["--hours=0"], "--hours=0.0 is refused: it must be above 0."),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(flags, sentence, tmp_path):
    status, output, errors = run_script("reproduce_table.py", *flags, cwd=str(tmp_path))
    assert status == 2 and output == "" and errors.startswith(sentence) and errors.count("\n") == 1
    assert os.listdir(str(tmp_path)) == []
