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
    log_weights: Any  # [T, B, K] nats, frame by frame
    importance_weights: Any  # [B, K], or [T, B, K] where frames have their own; rows sum to one
    squared_error: Any  # [T, B, K] mean over pixels


def loss_and_report(model, batch, k_particles, noise, estimator="reference", l2=0.0):
    """Runs the model on a batch.

    Args:
        model: `SQAIR`, or anything that maps images and noise to `SequenceOutputs` and has

            bound: how its log-weights make a bound, one of `sqair.model.sequence_bounds`;
            n_steps: int N, object slots of a frame; 0 if it knows no objects;
            noise: structure of `sqair.model.noise.Wanted` (only for who draws it).
        batch: `SequenceBatch` of `[T, B, ...]`.
        k_particles: int K.
        noise: what the model wants, of `[T, B, K, ...]`.
        estimator: one of `bounds.ESTIMATORS`.
        l2: float, weight of half the sum of squares of all trainable variables.

    Returns:
        `ModelResult`.
    """
    outputs = model(batch.images, noise)
    with static_gradients():
        return _result(model, outputs, batch, k_particles, estimator, l2)


def _result(model, outputs, batch, k_particles, estimator, l2):
    bound, batch_size = model.bound, tf.shape(batch.images)[1]
    per_particle = lambda x: tf.reshape(x, tf.stack([-1, batch_size, k_particles]))  # noqa: E731
    log_weights = per_particle(outputs.log_weights)
    loss = bound.loss(log_weights, per_particle(outputs.steps.discrete_log_q), estimator)
    if l2:
        loss += l2 * tf.add_n([tf.nn.l2_loss(variable) for variable in tf.trainable_variables()])
    weights = bound.importance_weights(log_weights)
    squared_error = _squared_error(outputs.canvas, batch.images, k_particles)
    values = _values(outputs, model.n_steps)
    values = OrderedDict((name, per_particle(value)) for name, value in values.items())
    if model.n_steps and batch.presence.shape[-1].value != 0:  # something is annotated
        right = tf.equal(values["num_steps"], tf.reduce_sum(batch.presence, axis=-1)[..., None])
        values["num_step_acc"] = tf.cast(right, tf.float32)
    values["mse"] = squared_error
    scalars = _scalars(bound, log_weights, weights, values)
    return ModelResult(outputs, loss, scalars, log_weights, weights, squared_error)


def _squared_error(canvas, images, k_particles):
    """Mean over pixels of the squared error of each frame, `[T, B, K]`."""
    shape = [-1, tf.shape(images)[1], k_particles] + images.shape.as_list()[2:]
    difference = tf.math.squared_difference(tf.reshape(canvas, tf.stack(shape)), images[:, :, None])
    return tf.reduce_mean(difference, axis=[3, 4, 5])


def _values(outputs, n_steps):
    """What is reported of each frame and row, `OrderedDict` of name -> `[T, R]`; log-probabilities in nats."""
    steps = outputs.steps
    values = OrderedDict(
        [
            ("data_ll", outputs.log_likelihood),
            ("kl", steps.log_q - steps.log_p),
            ("log_p_z", steps.log_p),
            ("log_q_z_given_x", steps.log_q),
        ]
    )
    if n_steps:
        values["num_steps"] = tf.reduce_sum(steps.latents.presence, axis=-1)
        values["num_disc_steps"] = tf.reduce_sum(steps.discovery.presence, axis=-1)
        values["num_prop_steps"] = tf.reduce_sum(steps.propagation.presence, axis=-1)
    return values


def _scalars(bound, log_weights, weights, values):
    """Means over time and sequences; nats per frame where they are log-probabilities.

    Over particles they are weighted by importance; those that begin with `raw_` are plain means.
    """
    together = tf.stack(list(values.values()))
    raw = dict(zip(values, tf.unstack(tf.reduce_mean(together, axis=[1, 2, 3]))))
    weighted = tf.reduce_mean(tf.reduce_sum(weights * together, axis=-1), axis=[1, 2])
    of_all, ess = bound.so_far(log_weights)[-1], bound.effective_sample_size(log_weights)
    elbo = [("normalised_vae", bounds.elbo(log_weights))] if bound.has_elbo else []
    return OrderedDict(
        [
            *elbo,
            ("normalised_iwae", tf.reduce_mean(of_all) / tf.cast(tf.shape(log_weights)[0], tf.float32)),
            *zip(values, tf.unstack(weighted)),
            *[(f"raw_{name}", raw[name]) for name in RAW if name in raw],
            ("ess", tf.reduce_mean(ess if bound.by_frame else ess[-1])),
        ]
    )
