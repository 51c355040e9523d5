# SPDX-License-Identifier: GPL-3.0-or-later
import json
import math
import os

import numpy as np
import pytest

from sqair.errors import UserError
from sqair.training import checkpoints, settings
from sqair.verification import training_legs
from sqair.verification.training_legs import OPEN_END, Leg, State, next_leg, speed, state_of


def state(step=100, seconds=10.0, train_itr=OPEN_END, rate=2.0):
    return State("run/1", step, seconds, rate, train_itr)


def test_a_new_training_runs_for_two_thirds_of_its_time_at_a_constant_rate():
    leg = next_leg(None, hours=3.0)
    assert leg.resume is None and leg.until_seconds == pytest.approx(2 * 3600)
    assert (leg.flags["seq_len"], leg.flags["stage_itr"], leg.flags["opt"]) == (3, 1500, "adam")
    asked = settings.Settings(**leg.flags)
    settings.check(asked)  # the cosine begins beyond whatever time allows
    assert asked.decay_from > 10**7


def test_less_time_has_a_faster_curriculum_and_none_has_all_frames():
    assert next_leg(None, hours=0.5).flags["stage_itr"] == 375
    assert next_leg(None, hours=1e-4).flags["stage_itr"] == 1
    flags = next_leg(None, hours=1.0, stage_itr=0).flags
    assert (flags["seq_len"], flags["stage_itr"]) == (0, 0)


def test_what_was_cut_in_the_first_leg_goes_on_with_it():
    assert next_leg(state(seconds=7199.0), hours=3.0) == Leg("run/1", {}, pytest.approx(7200.0))


def test_then_the_rate_falls_in_as_many_updates_as_time_allows():
    leg = next_leg(state(step=5000, seconds=7300.0, rate=2.5), hours=3.0)
    assert leg == Leg("run/1", dict(train_itr=5000 + 2.5 * 3500, decay_from=5000), math.inf)
    late = next_leg(state(step=5000, seconds=99999.0), hours=3.0)
    assert late.flags["train_itr"] == 5001


def test_the_second_leg_goes_on_to_its_end_and_no_further():
    assert next_leg(state(step=80, train_itr=90), hours=3.0) == Leg("run/1", {}, math.inf)
    assert next_leg(state(step=90, seconds=3 * 3600 * 0.9, train_itr=90), hours=3.0) is None


def test_with_more_hours_what_was_complete_goes_on_at_a_high_rate_and_falls_again():
    complete = state(step=90, seconds=3600.0, train_itr=90)
    open_end = dict(train_itr=OPEN_END, decay_from=OPEN_END - 1)
    assert next_leg(complete, hours=3.0) == Leg("run/1", open_end, pytest.approx(7200.0))
    settings.check(settings.Settings(**dict(training_legs.FAST, **open_end)))
    short = next_leg(complete, hours=1.4)  # beyond its two thirds already
    assert short == Leg("run/1", dict(train_itr=90 + 1440 * 2, decay_from=90), math.inf)


@pytest.mark.parametrize(
    "rows, wanted",
    [
        ([], 0.0),
        ([(0, 0.0)], 0.0),
        ([(0, 0.0), (10, 5.0)], 2.0),
        ([(0, 0.0), (10, 1.0), (20, 5.0), (30, 10.0)], 10 / 5.0),  # the later half: from 5 s on
        ([(5, math.nan), (10, math.nan)], 0.0),
    ],
)
def test_speed_is_that_of_the_later_half(rows, wanted):
    assert speed(rows) == wanted


def test_a_run_is_as_far_as_its_last_checkpoint(tmp_path):
    folder = tmp_path / "mlp_air" / "1"
    assert state_of(str(tmp_path), "mlp_air") is None
    os.makedirs(str(folder / "checkpoints"))
    (folder / "flags.json").write_text(json.dumps({"train_itr": OPEN_END}))
    assert state_of(str(tmp_path), "mlp_air") is None  # it was ended before it had saved anything
    checkpoints.write(str(folder / "checkpoints" / "model-20"), {"weight": np.ones(2, np.float32)})
    (folder / "times.csv").write_text("step,seconds\n0,0\n10,2\n20,8\n25,11\n")
    found = state_of(str(tmp_path), "mlp_air")
    assert found == State(str(folder), 20, 8.0, 10 / 6.0, OPEN_END)


@pytest.mark.parametrize("rows", [None, "20,nan\n", "30,5.0\n"])
def test_a_run_that_does_not_know_its_time_cannot_go_on_by_the_clock(tmp_path, rows):
    folder = tmp_path / "mlp_air" / "1"
    os.makedirs(str(folder / "checkpoints"))
    (folder / "flags.json").write_text(json.dumps({"train_itr": OPEN_END}))
    checkpoints.write(str(folder / "checkpoints" / "model-20"), {"weight": np.ones(2, np.float32)})
    if rows is not None:
        (folder / "times.csv").write_text("step,seconds\n" + rows)
    with pytest.raises(UserError, match="times.csv does not say how long"):
        state_of(str(tmp_path), "mlp_air")


def test_the_recipe_is_that_of_the_script():
    path = os.path.join(
        os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scripts", "train_fast.sh"
    )
    with open(path) as file:
        words = file.read().replace("\\\n", " ").split()
    given = dict(word[2:].split("=") for word in words if word.startswith("--") and "=" in word)
    for name in ("batch_size", "opt", "learning_rate", "decay", "clip_norm", "estimator", "average"):
        value = training_legs.FAST[name]
        assert type(value)(given[name]) == value, name
    assert int(given["stage_itr"]) == training_legs.STAGE_ITR
