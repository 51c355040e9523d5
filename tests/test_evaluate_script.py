# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os

import pytest
import stub_data_set
from script_run import STUB_MODEL, run_script


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of four updates with checkpoints after each, and its data."""
    root = tmp_path_factory.mktemp("evaluate")
    stub_data_set.script_set(str(root / "set"), num_train=8)
    flags = (
        "--train_itr=4",
        "--save_itr=1",
        "--log_itr=0",
        "--fig_itr=0",
        "--batch_size=4",
        "--k_particles=2",
    )
    places = (f"--data_dir={root / 'set'}", f"--results_dir={root}", "--report_loss_every=1")
    assert run_script("train.py", STUB_MODEL, *flags, *places)[0] == 0
    return str(root / "multi_mnist" / "1")


@pytest.mark.slow
def test_every_second_checkpoint_is_evaluated_once(run_folder, tmp_path):
    output = os.path.join(str(tmp_path), "to", "be made")
    flags = (f"--run={run_folder}", STUB_MODEL, "--every=2", "--k_particles=4", "--particles_at_once=2")
    flags += (f"--output={output}",)
    status, printed, errors = run_script("evaluate.py", *flags)
    assert (status, errors) == (0, "")
    for step in (2, 4):
        assert f"model-{step} after {step} updates: 6 valid sequences of 4 frames, K = 4" in printed
    assert "model-3" not in printed
    path = os.path.join(output, "evaluation.json")
    with open(path) as file:
        stored = json.load(file)["evaluations"]
    assert [entry["step"] for entry in stored] == [2, 4]
    before = os.stat(path)
    status, again, _ = run_script("evaluate.py", *flags, "--json")
    assert status == 0 and json.loads(again) == stored and os.stat(path).st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--num_sequences=7"], "--num_sequences=7 is refused: the valid data has 6."),
        (["--seq_len=9"], "--seq_len=9 is refused: the valid data has 4."),
        (["--every=1", "--checkpoint=x"], "--checkpoint and --every exclude each other"),
        (["--checkpoint=nowhere"], "Checkpoint nowhere is incomplete"),
        (["--run=3"], "There is no run '3'"),
        (
            ["--output=/dev/null/evaluations", "--num_sequences=1"],
            "/dev/null/evaluations cannot be written: Not a directory",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run_folder, flags, sentence):
    status, output, errors = run_script("evaluate.py", f"--run={run_folder}", STUB_MODEL, *flags)
    assert status == 2 and output == "" and errors.startswith(sentence) and errors.count("\n") == 1
