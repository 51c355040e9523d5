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

    Unless said they are means over particles weighted by importance: by the whole sequence in every frame, or by the
    frame, as the model's bound has it. N is 0, and what is said of objects NaN, if the model knows none; so is
    `normalised_vae` if the bound has no ELBO.
    """

    log_mean_weight: Any  # [T, B] the bound of frames 1 to t, nats: the log of their mean weight
    sum_of_squares: (
        Any  # [T, B] of the normalised weights of frames 1 to t, or of frame t: 1 / effective sample size
    )
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


def of_result(result, batch, model):
    """The statistics of a batch, in the graph.

    Args:
        result: `sqair.training.objective.ModelResult` of K particles.
        batch: `SequenceBatch` of `[T, B, ...]`.
        model: what they are of.

    Returns:
        `SequenceStatistics` of tensors.
    """
    steps, weights, log_weights = result.outputs.steps, result.importance_weights, result.log_weights

    def weighted(x):
        return tf.reduce_sum(weights * tf.reshape(x, tf.shape(log_weights)), axis=-1)

    annotated = 0.0 if batch.presence.shape[-1].value != 0 else float("nan")
    seen = batch.presence * tf.cast(batch.visible >= LEAST_VISIBLE, tf.float32)
    return SequenceStatistics(
        log_mean_weight=model.bound.so_far(log_weights),
        sum_of_squares=1.0 / model.bound.effective_sample_size(log_weights),
        normalised_vae=tf.reduce_mean(log_weights, axis=-1) + (0.0 if model.bound.has_elbo else float("nan")),
        data_ll=weighted(result.outputs.log_likelihood),
        kl=weighted(steps.log_q - steps.log_p),
        mse=tf.reduce_sum(weights * result.squared_error, axis=-1),
        **_of_objects(steps, model.n_steps, weighted),
        true_count=tf.reduce_sum(batch.presence, axis=-1) + annotated,
        visible_count=tf.reduce_sum(seen, axis=-1) + annotated,
    )


def _of_objects(steps, n_steps, weighted):
    if not n_steps:
        none = weighted(steps.log_q) * float("nan")
        return dict(num_disc_steps=none, num_prop_steps=none, count_prob=tf.expand_dims(none, -1)[..., :0])
    counts = tf.reduce_sum(steps.latents.presence, axis=-1)
    alike = [tf.cast(tf.equal(counts, float(n)), tf.float32) for n in range(n_steps + 1)]
    return dict(
        num_disc_steps=weighted(tf.reduce_sum(steps.discovery.presence, axis=-1)),
        num_prop_steps=weighted(tf.reduce_sum(steps.propagation.presence, axis=-1)),
        count_prob=tf.stack([weighted(x) for x in alike], axis=-1),
    )


def join_particles(parts, bound):
    """The statistics of the same sequences by all particles of several `SequenceStatistics`, as many in each.

    Args:
        parts: list of `SequenceStatistics`, as many particles in each.
        bound: the model's, of `sqair.model.sequence_bounds`.
    """
    stacked = SequenceStatistics(*(np.stack(np.asarray(field, np.float64)) for field in zip(*parts)))
    log_weights = stacked.log_mean_weight  # [parts, T, B]
    if bound.by_frame:
        log_weights = np.diff(log_weights, axis=1, prepend=0.0)
    together = np.logaddexp.reduce(log_weights)
    shares = np.exp(log_weights - together)  # of each part in the weights so far
    means = shares if bound.by_frame else np.broadcast_to(shares[:, -1:], shares.shape)
    joined = SequenceStatistics(*(np.einsum("ptb,ptb...->tb...", means, field) for field in stacked))
    log_mean_weight = together - math.log(len(parts))
    return joined._replace(
        log_mean_weight=np.cumsum(log_mean_weight, axis=0) if bound.by_frame else log_mean_weight,
        sum_of_squares=np.sum(shares**2 * stacked.sum_of_squares, axis=0),
        normalised_vae=stacked.normalised_vae.mean(0),
        true_count=stacked.true_count[0],  # whole numbers, which a sum of weights would miss by a rounding
        visible_count=stacked.visible_count[0],
    )


def join_sequences(parts):
    """The statistics of all sequences of several `SequenceStatistics`."""
    return SequenceStatistics(*(np.concatenate(field, axis=1) for field in zip(*parts)))


def summarise(statistics, bound):
    """What statistics amount to over their sequences.

    Args:
        statistics: `SequenceStatistics` of arrays.
        bound: as of `join_particles`.

    Returns:
        `OrderedDict` of name -> `Estimate`, the names those that a training reports. Per frame; `normalised_iwae` of a
        frame is the bound on its log-probability given the frames before, `ess` that of the frames up to it, or of the
        frame. Without annotations there are no `num_step_acc` and `visible_step_acc`, without objects no numbers of
        them, without an ELBO no `normalised_vae`.
    """
    values = OrderedDict(normalised_iwae=np.diff(statistics.log_mean_weight, axis=0, prepend=0.0))
    sizes = np.arange(statistics.count_prob.shape[-1])
    for name in (*(["normalised_vae"] if bound.has_elbo else []), "data_ll", "kl", "mse"):
        values[name] = getattr(statistics, name)
    if len(sizes):
        for name in ("num_disc_steps", "num_prop_steps"):
            values[name] = getattr(statistics, name)
        values["num_steps"] = statistics.count_prob @ sizes
        for name, truth in (
            ("num_step_acc", statistics.true_count),
            ("visible_step_acc", statistics.visible_count),
        ):
            if np.all(np.isfinite(truth)):
                values[name] = np.sum(statistics.count_prob * (truth[..., None] == sizes), axis=-1)
    estimates = OrderedDict((name, _estimate(value.mean(0), value)) for name, value in values.items())
    ess = 1.0 / statistics.sum_of_squares
    estimates["ess"] = _estimate(ess.mean(0) if bound.by_frame else ess[-1], ess)
    return estimates


def confusion(statistics, visible=False):
    """How often each number of objects was found for each true number.

    Args:
        statistics: `SequenceStatistics` of arrays.
        visible: whether only visible objects count as true.

    Returns:
        `[M + 1, N + 1]` float64, frames: row m holds those with m true objects, M the most that occur; no row without
        annotations or objects.
    """
    truth = statistics.visible_count if visible else statistics.true_count
    if not np.all(np.isfinite(truth)) or not statistics.count_prob.shape[-1]:
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
