# SPDX-License-Identifier: GPL-3.0-or-later
"""What one TensorFlow writes the other reads: data sets, checkpoints to evaluate, runs to go on with."""

import csv
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import stub_data_set

from sqair.training import checkpoints
from sqair.training.reporting import read_metrics

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHONS = {
    1: os.path.join(ROOT, ".venv", "bin", "python"),
    2: os.path.join(ROOT, ".venv-tf2", "bin", "python"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(os.path.exists, PYTHONS.values())), reason="needs `make setup` and `make setup TF=2`"
    ),
]
MODEL = "--n_units=1 --n_what=3 --glimpse_size=5 --seq_len=2 --stage_itr=2 --learning_rate=1e-3 --schedule=1".split()
TRAINING = (
    "--batch_size=4 --k_particles=2 --num_threads=1 --report_loss_every=1 --fig_itr=0 --log_itr=0".split()
)


def run(tensorflow, script, *arguments):
    """Runs a script under TensorFlow 1 or 2: as quietly under the one as under the other."""
    change = {"CUDA_VISIBLE_DEVICES": "", "SQAIR_TF": str(tensorflow)}
    done = subprocess.run(
        [PYTHONS[tensorflow], os.path.join(ROOT, "scripts", script), *arguments],
        env={**os.environ, **change},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return stub_data_set.script_set(str(tmp_path_factory.mktemp("data") / "set"), num_train=30)


@pytest.fixture(scope="module")
def wholes(data_dir, tmp_path_factory):
    """The folder of a run of four updates under each TensorFlow."""
    results = tmp_path_factory.mktemp("wholes")
    return {tensorflow: train(tensorflow, data_dir, str(results / str(tensorflow))) for tensorflow in (1, 2)}


def train(tensorflow, data_dir, results):
    flags = [
        f"--data_dir={data_dir}",
        f"--results_dir={results}",
        "--train_itr=4",
        *MODEL,
        *TRAINING,
    ]
    run(tensorflow, "train.py", *flags)
    return os.path.join(results, "multi_mnist", "1")


def losses(folder):
    return [
        row["loss"] for row in read_metrics(os.path.join(folder, "metrics.csv")) if row["source"] == "batch"
    ]


def weights(folder):
    return checkpoints.latest(os.path.join(folder, "checkpoints")).values


def assert_alike(folder, other):
    """Losses and weights of two runs, apart from how numbers are rounded."""
    np.testing.assert_allclose(losses(folder), losses(other), rtol=1e-4)
    values, others = weights(folder), weights(other)
    assert set(values) == set(others)
    for name in values:
        np.testing.assert_allclose(values[name], others[name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_updates_are_the_same(wholes):
    assert len(losses(wholes[1])) == 4
    assert_alike(wholes[1], wholes[2])


def test_a_run_goes_on_under_the_other(wholes, tmp_path):
    """In both directions: what 1 began and 2 went on with, and what 2 began and 1 went on with, are alike."""
    folders = []
    for first, second in ((1, 2), (2, 1)):
        folder = str(tmp_path / str(first) / "multi_mnist" / "1")
        shutil.copytree(wholes[first], folder)
        resume = ("--resume", f"--results_dir={tmp_path / str(first)}", "--train_itr=7")
        assert "at step 4" in run(second, "train.py", *resume)
        with open(os.path.join(folder, "run.json")) as file:
            versions = [session["versions"]["tensorflow"] for session in json.load(file)["sessions"]]
        assert [int(version[0]) for version in versions] == [first, second]
        assert len(losses(folder)) == 7
        folders.append(folder)
    assert_alike(*folders)


@pytest.mark.parametrize("writer", [1, 2])
def test_a_checkpoint_evaluates_to_the_same_numbers(writer, wholes, tmp_path):
    numbers = {}
    for reader in (1, 2):
        folder = str(tmp_path / str(reader))  # what a run's folder knows is not computed again
        shutil.copytree(wholes[writer], folder)
        run(reader, "evaluate.py", f"--run={folder}")
        with open(os.path.join(folder, "evaluation.csv"), newline="") as file:
            numbers[reader] = list(csv.DictReader(file))
    assert [row.keys() for row in numbers[1]] == [row.keys() for row in numbers[2]]
    for row, other in zip(numbers[1], numbers[2]):
        for name, value in row.items():
            try:
                value, expected = float(other[name]), float(value)
            except ValueError:
                assert value == other[name], name
            else:
                np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-5, err_msg=name)


def test_data_sets_are_the_same_to_the_byte(tmp_path):
    contents = []
    for tensorflow in (1, 2):
        folder = str(tmp_path / str(tensorflow))
        flags = (
            "--bundled_digits",
            f"--data_dir={folder}",
            "--num_train=20",
            "--num_valid=5",
            "--workers=1",
        )
        run(tensorflow, "create_multi_mnist_dataset.py", *flags)
        content = {}
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), "rb") as file:
                content[name] = file.read()
        contents.append(content)
    assert contents[0] == contents[1] != {}
