# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from sqair.evaluation.prediction import Prediction

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "demo.py")
HERE, THERE = [12, 12, 18, 18], [35, 35, 10, 10]


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen(boxes, presence, ids):
    """Three frames with a digit at (10, 10) of 20 by 20 pixels, and what is predicted for each."""
    fields = dict.fromkeys(Prediction._fields)
    fields.update(
        images=np.zeros([3, 1, 50, 50, 1]),
        boxes=np.float32(boxes).reshape(3, 1, 1, 4),
        presence=np.float32(presence).reshape(3, 1, 1),
        object_ids=np.float32(ids).reshape(3, 1, 1),
        true_boxes=np.float32([[[[10, 10, 20, 20]]]] * 3),
        true_presence=np.ones([3, 1, 1]),
    )
    return Prediction(**fields)


@pytest.mark.parametrize(
    "boxes, presence, ids, answers",
    [
        ([HERE] * 3, [1, 1, 1], [0, 0, 0], ["yes", "yes", "yes"]),
        ([HERE] * 3, [1, 0, 1], [0, -1, 0], ["NO", "yes", "NO"]),
        ([HERE] * 3, [0, 0, 0], [-1, -1, -1], ["NO", "NO", "NO"]),
        ([HERE] * 3, [1, 1, 1], [0, 0, 1], ["yes", "yes", "NO"]),
        ([HERE, HERE, THERE], [1, 1, 1], [0, 0, 0], ["yes", "NO", "yes"]),
    ],
)
def test_a_model_that_learned_nothing_is_distinguished_from_one_that_did(
    demo, capsys, boxes, presence, ids, answers
):
    assert demo.report(seen(boxes, presence, ids)) == ("NO" not in answers)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == answers


@pytest.mark.slow
def test_a_demo_that_has_not_learned_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--train_itr=3"], cwd=str(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 1 and "  NO   " in done.stdout
    assert done.stderr == "The demo failed: see the checks above that say NO.\n"
    minutes, hours = done.stdout.split("The model that comes along")
    assert "  NO   " in minutes and "  NO   " not in hours
    for name in ("minutes", "hours"):
        assert (tmp_path / "results" / "demo" / "1" / f"demo-{name}.png").stat().st_size > 10_000
