# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os

import pytest
from script_run import STUB_MODEL, run_script

from sqair.data import mnist, moving_mnist


@pytest.mark.slow
def test_a_run_is_classified_once(tmp_path):
    data_dir, run = str(tmp_path / "set"), str(tmp_path / "multi_mnist" / "1")
    options = moving_mnist.Options(canvas_size=(30, 28), digit_scale=0.4, num_digits=(2,), seq_len=2)
    moving_mnist.create(data_dir, mnist.load_bundle(), options, 60, 45, num_workers=1)
    flags = "--train_itr=1 --log_itr=0 --fig_itr=0 --batch_size=4 --k_particles=2".split()
    status = run_script(
        "train.py", STUB_MODEL, *flags, f"--data_dir={data_dir}", f"--results_dir={tmp_path}"
    )[0]
    assert status == 0
    flags = (f"--run={run}", STUB_MODEL, "--labelled=40,all")
    status, printed, errors = run_script("train_addition.py", *flags)
    assert (status, errors) == (0, "")
    assert "model-1: sums of two digits, 45 validation sequences of 2 frames" in printed
    path = os.path.join(run, "addition.json")
    with open(path) as file:
        stored = json.load(file)["additions"]
    assert [entry["labelled"] for entry in stored] == [40, 60]
    assert {"addition.csv", "addition.png"} <= set(os.listdir(run))
    before = os.stat(path).st_mtime_ns
    os.remove(os.path.join(run, "addition.png"))
    status, again, _ = run_script("train_addition.py", *flags, "--json")
    assert "addition.png" in os.listdir(run)
    assert status == 0 and json.loads(again) == stored and os.stat(path).st_mtime_ns == before

    for flag, sentence in (
        ("--labelled=4", "--labelled=4 is refused: it takes `all` and numbers from 40 to 60"),
        ("--labelled=many", "--labelled=many is refused: it takes `all` and numbers"),
        ("--num_sequences=46", "--num_sequences=46 is refused: 45 have 2 digits."),
    ):
        status, output, errors = run_script(
            "train_addition.py", *flags[:2], flag, f"--output={tmp_path / 'new'}"
        )
        assert status == 2 and output == "" and errors.startswith(sentence) and errors.count("\n") == 1
        assert not (tmp_path / "new").exists()
