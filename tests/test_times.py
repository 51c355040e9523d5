# SPDX-License-Identifier: GPL-3.0-or-later
import math

import pytest

from sqair.errors import UserError
from sqair.training.times import Times, read


class Clock:
    """A clock that goes when told."""

    now = 1000.0

    def __call__(self):
        return self.now


def test_seconds_add_up_over_sessions_and_what_was_lost_does_not_count(tmp_path):
    path, clock = str(tmp_path / "times.csv"), Clock()
    times = Times(path, clock=clock)
    for step, now in ((0, 1000), (10, 1005), (10, 1006), (20, 1012)):
        clock.now = now
        times.note(step)
    assert read(path) == [(0, 0), (10, 5), (20, 12)]
    clock.now = 5000
    times = Times(path, last_step=10, clock=clock)  # the last checkpoint was of update 10
    assert read(path) == [(0, 0), (10, 5)]
    clock.now = 5003
    times.note(10)
    times.note(15)
    times.sync()
    assert read(path) == [(0, 0), (10, 5), (15, 8)]


def test_a_row_that_was_cut_is_left_out_and_a_damaged_one_named(tmp_path):
    path = tmp_path / "times.csv"
    assert read(str(path)) == []
    path.write_text("step,seconds\n5,2.5\n6,3")
    assert read(str(path)) == [(5, 2.5)]
    path.write_text("step,seconds\n5,2.5\nx\n")
    with pytest.raises(UserError, match="times.csv cannot be read"):
        read(str(path))


def test_what_a_run_did_not_note_stays_unknown(tmp_path):
    path = str(tmp_path / "times.csv")
    times = Times(path, last_step=100)
    times.note(200)
    (first, before), (second, after) = read(path)
    assert (first, second) == (100, 200) and math.isnan(before) and math.isnan(after)


def test_a_run_that_was_resumed_at_its_start_begins_at_nothing(tmp_path):
    path, clock = str(tmp_path / "times.csv"), Clock()
    times = Times(path, last_step=0, clock=clock)
    clock.now += 3
    times.note(1)
    assert read(path) == [(1, 3.0)]
