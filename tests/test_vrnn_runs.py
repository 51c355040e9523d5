# SPDX-License-Identifier: GPL-3.0-or-later
"""VRNNs through the scripts: trained, resumed, evaluated by both bounds."""

import json
import os

import numpy as np
import pytest
import stub_data_set
from script_run import run_script

from sqair.training import checkpoints
from sqair.training.reporting import read_metrics

TINY = (
    "--hidden_size=8",
    "--n_layers=1",
    "--n_latent=3",
    "--batch_size=4",
    "--k_particles=3",
    "--num_threads=1",
)
TINY += (
    "--report_loss_every=1",
    "--log_itr=2",
    "--fig_itr=4",
    "--learning_rate=1e-3",
    "--seq_len=3",
    "--stage_itr=2",
)


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains a tiny one; its folder."""
    root = str(tmp_path_factory.mktemp("vrnn"))
    data_dir = stub_data_set.script_set(os.path.join(root, "set"), num_train=12)

    def train(name, *flags):
        places = (f"--data_dir={data_dir}", f"--results_dir={root}", f"--run_name={name}")
        status, _, errors = run_script("train.py", *places, *TINY, *flags)
        assert (status, errors) == (0, "")
        return os.path.join(root, name, "1")

    return train


def weights(folder):
    return checkpoints.of_run_or_path(folder).values


def assert_same(a, b):
    assert set(a) == set(b)
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_run_that_is_resumed_is_the_one_that_was_not_interrupted(train, kind):
    flags = (f"--model_config={kind}_vrnn_model.py", "--opt=adam", "--average=0.9", "--schedule=1")
    whole, part = (
        train(f"{kind}_whole", *flags, "--train_itr=4"),
        train(f"{kind}_part", *flags, "--train_itr=2"),
    )
    status, _, errors = run_script("train.py", "--resume", f"--resume_run={part}", "--train_itr=4")
    assert (status, errors) == (0, "")
    assert_same(weights(whole), weights(part))
    rows = {
        (row["step"], row["source"]): row["normalised_iwae"] for row in read_metrics(f"{whole}/metrics.csv")
    }
    again = {
        (row["step"], row["source"]): row["normalised_iwae"] for row in read_metrics(f"{part}/metrics.csv")
    }
    assert rows == again and (4, "valid") in rows
    assert os.path.exists(f"{whole}/figures/tracking-4.png")


@pytest.mark.slow
def test_the_estimator_of_discrete_choices_has_no_effect(train):
    flags = ("--model_config=mlp_vrnn_model.py", "--train_itr=2", "--log_itr=0", "--fig_itr=0")
    assert_same(weights(train("a", *flags)), weights(train("b", *flags, "--estimator=vimco")))


@pytest.mark.slow
def test_it_is_evaluated_by_both_bounds_and_fivo_not_in_parts(train):
    folder = train(
        "evaluated", "--model_config=mlp_vrnn_model.py", "--train_itr=1", "--log_itr=0", "--fig_itr=0"
    )
    evaluate = ("evaluate.py", f"--run={folder}", "--json", "--k_particles=4")
    status, output, errors = run_script(*evaluate, "--particles_at_once=2")
    assert (status, output) == (2, "")
    assert errors == (
        "--particles_at_once=2 is refused: this model resamples its particles, so that they must be in memory together;"
        " set it to 4.\n"
    )
    found = {}
    for bound, at_once in (("fivo", 4), ("iwae", 4), ("iwae", 2)):
        status, output, errors = run_script(*evaluate, f"--bound={bound}", f"--particles_at_once={at_once}")
        assert (status, errors) == (0, "")
        (entry,) = json.loads(output)
        assert entry["bound"] == bound and "num_steps" not in entry["estimates"] and entry["objects"] is None
        found[bound] = entry["estimates"]["normalised_iwae"]["mean"]
    assert np.isfinite(list(found.values())).all()
    with open(os.path.join(folder, "evaluation.json")) as file:
        assert len(json.load(file)["evaluations"]) == 2
