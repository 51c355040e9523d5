# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle of FIVO: a particle filter in loops, float64, that keeps its weights since the last resampling (algorithm 1).

And models to filter: a linear-Gaussian one, whose likelihood the Kalman filter knows, and one of two states.
"""

import numpy as np
from reference_bounds import log_mean_exp

HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)


def effective_sample_size(log_w):
    w = np.exp(log_w - log_w.max())
    return w.sum() ** 2 / (w * w).sum()


def draw(log_w, uniform):
    """The particle whose part of [0, 1), in proportion to its weight, holds the number."""
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    upper = 0.0
    for k, share in enumerate(w):
        upper += share
        if uniform < upper:
            return k
    return int(np.flatnonzero(w)[-1])


def particle_filter(step, first, length, uniforms, below=0.5, parents=None):
    """Filters one sequence.

    Args:
        step: function of (t, k, the state of a particle) to its next state and log-weight of the frame.
        first: the state of a particle before the first frame.
        length: int T.
        uniforms: `[T, K]`.
        below: share of K that the effective sample size must not fall below.
        parents: `[T, K]` to follow, instead of drawing them.

    Returns:
        Dict of log_evidence `[T]`, parents `[T, K]`, resampled `[T]`, states (list of T lists of K), and
        log_w `[T, K]`, the weights since the last resampling.
    """
    n_particles = uniforms.shape[1]
    states, log_w, completed = [first] * n_particles, np.zeros(n_particles), 0.0
    found = dict(log_evidence=[], parents=[], resampled=[], states=[], log_w=[])
    for t in range(length):
        chosen, resampled = list(range(n_particles)), False
        if effective_sample_size(log_w) < below * n_particles:
            resampled = True
            chosen = [draw(log_w, u) for u in uniforms[t]] if parents is None else list(parents[t])
            completed += log_mean_exp(log_w)
            log_w = np.zeros(n_particles)
        moved = [step(t, k, states[chosen[k]]) for k in range(n_particles)]
        states = [state for state, _ in moved]
        log_w = log_w + np.array([weight for _, weight in moved])
        found["log_evidence"].append(completed + log_mean_exp(log_w))
        for name, value in (
            ("parents", chosen),
            ("resampled", resampled),
            ("states", states),
            ("log_w", log_w),
        ):
            found[name].append(value)
    return {name: value if name == "states" else np.array(value) for name, value in found.items()}


def lineages(parents):
    """`[T, K]`: which particle of each frame led to each of the last one."""
    length, n_particles = parents.shape
    found = np.zeros([length, n_particles], int)
    for k in range(n_particles):
        at = k
        for t in reversed(range(length)):
            found[t, k] = at
            at = parents[t, at]
    return found


def normal_log_prob(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - HALF_LOG_TWO_PI


# z_t = A z_{t-1} + Q e, x_t = z_t + R e', z_0 = 0
A, Q, R = 0.9, 0.7, 0.5


def linear_gaussian_log_likelihood(x):
    """`log p(x_{1:t})` for each t, by the Kalman filter."""
    mean, variance, total, found = 0.0, 0.0, 0.0, []
    for value in x:
        mean, variance = A * mean, A * A * variance + Q * Q
        total += normal_log_prob(value, mean, np.sqrt(variance + R * R))
        gain = variance / (variance + R * R)
        mean, variance = mean + gain * (value - mean), (1 - gain) * variance
        found.append(total)
    return np.array(found)


def proposal(kind):
    """`q(z_t | z_{t-1}, x_t)` as (share of z_{t-1} in the mean, share of x_t, deviation)."""
    if kind == "bootstrap":
        return A, 0.0, Q
    gain = Q * Q / (Q * Q + R * R)  # optimal: p(z_t | z_{t-1}, x_t)
    return A * (1 - gain), gain, Q * np.sqrt(1 - gain)


def linear_gaussian_step(x, noise, kind):
    """A step for `particle_filter`; `x`: `[T]`, `noise`: `[T, K]`."""
    of_state, of_x, scale = proposal(kind)

    def step(t, k, z_tm1):
        loc = of_state * z_tm1 + of_x * x[t]
        z = loc + scale * noise[t, k]
        log_p = normal_log_prob(z, A * z_tm1, Q) + normal_log_prob(x[t], z, R)
        return z, log_p - normal_log_prob(z, loc, scale)

    return step
