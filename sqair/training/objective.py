# SPDX-License-Identifier: GPL-3.0-or-later
"""What training minimises and what is reported: the model on a batch, its loss and its means."""

from collections import OrderedDict
from typing import Any, NamedTuple

from sqair.engine.static_gradients import static_gradients
from sqair.graph_mode import tf
from sqair.model import bounds
from sqair.model.structures import SequenceOutputs

RAW = "num_steps", "num_disc_steps", "num_prop_steps", "mse"  # reported without importance weights too


class ModelResult(NamedTuple):
    """The model on one batch, with its loss."""

    outputs: SequenceOutputs  # [T, R, ...]
    loss: Any  # scalar, nats per frame
    scalars: Any  # OrderedDict of scalars to report
    log_weights: Any  # [B, K] nats
    importance_weights: Any  # [B, K], rows sum to one
    squared_error: Any  # [T, B, K] mean over pixels


def loss_and_report(model, batch, k_particles, noise, estimator="reference", l2=0.0):
    """Runs the model on a batch.

    Args:
        model: `SQAIR`, or anything that maps images and noise to `SequenceOutputs`.
        batch: `SequenceBatch` of `[T, B, ...]`.
        k_particles: int K.
        noise: `FrameNoise` of `[T, B, K, N, n]`.
        estimator: one of `bounds.ESTIMATORS`.
        l2: float, weight of half the sum of squares of all trainable variables.

    Returns:
        `ModelResult`.
    """
    outputs = model(batch.images, noise)
    with static_gradients():
        return _result(outputs, batch, k_particles, estimator, l2)


def _result(outputs, batch, k_particles, estimator, l2):
    seq_len = tf.shape(batch.images)[0]
    over_time = lambda x: tf.reshape(tf.reduce_sum(x, axis=0), [-1, k_particles])  # noqa: E731
    log_weights, discrete_log_q = over_time(outputs.log_weights), over_time(outputs.steps.discrete_log_q)
    loss = bounds.loss(log_weights, discrete_log_q, seq_len, estimator)
    if l2:
        loss += l2 * tf.add_n([tf.nn.l2_loss(variable) for variable in tf.trainable_variables()])
    weights = bounds.importance_weights(log_weights)
    squared_error = _squared_error(outputs.canvas, batch.images, k_particles)
    scalars = _scalars(outputs.steps, outputs.log_likelihood, squared_error, batch, log_weights, weights)
    return ModelResult(outputs, loss, scalars, log_weights, weights, squared_error)


def _squared_error(canvas, images, k_particles):
    """Mean over pixels of the squared error of each frame, `[T, B, K]`."""
    shape = [-1, tf.shape(images)[1], k_particles] + images.shape.as_list()[2:]
    difference = tf.math.squared_difference(tf.reshape(canvas, tf.stack(shape)), images[:, :, None])
    return tf.reduce_mean(difference, axis=[3, 4, 5])


def _scalars(steps, log_likelihood, squared_error, batch, log_weights, weights):
    """Means over time and sequences; nats per frame where they are log-probabilities.

    Over particles they are weighted by importance; those that begin with `raw_` are plain means.
    """
    batch_size, k_particles = tf.shape(weights)[0], weights.shape.as_list()[1]
    seq_len = tf.cast(tf.shape(batch.images)[0], tf.float32)
    per_row = lambda x: tf.reshape(x, tf.shape(steps.log_q))  # noqa: E731
    counts = tf.reduce_sum(steps.latents.presence, axis=-1)
    true_counts = tf.tile(tf.reduce_sum(batch.presence, axis=-1)[..., None], [1, 1, k_particles])
    weighted = OrderedDict(
        [
            ("data_ll", log_likelihood),
            ("kl", steps.log_q - steps.log_p),
            ("log_p_z", steps.log_p),
            ("log_q_z_given_x", steps.log_q),
            ("num_steps", counts),
            ("num_disc_steps", tf.reduce_sum(steps.discovery.presence, axis=-1)),
            ("num_prop_steps", tf.reduce_sum(steps.propagation.presence, axis=-1)),
        ]
    )
    if batch.presence.shape[-1].value != 0:  # something is annotated
        weighted["num_step_acc"] = tf.cast(tf.equal(counts, per_row(true_counts)), tf.float32)
    weighted["mse"] = per_row(squared_error)
    values = tf.reduce_mean(tf.stack(list(weighted.values())), axis=1)
    raw = dict(zip(weighted, tf.unstack(tf.reduce_mean(values, axis=-1))))
    values = tf.reshape(values, tf.stack([len(weighted), batch_size, k_particles]))
    values = tf.reduce_mean(tf.reduce_sum(weights * values, axis=-1), axis=-1)
    return OrderedDict(
        [
            ("normalised_vae", bounds.elbo(log_weights) / seq_len),
            ("normalised_iwae", tf.reduce_mean(bounds.iwae(log_weights)) / seq_len),
            *zip(weighted, tf.unstack(values)),
            *[(f"raw_{name}", raw[name]) for name in RAW],
            ("ess", tf.reduce_mean(bounds.effective_sample_size(weights))),
        ]
    )
