# SPDX-License-Identifier: GPL-3.0-or-later
"""How the log-weights of frames make a bound of a sequence, and the weights that its reports go by.

A model declares one of these as its `bound`: everything that trains and evaluates it asks the bound and no more. Here
`log_weights` are `[T, B, K]` float32, nats, of each frame and particle; `discrete_log_q` likewise.
"""

from sqair.graph_mode import tf
from sqair.model import bounds


class WholeSequences:
    """A particle is a sequence: its frames' log-weights add up, then particles are averaged (IWAE, as SQAIR)."""

    name = "iwae"
    by_frame = False  # have frames a bound of their own, and do these add up to the sequence's?
    joins = True  # do particles that were drawn in parts amount to what all of them together would?
    keeps_ids = True  # is an object of one frame the same one in the next?
    has_elbo = True  # is the mean of the log-weights the ELBO?

    def loss(self, log_weights, discrete_log_q, estimator):
        """Scalar, nats per frame: as `bounds.loss`."""
        seq_len = tf.shape(log_weights)[0]
        log_weights, discrete_log_q = (tf.reduce_sum(x, axis=0) for x in (log_weights, discrete_log_q))
        return bounds.loss(log_weights, discrete_log_q, seq_len, estimator)

    def so_far(self, log_weights):
        """The bound of frames 1 to t, `[T, B]` nats."""
        return bounds.iwae(tf.cumsum(log_weights, axis=0))

    def importance_weights(self, log_weights):
        """What means over particles and the choice of one go by, without a gradient: `[B, K]`, of whole sequences."""
        return bounds.importance_weights(tf.reduce_sum(log_weights, axis=0))

    def effective_sample_size(self, log_weights):
        """Of the weights of frames 1 to t, `[T, B]`."""
        return bounds.effective_sample_size(bounds.importance_weights(tf.cumsum(log_weights, axis=0)))


class IndependentFrames:
    """Frames are images by themselves: particles are averaged in each, then frames add up (AIR).

    The estimator's learning signal is that of a frame as well.
    """

    name, by_frame, joins, keeps_ids, has_elbo = "iwae", True, True, False, True

    def loss(self, log_weights, discrete_log_q, estimator):
        """Scalar, nats per frame: the mean of the frames' losses."""
        k_particles = log_weights.shape.as_list()[2]
        log_weights, discrete_log_q = (
            tf.reshape(x, [-1, k_particles]) for x in (log_weights, discrete_log_q)
        )
        return bounds.loss(log_weights, discrete_log_q, 1, estimator)

    def so_far(self, log_weights):
        """The bound of frames 1 to t, `[T, B]` nats."""
        return tf.cumsum(bounds.iwae(log_weights), axis=0)

    def importance_weights(self, log_weights):
        """What means over particles and the choice of one go by, without a gradient: `[T, B, K]`."""
        return bounds.importance_weights(log_weights)

    def effective_sample_size(self, log_weights):
        """Of each frame's weights, `[T, B]`."""
        return bounds.effective_sample_size(bounds.importance_weights(log_weights))


class Filtered(IndependentFrames):
    """Particles are resampled on the way, by the model itself (FIVO, Maddison et al. 2017, arXiv:1705.09279, eq. 5).

    The bound is `sum_t log sum_k W_{t-1,k} w_{t,k}` of the frames' weights w and the normalised weights W before them,
    1 / K after a resampling. The model returns `log (K W_{t-1,k} w_{t,k})` for the log-weights of a frame: their mean
    in a frame is the increment of the bound, and normalised they are W_t. What else it returns follows the ancestors
    of the last frame's particles back, so that row k is one particle from its first frame to its last, with the
    weight that it ends with.

    The mean of these log-weights is no ELBO: while nothing is resampled, each frame's holds those of the frames before.

    No gradient of discrete latents is taken: there are none. Nor is one of resampling, which the model sees to.
    """

    name, joins, keeps_ids, has_elbo = "fivo", False, True, False

    def loss(self, log_weights, discrete_log_q, estimator):
        """Scalar, nats per frame: minus the bound."""
        del discrete_log_q, estimator
        return -tf.reduce_mean(bounds.iwae(log_weights))

    def importance_weights(self, log_weights):
        """What means over particles and the choice of one go by, without a gradient: `[B, K]`, of the last frame."""
        return bounds.importance_weights(log_weights[-1])
