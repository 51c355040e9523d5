# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion of objects: almost constant acceleration between reflecting bounds, all objects at once."""

from typing import NamedTuple

import numpy as np


class Motion(NamedTuple):
    """What governs the motion; speeds and accelerations hold for each axis on its own."""

    max_speed: float = 10.0  # pixels per frame; velocity is drawn from and clipped to +- this
    max_acceleration: float = 3.0  # pixels per frame squared, likewise
    acceleration_noise: float = 0.01  # standard deviation of what is added to the acceleration per frame


class Kinematics(NamedTuple):
    """State of the top-left corners, each `[..., 2]` float64 as (y, x)."""

    position: np.ndarray  # pixels
    velocity: np.ndarray  # pixels per frame
    acceleration: np.ndarray  # pixels per frame squared


def draw(rng, start, bounds, seq_len, motion):
    """Draws trajectories.

    Velocity and acceleration are uniform. They are stepped once from a throw-away position, where a
    reflection may flip them, before the motion sets out from `start`.

    Args:
        rng: `np.random.Generator`.
        start: `[..., 2]` positions (y, x) at t = 0 in pixels.
        bounds: the largest (y, x) of a position; the smallest is 0.
        seq_len: number of frames, at least 1.
        motion: `Motion`.

    Returns:
        `[seq_len, ..., 2]` float64 positions in pixels, within 0 and `bounds`.
    """
    bounds = np.asarray(bounds, np.float64)
    state = Kinematics(
        position=rng.uniform(0.0, 1.0, start.shape) * bounds,
        velocity=rng.uniform(-1.0, 1.0, start.shape) * motion.max_speed,
        acceleration=rng.uniform(-1.0, 1.0, start.shape) * motion.max_acceleration,
    )
    noise = rng.standard_normal((seq_len,) + start.shape) * motion.acceleration_noise
    state = step(state, noise[0], bounds, motion)._replace(position=np.asarray(start, np.float64))
    positions = [state.position]
    for frame_noise in noise[1:]:
        state = step(state, frame_noise, bounds, motion)
        positions.append(state.position)
    return np.stack(positions)


def step(state, noise, bounds, motion):
    """Moves by one frame: `position += velocity; velocity += acceleration; acceleration += noise`.

    Where the position passes a bound it is reflected there, and velocity and acceleration on that axis change
    sign. What is still out of range is clipped.

    Args:
        state: `Kinematics`.
        noise: `[..., 2]` pixels per frame squared.
        bounds: `[2]` the largest (y, x) of a position.
        motion: `Motion`.

    Returns:
        `Kinematics`.
    """
    position = state.position + state.velocity
    velocity = state.velocity + state.acceleration
    acceleration = state.acceleration + noise

    below, above = position < 0.0, position > bounds
    sign = np.where(below | above, -1.0, 1.0)
    position = np.where(below, -position, np.where(above, 2.0 * bounds - position, position))
    return Kinematics(
        position=np.clip(position, 0.0, bounds),
        velocity=np.clip(sign * velocity, -motion.max_speed, motion.max_speed),
        acceleration=np.clip(sign * acceleration, -motion.max_acceleration, motion.max_acceleration),
    )
