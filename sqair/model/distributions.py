# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributions of the model: Gaussians, the number of objects, locations in a row, correlated locations."""

import math

from sqair.engine.layers import Linear
from sqair.engine.tensors import pack, size, straight_through_clip
from sqair.graph_mode import snt, tf

HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
MIN_COUNT_PROB = 1e-16
MIN_SCALE = 1e-2  # lower bound of every learned standard deviation
WHERE_PRIOR_HIDDEN = 128


def positive_scale(raw, min_scale=MIN_SCALE):
    """`softplus(raw) + min_scale`: a standard deviation from an unconstrained tensor."""
    return tf.nn.softplus(raw) + min_scale


def normal_log_prob(value, loc, scale):
    """Log-density in nats of a diagonal Gaussian, summed over the last axis: `[..., n]` to `[...]`."""
    error = (value - loc) / scale
    return tf.reduce_sum(-0.5 * error * error - tf.math.log(scale) - HALF_LOG_TWO_PI, axis=-1)


def sampled_normal_log_prob(noise, scale):
    """Log-density of `loc + scale * noise` under Normal(loc, scale), summed over the last axis.

    The same number and gradient as `normal_log_prob` at the sample, without the subtraction that cancels.
    """
    return -tf.reduce_sum(tf.math.log(scale), axis=-1) + _standard_log_density(noise)


def _standard_log_density(noise):
    """Log-density of standard normal noise, which is data: `[..., n]` to `[...]`."""
    return tf.stop_gradient(tf.reduce_sum(-0.5 * noise * noise - HALF_LOG_TWO_PI, axis=-1))


def bernoulli_log_prob(value, logit):
    """Log-probability in nats of `value` in {0, 1}, element by element."""
    return value * logit - tf.nn.softplus(logit)


def sample_bernoulli(noise, prob):
    """1 where `noise < prob`, else 0; a comparison has no gradient."""
    return tf.cast(noise < prob, tf.float32)


def sample_categorical(uniforms, weights):
    """Draws from each row in proportion to its weights, by the inverse of its cumulative sum.

    Args:
        uniforms: `[..., M]` on [0, 1), one for each draw.
        weights: `[..., K]`, not negative, of any sum; no gradient is taken.

    Returns:
        `[..., M]` int32 in 0..K - 1; an entry without weight is never drawn.
    """
    cumulative = tf.cumsum(weights, axis=-1)
    chosen = tf.searchsorted(cumulative, uniforms * cumulative[..., -1:], side="right")
    return tf.minimum(chosen, size(weights, axis=-1) - 1)


def fill_triangular(entries):
    """Lays `[n (n + 1) / 2]` numbers out as a lower-triangular `[n, n]` matrix, clockwise from the bottom right.

    The order is that of TensorFlow Probability's `fill_triangular`, as variables of checkpoints have it: the matrix of
    1, 2, 3, 4, 5, 6 has the rows (4, 0, 0), (6, 5, 0), (3, 2, 1).

    Raises:
        ValueError: if no triangle has that many entries.
    """
    (count,) = entries.shape.as_list()
    size = int(math.sqrt(2 * count))
    if size * (size + 1) != 2 * count:
        raise ValueError(f"{count} numbers do not fill a triangle.")
    square = tf.reshape(tf.concat([entries[size:], entries[::-1]], 0), [size, size])
    return tf.linalg.band_part(square, -1, 0)


class AffineDiagonalNormal(snt.AbstractModule):
    """A Gaussian with lower-triangular scale `L = diag(scale) (I + M)` with a learned lower-triangular M."""

    def __init__(self, size, name="affine_diagonal_normal"):
        """Args: size: int, the number of dimensions."""
        super().__init__(name=name)
        with self._enter_variable_scope(), tf.control_dependencies(None):
            entries = tf.get_variable("cholesky_scale", [size * (size + 1) // 2])
            self._mixing = tf.eye(size) + fill_triangular(entries)
            self._log_det = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(self._mixing))))

    def mix(self, noise):
        """Multiplies noise `[m, size]` by `I + M`; a sample is `loc + scale` times the result."""
        return tf.matmul(noise, self._mixing, transpose_b=True)

    def log_prob(self, noise, scale):
        """Log-density of the sample made from `noise` (before mixing): `[..., size]` to `[...]`.

        `log |det L|` takes absolute values: `1 + M_ii` may be negative.
        """
        return sampled_normal_log_prob(noise, scale) - self._log_det

    def _build(self, loc, scale, mixed_noise):
        return loc + scale * mixed_noise


def probability(logit):
    """The sigmoid, accurate where it is small too (`tf.sigmoid` returns 0 below about -18)."""
    return tf.exp(tf.math.log_sigmoid(logit))


def count_probabilities(presence_probs):
    """Distribution of how many slots are present when slot n needs slot n - 1.

    `q(k) = (1 - pi_{k+1}) prod_{n <= k} pi_n` for k < N and `q(N) = prod pi_n`, normalised. Written with plain
    products, whose gradient is right at pi = 0.

    Args:
        presence_probs: `[rows, N]` in [0, 1].

    Returns:
        `[rows, N + 1]`, rows sum to one.
    """
    slots = tf.split(presence_probs, presence_probs.shape.as_list()[-1], axis=-1)
    reached, columns = None, []
    for prob in slots:
        columns.append((1.0 - prob) if reached is None else (1.0 - prob) * reached)
        reached = prob if reached is None else prob * reached
    joint = tf.concat(columns + [reached], axis=-1)
    return joint / tf.reduce_sum(joint, axis=-1, keepdims=True)


def slot_logits(count_log_probs):
    """Undoes `count_probabilities`: the logit of each slot's presence given that of the one before.

    `pi_n = p(count >= n) / p(count >= n - 1)`; its logit is `log p(count >= n) - log p(count = n - 1)`.

    Args:
        count_log_probs: `[rows, N + 1]` nats, of counts 0..N, up to a constant.

    Returns:
        `[rows, N]`.
    """
    counts = tf.unstack(count_log_probs, axis=-1)
    logits, at_least = [], counts[-1]
    for exactly in counts[-2::-1]:
        logits.append(at_least - exactly)
        at_least = tf.reduce_logsumexp([at_least, exactly], axis=0)
    return tf.stack(logits[::-1], axis=-1)


def count_log_prob(probs, count):
    """Log-probability of counts.

    Args:
        probs: `[rows, N + 1]`; the chosen entry is clipped to [1e-16, 1] with a straight-through gradient.
        count: `[rows]` float32 in 0..N.

    Returns:
        `[rows]` nats.
    """
    chosen = tf.one_hot(tf.cast(count, tf.int32), probs.shape.as_list()[-1])
    return tf.math.log(straight_through_clip(tf.reduce_sum(chosen * probs, axis=-1), MIN_COUNT_PROB, 1.0))


class AutoregressiveNormal(snt.AbstractModule):
    """A Gaussian over the locations of slots in a row, each conditioned on the slot before.

    `c = ELU(linear([s0; features]))`, `o_n = tanh(linear(where_{n-1}) + linear'(c))`, a readout of o_n gives the
    statistics. Differs from a recurrent network in that `c`, not the last state, enters at every slot: the
    recurrence runs through `where` alone, as in the authors' release.
    """

    def __init__(self, scale_prior, name="autoregressive_normal"):
        """Args: scale_prior: two floats, where the mean of the scale logits starts (x, y)."""
        super().__init__(name=name)
        with self._enter_variable_scope():
            self._first = tf.get_variable("first_where", [1, 4])
            self._start = tf.get_variable("start", [1, 4], initializer=tf.zeros_initializer())
            self._context = Linear(WHERE_PRIOR_HIDDEN, name="context")
            self._where_to_hidden = Linear(4, name="where_to_hidden")
            self._context_to_hidden = Linear(4, name="context_to_hidden")
            bias = tf.constant_initializer(list(scale_prior) + [0.0, 0.0] + [1.0] * 4)
            self._readout = Linear(8, bias_initializer=bias, name="readout")

    def _build(self, where, features):
        """Log-density of each slot's location given the one before.

        Args:
            where: `[R, N, 4]` logits.
            features: `[R, n]`.

        Returns:
            `[R, N]` nats.
        """
        first, context = self._begin(tf.shape(where)[0], features)
        n_slots = where.shape.as_list()[1]
        previous = tf.concat([first, where[:, :-1]], axis=1) if n_slots > 1 else first
        return normal_log_prob(where, *self._statistics(previous, context))

    def sample(self, noise, features):
        """Draws locations, slot by slot.

        Args:
            noise: `[R, N, 4]` standard normal.
            features: `[R, n]`.

        Returns:
            Tuple of the locations in logits, and the means and standard deviations that they were drawn with, each
            `[R, N, 4]`.
        """
        where, context = self._begin(tf.shape(noise)[0], features)
        slots = []
        for slot_noise in tf.split(noise, noise.shape.as_list()[1], axis=1):
            loc, scale = self._statistics(where, context)
            where = loc + scale * slot_noise
            slots.append((where, loc, scale))
        return tuple(tf.concat(field, axis=1) for field in zip(*slots))

    def _begin(self, rows, features):
        """What the first slot follows, `[R, 1, 4]`, and what the features contribute to all slots, `[R, 4]`."""
        start = tf.tile(self._start, tf.stack([rows, 1]))
        context = self._context_to_hidden(tf.nn.elu(self._context(pack([start, features]))))
        return tf.tile(self._first, tf.stack([rows, 1]))[:, None], context

    def _statistics(self, previous, context):
        """Mean and standard deviation of slots, `[R, n, 4]` each, from the locations before them, `[R, n, 4]`."""
        n_slots = previous.shape.as_list()[1]
        previous = tf.reshape(self._where_to_hidden(tf.reshape(previous, [-1, 4])), [-1, n_slots, 4])
        hidden = tf.reshape(tf.tanh(previous + context[:, None]), [-1, 4])
        loc, scale = tf.split(tf.reshape(self._readout(hidden), [-1, n_slots, 8]), 2, axis=-1)
        return loc, positive_scale(scale)
