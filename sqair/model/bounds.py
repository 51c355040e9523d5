# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds and estimators: pure functions of log-weights (section 2 and appendix of the paper).

`log_weights` are `[B, K]` float32, log p(x, z_k) - log q(z_k | x) in nats, summed over time. How those of frames make a
bound of a sequence: `sqair.model.sequence_bounds`.
"""

import math

from sqair.errors import UserError
from sqair.graph_mode import tf

ESTIMATORS = ("reference", "vimco", "reinforce")


def elbo(log_weights):
    """Evidence lower bound, a scalar: the mean log-weight."""
    return tf.reduce_mean(log_weights)


def iwae(log_weights):
    """Importance-weighted bound of each sequence, `[B]` (Burda et al. 2016, arXiv:1509.00519, eq. 8)."""
    return tf.reduce_logsumexp(log_weights, axis=-1) - math.log(log_weights.shape.as_list()[-1])


def vimco_baseline(log_weights):
    """Leave-one-out baseline of VIMCO (Mnih & Rezende 2016, arXiv:1602.06725, eq. 9).

    Args:
        log_weights: `[B, K]` float32.

    Returns:
        `[B, K]` float32: entry k is the IWAE bound with log-weight k replaced by the mean of the others.

    Raises:
        ValueError: if K < 2, where the leave-one-out mean is undefined.
    """
    k_particles = log_weights.shape.as_list()[1]
    if k_particles < 2:
        raise ValueError("The leave-one-out baseline needs at least 2 particles, not {}.".format(k_particles))
    others = (tf.reduce_sum(log_weights, axis=-1, keepdims=True) - log_weights) / (k_particles - 1.0)
    own = tf.eye(k_particles)
    replaced = log_weights[:, None, :] * (1.0 - own) + others[:, :, None] * own
    return tf.reduce_logsumexp(replaced, axis=-1) - math.log(k_particles)


def learning_signal(log_weights, estimator):
    """What the score function `grad discrete_log_q` of each particle is multiplied by.

    Args:
        log_weights: `[B, K]` float32.
        estimator: "reference": the particle's own log-weight less its VIMCO baseline; "vimco": the IWAE bound less
            the baseline, as published; "reinforce": the particle's own log-weight.

    Returns:
        `[B, K]` float32 without a gradient.

    Raises:
        UserError: if the estimator is unknown, or needs more than one particle and has one.
    """
    if estimator not in ESTIMATORS:
        raise UserError(
            "`estimator={}` is not known: use one of {}.".format(estimator, ", ".join(ESTIMATORS))
        )
    k_particles = log_weights.shape.as_list()[1]
    if estimator != "reinforce" and k_particles < 2:
        raise UserError(
            "`k_particles=1` leaves no other particle for the baseline of `estimator={}`; use at least 2, or"
            " `estimator=reinforce`.".format(estimator)
        )
    if estimator == "reinforce":
        signal = log_weights
    elif estimator == "reference":
        signal = log_weights - vimco_baseline(log_weights)
    else:
        signal = iwae(log_weights)[:, None] - vimco_baseline(log_weights)
    return tf.stop_gradient(signal)


def loss(log_weights, discrete_log_q, seq_len, estimator="reference"):
    """The loss whose gradient is the estimator, in nats per frame.

    Differs from Mnih & Rezende (2016) for "reference": the score-function part follows the gradient of the ELBO and
    is averaged over particles, as in the authors' release; "vimco" is the published estimator.

    Args:
        log_weights: `[B, K]` float32.
        discrete_log_q: `[B, K]` float32, log-probability of the discrete samples.
        seq_len: int or scalar tensor T.
        estimator: one of `ESTIMATORS`.

    Returns:
        Scalar float32.
    """
    score = tf.reduce_sum(learning_signal(log_weights, estimator) * discrete_log_q, axis=-1)
    if estimator != "vimco":
        score /= log_weights.shape.as_list()[1]
    return tf.reduce_mean(-iwae(log_weights) - score) / tf.cast(seq_len, tf.float32)


def importance_weights(log_weights):
    """Self-normalised importance weights without a gradient, `[B, K]`, rows sum to one."""
    return tf.stop_gradient(tf.nn.softmax(log_weights, axis=-1))


def effective_sample_size(weights):
    """`(sum w)^2 / sum w^2` of each row, `[B, K]` to `[B]`, between 1 and K."""
    return tf.square(tf.reduce_sum(weights, axis=-1)) / tf.reduce_sum(tf.square(weights), axis=-1)
