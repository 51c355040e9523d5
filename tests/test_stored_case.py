# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a stored case: what it holds, and each mistake refused in one sentence."""

import os

import numpy as np
import pytest
import reference_cases
from case_files import CaseFiles

from sqair.errors import UserError
from sqair.verification.stored_case import load_case, parse_scale_prior

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "small.npz")
FLAGS = dict(reference_cases.DEFAULT_FLAGS, n_steps_per_image=1, T=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A case of one slot and one frame; its numbers do not matter here."""
    path = str(tmp_path_factory.mktemp("source") / "small.npz")
    reference_cases.make_case(path, FLAGS, seed=7)
    return path


@pytest.fixture
def case(tmp_path, source):
    return CaseFiles(tmp_path, source)


def test_the_golden_case_is_read():
    case = load_case(GOLDEN)
    assert (case.k_particles, case.estimator, case.l2) == (3, "reference", 0.0)
    assert case.flags["output_std"] == 0.3 and case.flags["scale_prior"] == (-2, -2)
    assert case.flags["prop_prior_type"] == "rnn" and case.flags["masked_glimpse"] is True
    assert "k_particles" not in case.flags and "train_path" not in case.flags
    with np.load(GOLDEN) as stored:
        assert set(case.arrays) == set(stored.files)
        np.testing.assert_array_equal(case.arrays["input/imgs"], stored["input/imgs"])


def test_estimator_and_decay_are_read_where_they_are_given(case):
    case.change_flags(estimator="vimco", l2=0.25)
    assert load_case(case.path)[-2:] == ("vimco", 0.25)


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
    "unknown core": (flag("transition", "LSTM"), r"transition=LSTM.*VanillaRNN alone"),
    "other core": (flag("time_transition", "VanillaRNN"), r"time_transition=VanillaRNN.*GRU alone"),
    "a size below 1": (flag("n_units", -2), r"can't work: -2 is no size"),
    "a standard deviation below 0": (flag("output_std", -1), r"can't work: -1 is no positive number"),
    "neither true nor false": (flag("masked_glimpse", "no"), r"can't work: no is neither true nor false"),
    "other particles": (flag("k_particles", 2), r"input/eps_what_prop has shape .* k_particles=2"),
    "other slots": (flag("n_steps_per_image", 2), r"has shape"),
    "other appearance size": (flag("n_what", 6), r"has shape"),
    "no images": (drop("input/imgs"), r"case\.npz has no array input/imgs"),
    "no noise": (drop("input/u_presence_disc"), r"case\.npz has no array input/u_presence_disc"),
    "no presence": (drop("output/presence"), r"case\.npz has no array output/presence"),
    "images of other shape": (put("input/imgs", lambda x: x[0]), r"input/imgs has shape"),
    "true counts of other shape": (put("input/nums", lambda x: x[:, :1]), r"input/nums has shape"),
    "noise of other shape": (
        put("input/eps_where_disc", lambda x: x[..., :3]),
        r"input/eps_where_disc has shape",
    ),
    "presence of other shape": (put("output/presence", lambda x: x[:, :1]), r"output/presence has shape"),
}


@pytest.mark.parametrize("name", sorted(BAD_CASES))
def test_bad_cases_are_refused_in_one_sentence(case, name):
    spoil, message = BAD_CASES[name]
    spoil(case)
    with pytest.raises(UserError, match=message) as refused:
        load_case(case.path)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


def test_other_files_are_refused(tmp_path):
    for name in ("case.npy", "case"):
        with pytest.raises(UserError, match=r"case.* is not a case: give the path of a CASE\.npz"):
            load_case(str(tmp_path / name))


@pytest.mark.parametrize(
    "value, expected",
    [("-2", (-2, -2)), (-2.5, (-2.5, -2.5)), ("-2,-1", (-2, -1)), ([-2, -1], (-2, -1)), ("[1, 2]", (1, 2))],
)
def test_scale_prior_takes_one_number_or_two(value, expected):
    assert parse_scale_prior(value) == expected
