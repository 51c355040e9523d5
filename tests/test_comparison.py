# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification: what passes, what fails, what is refused; the script's exit status and last line."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import reference_cases

from sqair.errors import UserError
from sqair.verification import comparison as verification
from sqair.verification.stored_case import load_case, parse_scale_prior

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCRIPT = os.path.join(ROOT, "scripts", "verify_reference.py")
GOLDEN = os.path.join(ROOT, "tests", "golden", "small.npz")
QUICK = ["one_slot", "one_frame", "two_slots", "all_options", "guided_one_frame"]
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


class Case:
    """A case in a folder of its own, to be tampered with."""

    def __init__(self, folder, source):
        self.path, self.flags_path = str(folder / "case.npz"), str(folder / "case.flags.json")
        shutil.copy(source, self.path)
        shutil.copy(source[: -len(".npz")] + ".flags.json", self.flags_path)

    def change(self, **arrays):
        """Sets arrays (None removes one); `__` in a name stands for `/`."""
        with np.load(self.path) as stored:
            everything = dict(stored)
        for name, value in arrays.items():
            name = name.replace("__", "/")
            if value is None:
                del everything[name]
            else:
                everything[name] = value(everything[name]) if callable(value) else value
        np.savez(self.path, **everything)

    def change_flags(self, **changes):
        with open(self.flags_path) as file:
            flags = json.load(file)
        for name, value in changes.items():
            if value is None:
                del flags[name]
            else:
                flags[name] = value
        with open(self.flags_path, "w") as file:
            json.dump(flags, file)

    def verify(self):
        return verification.verify(load_case(self.path))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small case, of one slot and one frame."""
    path = str(tmp_path_factory.mktemp("source") / "small.npz")
    reference_cases.make_case(path, **reference_cases.case(7, n_steps_per_image=1, T=1, output_std=0.45))
    return path


@pytest.fixture
def case(tmp_path, source):
    return Case(tmp_path, source)


@pytest.fixture
def run_once(monkeypatch, source):
    """The model of `source` runs once for all tests that change only what it is compared with."""
    if not hasattr(run_once, "results"):
        run_once.results = verification.run(load_case(source))
    monkeypatch.setattr(verification, "run", lambda case, compact: run_once.results)


def failures(comparisons):
    return [one.name for one in comparisons if not one.passed]


# What passes


@pytest.mark.parametrize("options", [[], ["--nocompact"]], ids=["compact", "dense"])
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


def check_generated(name, folder):
    path = str(folder / (name + ".npz"))
    reference_cases.make_case(path, **reference_cases.CASES[name])
    for compact in (True, False):
        comparisons = verification.verify(load_case(path), compact)
        assert not failures(comparisons)
        assert len(comparisons) > 120


@pytest.mark.parametrize("name", QUICK)
def test_generated_cases_pass(name, tmp_path):
    check_generated(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in reference_cases.CASES if name not in QUICK])
def test_all_other_generated_cases_pass(name, tmp_path):
    check_generated(name, tmp_path)


# What fails


def spoil(value):
    """The largest entry off by the least that the tolerance does not allow."""
    value = value.copy()
    index = np.argmax(np.abs(value)) if value.ndim else ()
    value[np.unravel_index(index, value.shape) if value.ndim else ()] *= 1 + 3.2e-4
    return value


def first_present(value, presence):
    """`value` with an entry of a present object made not-a-number."""
    value = value.copy()
    value[tuple(np.argwhere(presence == 1)[0])] = np.nan
    return value


@pytest.mark.parametrize(
    "name", ["canvas", "what", "where_scale", "disc_prob", "target", "log_weights", "data_ll_per_sample"]
)
def test_a_wrong_output_fails(case, run_once, name):
    assert not failures(case.verify())
    case.change(**{"output__" + name: spoil})
    assert failures(case.verify()) == [name]


def test_absent_objects_are_not_compared(case, run_once):
    with np.load(case.path) as stored:
        presence = stored["output/presence"]
    assert np.any(presence == 0)
    absent = (presence == 0)[..., None]
    case.change(
        output__what=lambda x: np.where(absent, np.float32(np.nan), x),
        output__where_loc=lambda x: x + 7 * absent,
    )
    assert not failures(case.verify())
    case.change(output__what=lambda x: first_present(x, presence))
    assert failures(case.verify()) == ["what"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_fails(case, run_once, value):
    case.change(output__log_weights=lambda x: x * value, output__elbo_vae=lambda x: x * value)
    assert failures(case.verify()) == ["elbo_vae", "log_weights"]


@pytest.mark.parametrize("name", ["discovery/vanilla_rnn/in_to_hidden/w", "propagation/gru_1/bz"])
def test_a_wrong_gradient_fails(case, run_once, name):
    case.change(**{"grad/" + name: lambda x: x * 1.0025})
    wrong = failures(case.verify())
    with np.load(case.path) as stored:
        norms = [np.linalg.norm(stored[key]) for key in stored.files if key.startswith("grad/")]
        small = np.linalg.norm(stored["grad/" + name]) < 1e-3 * np.linalg.norm(norms)
    assert wrong == ([] if small else [name])
    case.change(**{"grad/" + name: lambda x: x + 1e-2 * np.linalg.norm(norms)})
    assert failures(case.verify()) == [name]


def test_a_gradient_that_is_not_a_number_fails_alone(case, run_once):
    name = "discovery/vanilla_rnn/in_to_hidden/b"
    case.change(**{"grad/" + name: lambda x: x * np.nan})
    assert failures(case.verify()) == [name]


def test_the_script_exits_with_1_and_names_what_failed(case, tmp_path):
    case.change(output__canvas=spoil, **{"grad/discovery/vanilla_rnn/in_to_hidden/w": lambda x: x * np.nan})
    done = script(case.path)
    assert done.returncode == 1
    assert not done.stderr
    lines = [line for line in done.stdout.splitlines() if "FAILED" in line]
    assert len(lines) == 2
    assert "canvas" in lines[0]
    assert "discovery/vanilla_rnn/in_to_hidden/w" in lines[1]
    assert done.stdout.splitlines()[-1].startswith("failed: 2 of ")
    assert "verified" not in done.stdout


# What is refused


def cut_short(case):
    with open(case.path, "r+b") as file:
        file.truncate(os.path.getsize(case.path) // 2)


def flip_bytes(case):
    with open(case.path, "r+b") as file:
        file.seek(os.path.getsize(case.path) // 2)
        file.write(b"\xff" * 2000)


def replace_by_array(case):
    with open(case.path, "wb") as file:
        np.save(file, np.zeros(3))


def write_case(content):
    def write(case):
        with open(case.path, "wb") as file:
            file.write(content)

    return write


def write_flags(content):
    def write(case):
        with open(case.flags_path, "wb") as file:
            file.write(content)

    return write


def drop(name):
    return lambda case: case.change(**{name: None})


def put(name, value):
    return lambda case: case.change(**{name: value})


def flag(name, value):
    return lambda case: case.change_flags(**{name: value})


PARAM = "param/discovery/vanilla_rnn/in_to_hidden/w"
BAD_CASES = {
    "no case": (lambda case: os.remove(case.path), r"case\.npz does not exist"),
    "no flags": (lambda case: os.remove(case.flags_path), r"case\.flags\.json does not exist"),
    "cut short": (cut_short, r"case\.npz cannot be read"),
    "bytes changed": (flip_bytes, r"case\.npz cannot be read"),
    "an empty file": (write_case(b""), r"case\.npz cannot be read"),
    "an array": (replace_by_array, r"case\.npz cannot be read"),
    "malformed JSON": (write_flags(b'{"T": 3,'), r"case\.flags\.json is not valid JSON"),
    "JSON in another encoding": (write_flags(b'{"T": "\xff"}'), r"case\.flags\.json is not valid JSON"),
    "JSON list": (write_flags(b"[1, 2]"), r"case\.flags\.json must hold one JSON object"),
    "missing flag": (flag("k_particles", None), r"has no flag 'k_particles'"),
    "flag of the wrong type": (flag("n_what", "many"), r"case\.flags\.json.*can't work"),
    "three scales": (flag("scale_prior", "1,2,3"), r"case\.flags\.json.*scale_prior"),
    "unknown prior": (flag("prop_prior_type", "walk"), r"--prop_prior_type=walk"),
    "unknown core": (flag("transition", "LSTM"), r"transition=LSTM.*VanillaRNN alone"),
    "other core": (flag("time_transition", "VanillaRNN"), r"time_transition=VanillaRNN.*GRU alone"),
    "a size below 1": (flag("n_units", -2), r"can't work: -2 is no size"),
    "a deviation below 0": (flag("output_std", -1), r"can't work: -1 is no positive number"),
    "neither true nor false": (flag("masked_glimpse", "no"), r"can't work: no is neither true nor false"),
    "unknown estimator": (flag("estimator", "nvil"), r"--estimator=nvil"),
    "other particles": (flag("k_particles", 2), r"input/eps_what_prop has shape .* k_particles=2"),
    "other slots": (flag("n_steps_per_image", 2), r"has shape"),
    "other appearance size": (flag("n_what", 6), r"has shape"),
    "other units": (flag("n_units", 2), r"param/.* has shape"),
    "no images": (drop("input/imgs"), r"case\.npz has no array input/imgs"),
    "no noise": (drop("input/u_presence_disc"), r"case\.npz has no array input/u_presence_disc"),
    "no presence": (drop("output/presence"), r"case\.npz has no array output/presence"),
    "images of other shape": (put("input/imgs", lambda x: x[0]), r"input/imgs has shape"),
    "true counts of other shape": (put("input/nums", lambda x: x[:, :1]), r"input/nums has shape"),
    "noise of other shape": (
        put("input/eps_where_disc", lambda x: x[..., :3]),
        r"input/eps_where_disc has shape",
    ),
    "parameter of other shape": (put(PARAM, lambda x: x.T), PARAM + " has shape"),
    "parameter missing": (drop(PARAM), r"has no " + PARAM),
    "unknown parameter": (
        put("param/other", np.zeros(3)),
        r"has param/other, unknown",
    ),
    "unknown output": (put("output/other", np.zeros(3)), r"output/other"),
    "output of other shape": (put("output/log_weights", lambda x: x[:1]), r"output/log_weights has shape"),
    "presence of other shape": (put("output/presence", lambda x: x[:, :1]), r"output/presence has shape"),
    "gradient of other shape": (
        put("grad/discovery/vanilla_rnn/in_to_hidden/w", lambda x: x[:1]),
        r"grad/discovery/vanilla_rnn/in_to_hidden/w has shape",
    ),
}


COMPARED = ("unknown output", "output of other shape", "gradient of other shape")


@pytest.mark.parametrize("name", sorted(BAD_CASES))
def test_bad_cases_are_refused_in_one_sentence(case, name, request):
    spoil_it, message = BAD_CASES[name]
    spoil_it(case)
    if name in COMPARED:
        request.getfixturevalue("run_once")
    with pytest.raises(UserError, match=message) as refused:
        case.verify()
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_other_files_are_refused(tmp_path):
    for name in ("case.npy", "case"):
        with pytest.raises(UserError, match=r"case.* is not a case: give the path of a CASE\.npz"):
            load_case(str(tmp_path / name))


def test_the_script_exits_with_2_and_one_sentence(case):
    case.change_flags(k_particles=None)
    done = script(case.path)
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


# Flags


@pytest.mark.parametrize(
    "value, expected",
    [("-2", (-2, -2)), (-2.5, (-2.5, -2.5)), ("-2,-1", (-2, -1)), ([-2, -1], (-2, -1)), ("[1, 2]", (1, 2))],
)
def test_scale_prior_takes_one_number_or_two(value, expected):
    assert parse_scale_prior(value) == expected
