# SPDX-License-Identifier: GPL-3.0-or-later
"""Filtering variational objectives (FIVO; Maddison et al. 2017, arXiv:1705.09279): particles that are resampled.

A cell filters by resampling what it is given, at the beginning of a time-step, and by weighing what it makes of it
with the frame's own log-weight `log p(x_t, z_t | past) - log q(z_t | past, x)` at the end:

    particles, parents = fivo.resample(particles, uniforms)
    ... one time-step of particles.state gives state and log_weight, [R, 1] ...
    particles, log_weights = fivo.weigh(particles, state, log_weight, k_particles)

Of the model nothing else is known here. `bounds.iwae` of a frame's `log_weights` is what the frame adds to the bound
(algorithm 1: `log p^_t`), and their softmax are the weights of the particles after it. Without resampling the bound is
IWAE. `exp` of it is an estimate of `p(x_{1:T})` without bias, resampled or not.

Gradients go through log-weights and through the states of the particles that are chosen, not through the choice: the
score-function term of resampling is left out, as the paper does in its experiments, which biases the gradient and
lowers its variance.

Differs: the paper resamples at the end of a time-step; here it is at the beginning of the next, which is the same but
for the last frame, after which nothing needs resampling.
"""

from typing import Any, NamedTuple

from sqair.engine.tensors import gather_rows, range_of, size
from sqair.graph_mode import tf
from sqair.model import bounds
from sqair.model.distributions import sample_categorical

RESAMPLE_BELOW = 0.5  # of the number of particles: effective sample size at which they are resampled


class Particles(NamedTuple):
    """K weighted particles of each of B sequences between two frames; row `b * K + k` is particle k of sequence b."""

    state: Any  # structure of [R, ...], what the model hands to the next frame
    log_weight: Any  # [R, 1] log of K times the normalised weight: 0 if all are alike


def first_particles(state):
    """The `Particles` before the first frame, all of the same weight; `state`: structure of `[R, ...]`."""
    rows = size(tf.nest.flatten(state)[0])
    return Particles(state, tf.fill([rows, 1], 0.0))


def resample(particles, uniforms, below=RESAMPLE_BELOW):
    """Resamples the sequences whose effective sample size has fallen too low (algorithm 1; multinomial).

    K particles are drawn independently, in proportion to their weights; then all have the same weight.

    Args:
        particles: `Particles` of R = B * K rows.
        uniforms: `[B, K]` on [0, 1).
        below: float, the effective sample size that is too low, as a share of K; 0: never resample.

    Returns:
        Tuple of `Particles` and which of its sequence's particles, 0 to K - 1, each row goes on from: `[R, 1]`
        float32, to travel with other outputs.
    """
    k_particles = uniforms.shape.as_list()[1]
    own = tf.tile(tf.range(k_particles)[None], tf.stack([size(uniforms), 1]))
    if not below:
        return particles, _rows(tf.cast(own, tf.float32))
    log_weights = tf.reshape(particles.log_weight, [-1, k_particles])
    weights = bounds.importance_weights(log_weights)
    poor = bounds.effective_sample_size(weights)[:, None] < below * k_particles
    parents = tf.where_v2(poor, sample_categorical(uniforms, weights), own)
    log_weights = tf.where_v2(poor, tf.zeros_like(log_weights), log_weights)
    rows = tf.reshape(parents + range_of(size(uniforms))[:, None] * k_particles, [-1])
    state = tf.nest.map_structure(lambda x: gather_rows(x, rows), particles.state)
    return Particles(state, _rows(log_weights)), _rows(tf.cast(parents, tf.float32))


def weigh(particles, state, log_weight, k_particles):
    """Weighs what a frame has made of particles.

    Args:
        particles: `Particles` that the frame went on from.
        state: their states after it, structure of `[R, ...]`.
        log_weight: `[R, 1]` nats, of this frame alone.
        k_particles: int K.

    Returns:
        Tuple of `Particles` after the frame and `log (K W_k w_k)`, `[R, 1]` nats, of the normalised weights W before
        the frame and those of the frame w.
    """
    log_weights = tf.reshape(particles.log_weight + log_weight, [-1, k_particles])
    return Particles(state, _rows(log_weights - bounds.iwae(log_weights)[:, None])), _rows(log_weights)


def lineages(parents):
    """Which particle of each frame led to each particle of the last one.

    Args:
        parents: `[T, B, K]` int32, 0 to K - 1.

    Returns:
        `[T, B, K]` int32, 0 to K - 1; those of the last frame are their own.
    """
    k_particles = parents.shape.as_list()[2]
    last = tf.tile(tf.range(k_particles)[None], tf.stack([size(parents, 1), 1]))
    next_parents = tf.concat([parents[1:], last[None]], axis=0)

    def step(lineage, parents):
        return tf.gather(parents, lineage, batch_dims=1)

    return tf.scan(step, next_parents, last, reverse=True, back_prop=False)


def follow(structure, lineage):
    """What the particles of the last frame have been through.

    Args:
        structure: of `[T, R, ...]`, frame by frame.
        lineage: `[T, B, K]` int32 of `lineages`.

    Returns:
        The same structure, row `b * K + k` of which is one history in all frames.
    """
    first = range_of(size(lineage, 1)) * size(lineage, 2)  # row of each sequence
    rows = tf.reshape(lineage + tf.convert_to_tensor(first)[:, None], tf.stack([size(lineage), -1]))

    def gather(x):
        gathered = tf.gather(x, rows, axis=1, batch_dims=1)
        gathered.set_shape(x.shape)
        return gathered

    return tf.nest.map_structure(gather, structure)


def _rows(values):
    """`[B, K]` to `[R, 1]`."""
    return tf.reshape(values, [-1, 1])
