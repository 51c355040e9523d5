# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison with stored cases: what passes, what fails, what is refused; the script's exit status and last line."""

import os
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import reference_cases
from case_files import CaseFiles

from sqair.errors import UserError
from sqair.verification import comparison
from sqair.verification.replay import Replay
from sqair.verification.stored_case import load_case

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "scripts", "verify_reference.py")
GOLDEN = os.path.join(ROOT, "tests", "golden", "small.npz")
LAST_LINE = re.compile(r"verified: (\d+) outputs, (\d+) gradients, worst (\d\.\d+e[-+]\d+)")


def script(*paths):
    """The script in a process of its own."""
    environment = dict(os.environ, PYTHONPATH=ROOT, CUDA_VISIBLE_DEVICES="")
    return subprocess.run(
        [sys.executable, SCRIPT, *paths],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small case, of one slot and one frame."""
    path = str(tmp_path_factory.mktemp("source") / "small.npz")
    reference_cases.make_case(path, **reference_cases.case(7, n_steps_per_image=1, T=1, output_std=0.45))
    return path


@pytest.fixture(scope="module")
def computed(source):
    """What the model makes of `source`: outputs and gradients."""
    case = load_case(source)
    with Replay(case) as replay:
        return replay.run(case.arrays)


@pytest.fixture
def case(source):
    """The arrays of `source`, to be changed."""
    return load_case(source).arrays


def failures(comparisons):
    return [one.name for one in comparisons if not one.passed]


# What passes


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--nocompact"], marks=pytest.mark.slow)], ids=["compact", "dense"]
)
def test_the_golden_case_passes_in_the_script(options):
    done = script(*options, GOLDEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    *lines, last = done.stdout.splitlines()
    outputs, gradients, worst = LAST_LINE.match(last).groups()
    with np.load(GOLDEN) as stored:
        assert int(outputs) == sum(name.startswith("output/") for name in stored.files) == 54
        assert int(gradients) == sum(name.startswith("grad/") for name in stored.files) == 105
        names = {name.split("/", 1)[1] for name in stored.files if name.startswith(("output/", "grad/"))}
    assert float(worst) < 2e-3
    assert {line.split()[1] for line in lines} == names, "one line for each output and gradient"


QUICK = {
    ("all_options", True),
    ("guided_one_frame", False),
}  # together most of what the golden case does not use
GENERATED = [
    pytest.param(name, compact, marks=[] if (name, compact) in QUICK else [pytest.mark.slow])
    for name in reference_cases.CASES
    for compact in (True, False)
]


@pytest.mark.slow
@pytest.mark.parametrize("name, compact", GENERATED)
def test_generated_cases_pass(name, compact, tmp_path):
    path = str(tmp_path / (name + ".npz"))
    reference_cases.make_case(path, **reference_cases.CASES[name])
    comparisons = comparison.verify(load_case(path), compact)
    assert not failures(comparisons)
    assert len(comparisons) > 120


# What fails


def wrong(arrays, computed):
    """The names of what does not pass."""
    return failures(comparison.compare(arrays, *computed))


def spoil(value, by):
    """The largest entry off by a share of itself."""
    value = np.array(value)
    index = np.unravel_index(np.argmax(np.abs(value)), value.shape)
    value[index] *= 1 + by
    return value


@pytest.mark.parametrize(
    "name", ["what", "where_scale", "disc_prob", "target", "log_weights", "data_ll_per_sample"]
)
def test_a_wrong_output_fails(case, computed, name):
    assert wrong(case, computed) == []
    right = computed[0][name].reshape(case["output/" + name].shape)
    for share, expected in ((0.9, []), (1.1, [name])):
        case["output/" + name] = spoil(right, share * 1e-4)
        assert wrong(case, computed) == expected


CANVAS = np.random.RandomState(0).uniform(size=(2, 3, 50, 50)).astype(np.float32)


def compared(canvas):
    """The comparison of a canvas with `CANVAS`."""
    (one,) = comparison.compare({"output/canvas": CANVAS}, {"canvas": canvas[..., None]}, {})
    return one


def test_a_canvas_with_a_wrong_pixel_fails():
    one = compared(spoil(CANVAS, 1.8e-3))
    assert one.passed and (one.error, one.tolerance) == (pytest.approx(1.8e-3, rel=1e-2), 2e-3)
    assert not compared(spoil(CANVAS, 2.2e-3)).passed


def test_a_canvas_that_is_a_little_wrong_everywhere_fails():
    one = compared(CANVAS * np.float32(1 + 1.8e-4))
    assert one.passed and (one.error, one.tolerance) == (pytest.approx(1.8e-4, rel=1e-2), 2e-4)
    assert not compared(CANVAS * np.float32(1 + 2.2e-4)).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_canvas_with_what_is_not_a_number_fails(value):
    canvas = CANVAS.copy()
    canvas[0, 0, 7, 7] = value
    assert not compared(canvas).passed


def test_absent_objects_are_not_compared(case, computed):
    presence = case["output/presence"]
    assert np.any(presence == 0)
    absent = (presence == 0)[..., None]
    case["output/what"] = np.where(absent, np.float32(np.nan), case["output/what"])
    case["output/where_loc"] = case["output/where_loc"] + 7 * absent
    assert wrong(case, computed) == []
    case["output/what"][tuple(np.argwhere(presence == 1)[0])] = np.nan
    assert wrong(case, computed) == ["what"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_fails(case, computed, value):
    for name in ("log_weights", "elbo_vae"):
        case["output/" + name] = case["output/" + name] * value
    assert wrong(case, computed) == ["elbo_vae", "log_weights"]


@pytest.mark.parametrize("name", ["discovery/vanilla_rnn/in_to_hidden/w", "propagation/gru_1/bz"])
def test_a_wrong_gradient_fails(case, computed, name):
    key = "grad/" + name
    norms = [np.linalg.norm(value) for other, value in case.items() if other.startswith("grad/")]
    small = np.linalg.norm(case[key]) < 1e-3 * np.linalg.norm(norms)
    case[key] = case[key] * np.float32(1.0025)
    assert wrong(case, computed) == ([] if small else [name])
    case[key] = case[key] + np.float32(1e-2 * np.linalg.norm(norms))
    assert wrong(case, computed) == [name]


def test_a_gradient_that_is_not_a_number_or_not_there_fails_alone(case, computed):
    name = "discovery/vanilla_rnn/in_to_hidden/b"
    outputs, gradients = computed
    without = {other: value for other, value in gradients.items() if other != name}
    assert wrong(case, (outputs, without)) == [name]
    case["grad/" + name] = case["grad/" + name] * np.nan
    assert wrong(case, computed) == [name]


def test_the_script_exits_with_1_and_names_what_failed(source, computed, tmp_path, capsys, monkeypatch):
    files = CaseFiles(tmp_path, source)
    files.change(
        output__canvas=lambda x: spoil(x, 2.2e-3),
        **{"grad/discovery/vanilla_rnn/in_to_hidden/w": lambda x: x * np.nan},
    )
    monkeypatch.setattr(Replay, "__init__", lambda self, case, compact: None)
    monkeypatch.setattr(Replay, "__exit__", lambda self, *_: None)
    monkeypatch.setattr(Replay, "run", lambda self, arrays: computed)
    monkeypatch.setattr(sys, "argv", [SCRIPT, files.path])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert end.value.code == 1
    output, errors = capsys.readouterr()
    assert not errors
    lines = [line for line in output.splitlines() if "FAILED" in line]
    assert len(lines) == 2
    assert "canvas" in lines[0]
    assert "discovery/vanilla_rnn/in_to_hidden/w" in lines[1]
    assert output.splitlines()[-1].startswith("failed: 2 of ")
    assert "verified" not in output


# What is refused


@pytest.mark.parametrize(
    "key, value, message",
    [
        (
            "output/other",
            lambda _: np.zeros(3),
            "The case holds output/other, which this model does not have.",
        ),
        (
            "output/log_weights",
            lambda x: x[:1],
            r"output/log_weights has shape \(1, 3\) where the flags give",
        ),
        (
            "grad/discovery/vanilla_rnn/in_to_hidden/w",
            lambda x: x[:1],
            r"grad/discovery/vanilla_rnn/in_to_hidden/w has shape \(1, 32\) instead of",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(case, computed, key, value, message):
    case[key] = value(case.get(key))
    with pytest.raises(UserError, match=message) as refused:
        comparison.compare(case, *computed)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_the_script_exits_with_2_and_one_sentence(source, tmp_path):
    files = CaseFiles(tmp_path, source)
    files.change_flags(k_particles=None)
    done = script(files.path)
    assert done.returncode == 2
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "has no flag 'k_particles'" in done.stderr


def test_the_script_explains_itself(capsys):
    assert runpy.run_path(SCRIPT)["main"](["--help"]) == 0
    assert "usage: python scripts/verify_reference.py [--nocompact] CASE.npz" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--case", GOLDEN]])
def test_the_script_says_what_it_takes(arguments):
    with pytest.raises(UserError, match="Give the paths of stored cases: .*CASE.npz"):
        runpy.run_path(SCRIPT)["main"](arguments)
