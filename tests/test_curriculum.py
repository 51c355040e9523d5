# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from sqair.training import curriculum


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
def test_learning_rate(schedule):
    steps = [0, 1, 399, 400, 999, 1000, 1001, 1999, 2000, 10**7]
    found = over_steps(lambda step: curriculum.learning_rate(step, 1e-5, schedule, 2000), steps)
    np.testing.assert_allclose(found, rates_oracle(steps, 1e-5, schedule, 2000), rtol=1e-6)


def test_the_default_schedule_divides_at_a_fifth_and_at_half():
    assert curriculum.schedule_ends((4, 6, 10), 2000000) == [400000, 1000000]
    found = over_steps(lambda step: curriculum.learning_rate(step, 9.0, (4, 6, 10), 20), [0, 3, 4, 9, 10, 19])
    assert found == [9, 9, 3, 3, 1, 1]
