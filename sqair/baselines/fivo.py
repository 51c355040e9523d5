# SPDX-License-Identifier: GPL-3.0-or-later
"""Filtering variational objectives (FIVO; Maddison et al. 2017, arXiv:1705.09279): particles that are resampled.

A cell filters by resampling what it is given, at the beginning of a time-step, and by adding the frame's own
log-weight `log p(x_t, z_t | past) - log q(z_t | past, x)` at the end:

    particles, resampling = fivo.resample(particles, uniforms)
    ... one time-step of particles.state gives state and log_weight, [R, 1] ...
    particles = fivo.Particles(state, particles.log_weight + log_weight)
    and gives resampling.log_weight + log_weight out, as what this frame adds

Of the model nothing else is known here. What all frames add is summed over time by the bounds as ever:
`bounds.iwae` of the sum over frames 1 to t is the logarithm of FIVO's estimate of `p(x_{1:t})` (algorithm 1), whose
mean is `p(x_{1:t})` itself, and the softmax of the sum are the weights of the particles. Without resampling that is
IWAE, to the bit.

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
    log_weight: Any  # [R, 1] nats, finite, of all frames so far


class Resampling(NamedTuple):
    """What resampling did before a frame."""

    parent: Any  # [R, 1] float32: which of its sequence's particles, 0 to K - 1, a row goes on from
    log_weight: Any  # [R, 1] nats: what it added to the log-weight of the row; 0 where it did nothing


def first_particles(state):
    """The `Particles` before the first frame, all of the same weight; `state`: structure of `[R, ...]`."""
    rows = size(tf.nest.flatten(state)[0])
    return Particles(state, tf.fill([rows, 1], 0.0))


def resample(particles, uniforms, below=RESAMPLE_BELOW):
    """Resamples the sequences whose effective sample size has fallen too low (algorithm 1; multinomial).

    K particles are drawn independently, in proportion to their weights; then all have the mean weight. The mean
    is where the factors of the estimate that are complete are kept.

    Args:
        particles: `Particles` of R = B * K rows.
        uniforms: `[B, K]` on [0, 1).
        below: float, the effective sample size that is too low, as a share of K; 0: never resample.

    Returns:
        Tuple of `Particles` and `Resampling`.
    """
    k_particles = uniforms.shape.as_list()[1]
    own = tf.tile(tf.range(k_particles)[None], tf.stack([size(uniforms), 1]))
    if not below:
        return particles, Resampling(_rows(tf.cast(own, tf.float32)), tf.zeros_like(particles.log_weight))
    log_weights = tf.reshape(particles.log_weight, [-1, k_particles])
    weights = bounds.importance_weights(log_weights)
    poor = bounds.effective_sample_size(weights)[:, None] < below * k_particles
    parents = tf.where_v2(poor, sample_categorical(uniforms, weights), own)
    mean = bounds.iwae(log_weights)[:, None]
    added = _rows(tf.where_v2(poor, mean - log_weights, tf.zeros_like(log_weights)))
    rows = tf.reshape(parents + range_of(size(uniforms))[:, None] * k_particles, [-1])
    state = tf.nest.map_structure(lambda x: gather_rows(x, rows), particles.state)
    resampled = Particles(state, particles.log_weight + added)
    return resampled, Resampling(_rows(tf.cast(parents, tf.float32)), added)


def lineages(parents):
    """Which particle of each frame led to each particle of the last one.

    Args:
        parents: `[T, B, K]` int32, as of `Resampling`.

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
    length, batch_size, k_particles = (size(lineage, axis) for axis in range(3))
    first = range_of(length * batch_size) * k_particles
    rows = tf.reshape(lineage, [-1, k_particles]) + tf.convert_to_tensor(first)[:, None]

    def gather(x):
        shape = tf.shape(x)
        taken = tf.gather(tf.reshape(x, tf.concat([[-1], shape[2:]], 0)), tf.reshape(rows, [-1]))
        taken = tf.reshape(taken, shape)
        taken.set_shape(x.shape)
        return taken

    return tf.nest.map_structure(gather, structure)


def _rows(values):
    """`[B, K]` to `[R, 1]`."""
    return tf.reshape(values, [-1, 1])
