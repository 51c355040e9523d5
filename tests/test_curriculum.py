# SPDX-License-Identifier: GPL-3.0-or-later
import os
import re

import numpy as np
import pytest
from script_run import SCRIPTS

from sqair.graph_mode import tf
from sqair.training import curriculum
from sqair.training.settings import Settings


def lengths_oracle(steps, seq_len, stage_itr, data_seq_len):
    result = []
    for step in steps:
        length = seq_len or data_seq_len
        if stage_itr:
            length += step // stage_itr
        result.append(min(length, data_seq_len))
    return result


def rates_oracle(steps, base, schedule, train_itr):
    result = []
    for step in steps:
        rate, end = base, 0.0
        for part in schedule[:-1]:
            end += part / sum(schedule) * train_itr
            if step >= round(end):
                rate /= 3
        result.append(rate)
    return result


def over_steps(function, steps):
    with tf.Graph().as_default(), tf.Session() as session:
        step = tf.placeholder(tf.int64, [])
        value = function(step)
        return [session.run(value, {step: s}) for s in steps]


@pytest.mark.parametrize("seq_len, stage_itr", [(3, 100), (3, 0), (0, 100), (0, 0), (10, 5), (12, 5), (1, 1)])
def test_sequence_length(seq_len, stage_itr):
    steps = [0, 1, 4, 5, 99, 100, 101, 699, 700, 5000, 2**40]
    found = over_steps(lambda step: curriculum.sequence_length(step, seq_len, stage_itr, 10), steps)
    assert found == lengths_oracle(steps, seq_len, stage_itr, 10)


@pytest.mark.parametrize("schedule", [(4, 6, 10), (1,), (), (1, 1), (0.5, 3, 2, 1)])
def test_learning_rate_by_steps(schedule):
    steps = [0, 1, 399, 400, 999, 1000, 1001, 1999, 2000, 10**7]
    found = over_steps(lambda step: curriculum.by_steps(step, 1e-5, schedule, 2000), steps)
    np.testing.assert_allclose(found, rates_oracle(steps, 1e-5, schedule, 2000), rtol=1e-6)


def test_the_default_schedule_divides_at_a_fifth_and_at_half():
    assert curriculum.schedule_ends((4, 6, 10), 2000000) == [400000, 1000000]
    found = over_steps(lambda step: curriculum.by_steps(step, 9.0, (4, 6, 10), 20), [0, 3, 4, 9, 10, 19])
    assert found == [9, 9, 3, 3, 1, 1]


def test_a_cosine_stays_falls_and_ends_at_a_hundredth():
    steps = [0, 99, 100, 150, 200, 250, 300, 10**7]
    found = over_steps(lambda step: curriculum.cosine(step, 2.0, 100, 300), steps)
    falling = [0.5 * (1 + np.cos(np.pi * share)) for share in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1)]
    np.testing.assert_allclose(found, [2 * (0.01 + 0.99 * part) for part in falling], rtol=1e-5)
    assert found[0] == found[2] == 2.0


@pytest.mark.parametrize("decay, at_300", [("steps", 1 / 3), ("cosine", 0.505)])
def test_the_rate_rises_first_and_falls_as_asked(decay, at_300):
    asked = Settings(learning_rate=1.0, warmup_itr=4, schedule=(1, 2), train_itr=600, decay=decay)
    found = over_steps(lambda step: curriculum.learning_rate(step, asked), [0, 1, 3, 300])
    np.testing.assert_allclose(found, [0.25, 0.5, 1, at_300], rtol=1e-3)
    original = over_steps(lambda step: curriculum.learning_rate(step, Settings()), [0, 10**6])
    np.testing.assert_allclose(original, [1e-5, 1e-5 / 9])


def test_the_fast_recipe_shows_all_frames_before_the_rate_falls():
    with open(os.path.join(SCRIPTS, "train_fast.sh")) as file:
        found = dict(re.findall(r"--(stage_itr|decay_from)=(\d+)", file.read()))
    (length,) = over_steps(
        lambda step: curriculum.sequence_length(step, Settings().seq_len, int(found["stage_itr"]), 10),
        [int(found["decay_from"])],
    )
    assert length == 10
