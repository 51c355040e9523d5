# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqair.data import trajectories
from sqair.data.trajectories import Kinematics, Motion


def clip(value, low, high):
    return min(max(value, low), high)


def slow_step(position, velocity, acceleration, noise, bound, motion):
    """One axis of one object."""
    new_position = position + velocity
    new_velocity = velocity + acceleration
    new_acceleration = acceleration + noise
    if new_position < 0:
        new_position, new_velocity, new_acceleration = -new_position, -new_velocity, -new_acceleration
    elif new_position > bound:
        new_position = bound - (new_position - bound)
        new_velocity, new_acceleration = -new_velocity, -new_acceleration
    return (
        clip(new_position, 0, bound),
        clip(new_velocity, -motion.max_speed, motion.max_speed),
        clip(new_acceleration, -motion.max_acceleration, motion.max_acceleration),
    )


def slow_draw(rng, start, bounds, seq_len, motion):
    """`trajectories.draw` for `start [n, m, 2]`, a number at a time, from the same random numbers."""
    throw_away = rng.uniform(0, 1, start.shape)
    velocities = rng.uniform(-1, 1, start.shape)
    accelerations = rng.uniform(-1, 1, start.shape)
    noise = rng.standard_normal((seq_len,) + start.shape)
    positions = np.zeros((seq_len,) + start.shape)
    for index in np.ndindex(*start.shape):
        bound = bounds[index[-1]]
        state = (
            throw_away[index] * bound,
            velocities[index] * motion.max_speed,
            accelerations[index] * motion.max_acceleration,
        )
        for t in range(seq_len):
            state = slow_step(*state, noise[(t, *index)] * motion.acceleration_noise, bound, motion)
            if t == 0:
                state = (start[index],) + state[1:]
            positions[(t, *index)] = state[0]
    return positions


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    num_sequences=st.integers(0, 3),
    num_objects=st.integers(0, 3),
    seq_len=st.integers(1, 12),
    bounds=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    motion=st.builds(Motion, st.floats(0, 100), st.floats(0, 20), st.sampled_from([0.0, 0.01, 5.0])),
)
def test_draw_agrees_with_the_slow_one(seed, num_sequences, num_objects, seq_len, bounds, motion):
    start = np.random.default_rng(seed).uniform(0, 1, (num_sequences, num_objects, 2)) * bounds
    fast = trajectories.draw(np.random.default_rng(seed), start, bounds, seq_len, motion)
    slow = slow_draw(np.random.default_rng(seed), start, bounds, seq_len, motion)
    assert fast.shape == slow.shape
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-9)
    assert (fast >= 0).all() and (fast <= np.array(bounds)).all()
    np.testing.assert_array_equal(fast[0], start)


@pytest.mark.parametrize(
    "position, velocity, acceleration, expected",
    [
        (10, 4, 1, (14, 5, 1)),  # free
        (3, -5, -1, (2, 6, 1)),  # reflected at 0
        (48, 5, 2, (47, -7, -2)),  # reflected at 50
        (46, 4, 1, (50, 5, 1)),  # reaches the bound, does not pass it
        (20, 9, 3, (29, 10, 3)),  # velocity clipped
        (45, 9, 3, (46, -10, -3)),  # reflected, then clipped
    ],
)
def test_step_by_hand(position, velocity, acceleration, expected):
    state = Kinematics(*(np.full(2, value, float) for value in (position, velocity, acceleration)))
    result = trajectories.step(state, np.zeros(2), np.array([50.0, 50.0]), Motion())
    for values, wanted in zip(result, expected):
        np.testing.assert_array_equal(values, [wanted, wanted])


def test_without_speed_and_acceleration_nothing_moves():
    start = np.random.default_rng(0).uniform(0, 40, (5, 2, 2))
    positions = trajectories.draw(np.random.default_rng(1), start, (50, 50), 10, Motion(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(positions, np.broadcast_to(start, positions.shape))


def test_throw_away_step_leaves_speeds_that_are_not_uniform():
    """The first displacement is the velocity after one step, clipped where it exceeds the maximum."""
    start = np.full((4000, 1, 2), 25.0)
    positions = trajectories.draw(np.random.default_rng(2), start, (50, 50), 2, Motion())
    displacement = np.abs(positions[1] - positions[0])
    at_maximum = (displacement == 10.0).mean()
    assert 0.05 < at_maximum < 0.1  # |v + a| >= 10 with v from U[-10, 10] and a from U[-3, 3]: 0.075
