# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model makes of each sequence, frame by frame, and what it amounts to over many.

Means have standard errors over sequences, as the sequences are what was sampled. Particles of a sequence can come in
parts, so that many need not be in memory at once: joined, the parts give what all of them together would.
"""

import math
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from sqair.evaluation.metrics import LEAST_VISIBLE
from sqair.graph_mode import tf


class SequenceStatistics(NamedTuple):
    """What K particles make of B sequences.

    Unless said they are means over particles weighted by importance, those of the whole sequence in every frame.
    """

    log_mean_weight: Any  # [T, B] log of the mean weight of frames 1 to t, nats: their IWAE bound
    log_mean_square: Any  # [T, B] likewise of the squared weights
    normalised_vae: Any  # [T, B] plain mean of the frame's own log-weight, nats
    data_ll: Any  # [T, B] log p(x_t | z_t), nats
    kl: Any  # [T, B] log q - log p of the frame's latent variables, nats
    mse: Any  # [T, B] mean over pixels
    num_disc_steps: Any  # [T, B] objects discovered
    num_prop_steps: Any  # [T, B] objects propagated
    count_prob: Any  # [T, B, N + 1] probability of each number of objects
    true_count: Any  # [T, B] annotated objects, those off the canvas too; NaN without annotations
    visible_count: Any  # [T, B] those of which at least LEAST_VISIBLE can be seen


class Estimate(NamedTuple):
    """A mean over sequences with its standard error, for whole sequences and for each frame."""

    mean: float
    standard_error: float  # NaN for a single sequence
    by_frame: np.ndarray  # [T]
    by_frame_error: np.ndarray  # [T]


def of_result(result, batch, n_steps):
    """The statistics of a batch, in the graph.

    Args:
        result: `sqair.training.objective.ModelResult` of K particles.
        batch: `SequenceBatch` of `[T, B, ...]`.
        n_steps: int N, slots.

    Returns:
        `SequenceStatistics` of tensors.
    """
    steps, weights = result.outputs.steps, result.importance_weights
    k_particles = weights.shape.as_list()[1]

    def per_particle(x):
        return tf.reshape(x, tf.concat([[-1], tf.shape(weights)], 0))

    def weighted(x):
        return tf.reduce_sum(weights * per_particle(x), axis=-1)

    log_weights = per_particle(result.outputs.log_weights)
    running = tf.cumsum(log_weights, axis=0)
    counts = tf.reduce_sum(steps.latents.presence, axis=-1)
    alike = [tf.cast(tf.equal(counts, float(n)), tf.float32) for n in range(n_steps + 1)]
    annotated = 0.0 if batch.presence.shape[-1].value != 0 else float("nan")
    seen = batch.presence * tf.cast(batch.visible >= LEAST_VISIBLE, tf.float32)
    return SequenceStatistics(
        log_mean_weight=tf.reduce_logsumexp(running, axis=-1) - math.log(k_particles),
        log_mean_square=tf.reduce_logsumexp(2.0 * running, axis=-1) - math.log(k_particles),
        normalised_vae=tf.reduce_mean(log_weights, axis=-1),
        data_ll=weighted(result.outputs.log_likelihood),
        kl=weighted(steps.log_q - steps.log_p),
        mse=tf.reduce_sum(weights * result.squared_error, axis=-1),
        num_disc_steps=weighted(tf.reduce_sum(steps.discovery.presence, axis=-1)),
        num_prop_steps=weighted(tf.reduce_sum(steps.propagation.presence, axis=-1)),
        count_prob=tf.stack([weighted(x) for x in alike], axis=-1),
        true_count=tf.reduce_sum(batch.presence, axis=-1) + annotated,
        visible_count=tf.reduce_sum(seen, axis=-1) + annotated,
    )


def join_particles(parts):
    """The statistics of the same sequences by all particles of several `SequenceStatistics`, as many in each."""
    stacked = SequenceStatistics(*(np.stack(np.asarray(field, np.float64)) for field in zip(*parts)))
    log_weights = stacked.log_mean_weight[:, -1]  # [parts, B]
    weights = np.exp(log_weights - np.logaddexp.reduce(log_weights))

    def log_mean(x):
        return np.logaddexp.reduce(x) - math.log(len(parts))

    joined = SequenceStatistics(*(np.einsum("pb,ptb...->tb...", weights, field) for field in stacked))
    return joined._replace(
        log_mean_weight=log_mean(stacked.log_mean_weight),
        log_mean_square=log_mean(stacked.log_mean_square),
        normalised_vae=stacked.normalised_vae.mean(0),
        true_count=stacked.true_count[0],  # whole numbers, which a sum of weights would miss by a rounding
        visible_count=stacked.visible_count[0],
    )


def join_sequences(parts):
    """The statistics of all sequences of several `SequenceStatistics`."""
    return SequenceStatistics(*(np.concatenate(field, axis=1) for field in zip(*parts)))


def summarise(statistics, k_particles):
    """What statistics amount to over their sequences.

    Args:
        statistics: `SequenceStatistics` of arrays.
        k_particles: int, how many particles they are of.

    Returns:
        `OrderedDict` of name -> `Estimate`, the names those that a training reports. Per frame; `normalised_iwae` of a
        frame is the bound on its log-probability given the frames before, `ess` that of the frames up to it. Without
        annotations there are no `num_step_acc` and `visible_step_acc`.
    """
    values = OrderedDict(normalised_iwae=np.diff(statistics.log_mean_weight, axis=0, prepend=0.0))
    for name in ("normalised_vae", "data_ll", "kl", "mse", "num_disc_steps", "num_prop_steps"):
        values[name] = getattr(statistics, name)
    sizes = np.arange(statistics.count_prob.shape[-1])
    values["num_steps"] = statistics.count_prob @ sizes
    for name, truth in (
        ("num_step_acc", statistics.true_count),
        ("visible_step_acc", statistics.visible_count),
    ):
        if np.all(np.isfinite(truth)):
            values[name] = np.sum(statistics.count_prob * (truth[..., None] == sizes), axis=-1)
    estimates = OrderedDict((name, _estimate(value.mean(0), value)) for name, value in values.items())
    ess = k_particles * np.exp(2.0 * statistics.log_mean_weight - statistics.log_mean_square)
    estimates["ess"] = _estimate(ess[-1], ess)
    return estimates


def confusion(statistics, visible=False):
    """How often each number of objects was found for each true number.

    Args:
        statistics: `SequenceStatistics` of arrays.
        visible: whether only visible objects count as true.

    Returns:
        `[M + 1, N + 1]` float64, frames: row m holds those with m true objects, M the most that occur; no row without
        annotations.
    """
    truth = statistics.visible_count if visible else statistics.true_count
    if not np.all(np.isfinite(truth)):
        return np.zeros([0, statistics.count_prob.shape[-1]])
    rows = [statistics.count_prob[truth == m].sum(0) for m in range(int(truth.max()) + 1)]
    return np.array(rows, np.float64)


def _estimate(of_sequences, of_frames):
    """`[B]` and `[T, B]` to an `Estimate`."""
    return Estimate(
        float(np.mean(of_sequences)),
        float(_standard_error(of_sequences)),
        of_frames.mean(1),
        _standard_error(of_frames),
    )


def _standard_error(values):
    """Of the mean over the last axis."""
    count = values.shape[-1]
    return (
        np.std(values, axis=-1, ddof=1) / math.sqrt(count)
        if count > 1
        else np.full(values.shape[:-1], np.nan)
    )
