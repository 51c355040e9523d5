# SPDX-License-Identifier: GPL-3.0-or-later
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from orderedattrdict import AttrDict

from sqair.evaluation.evaluator import Prediction

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "demo.py")


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seen(boxes, presence):
    """One frame with a digit at (10, 10) of 20 by 20 pixels, and what is predicted for it."""
    fields = dict.fromkeys(Prediction._fields)
    fields.update(
        images=np.zeros([1, 1, 50, 50, 1]),
        boxes=np.float32([[boxes]]),
        presence=np.float32([[presence]]),
        true_boxes=np.float32([[[[10, 10, 20, 20]]]]),
        true_presence=np.ones([1, 1, 1]),
    )
    return Prediction(**fields)


@pytest.mark.parametrize(
    "data_ll, num_steps, boxes, answers",
    [
        (460.0, 1.0, [[12, 12, 18, 18]], ["yes", "yes", "yes"]),
        (420.0, 1.0, [[12, 12, 18, 18]], ["NO", "yes", "yes"]),
        (460.0, 0.0, [[12, 12, 18, 18]], ["yes", "NO", "yes"]),
        (460.0, 3.0, [[12, 12, 18, 18]], ["yes", "NO", "yes"]),
        (460.0, 1.0, [[35, 35, 10, 10]], ["yes", "yes", "NO"]),
    ],
)
def test_a_model_that_learned_nothing_is_distinguished_from_one_that_did(
    demo, capsys, data_ll, num_steps, boxes, answers
):
    passed = demo.report(AttrDict(data_ll=data_ll, num_steps=num_steps), seen(boxes, [1]), 400.0)
    assert passed == ("NO" not in answers)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == answers


def test_the_empty_canvas_leaves_every_pixel_to_the_noise(demo):
    images = np.zeros([2, 3, 50, 50, 1])
    best = -2500 * (np.log(0.3) + 0.5 * np.log(2 * np.pi))
    assert demo.empty_log_likelihood(images, 0.3) == pytest.approx(best)
    assert best == pytest.approx(712.6, abs=0.1)
    images[0, 0, 7, 8] = 1
    assert demo.empty_log_likelihood(images, 0.3) == pytest.approx(best - 0.5 / 0.09 / 6)


@pytest.mark.slow
def test_a_demo_that_has_not_learned_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--train_itr=2"], cwd=str(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 1 and "  NO   " in done.stdout
    assert done.stderr == "The demo failed: see the checks above that say NO.\n"
    assert (tmp_path / "results" / "demo" / "1" / "demo.png").stat().st_size > 10_000
