# SPDX-License-Identifier: GPL-3.0-or-later
"""Priors of discovery and propagation (sections 3.1 and 3.2 of the paper, appendix A)."""

import math

import numpy as np

from sqair.engine.layers import MLP, Linear, make_core
from sqair.engine.tensors import pack
from sqair.errors import UserError
from sqair.graph_mode import snt, tf
from sqair.model.distributions import (
    HALF_LOG_TWO_PI,
    AutoregressiveNormal,
    positive_scale,
    probability,
    sample_bernoulli,
    slot_logits,
)
from sqair.model.slots import squeeze_last
from sqair.model.structures import LogProbs, PropagationStatistics, SampledObjects

DISCOVERY_PRIORS = ("cat", "geom")
PROPAGATION_PRIORS = ("rnn", "rw", "guided")
COUNT_HIDDEN = 10
LATER_FRAME_BIAS = 10.0  # after the first frame, nothing new is the likeliest by this many nats
RANDOM_WALK_GAIN = 0.1  # how much of the network's output the random-walk priors add


def parse_scale_prior(value):
    """Two floats (x, y) from "-2" or "-2,-1", a number, or a list of one or two.

    Raises:
        ValueError: if it is none of these.
    """
    parts = value.strip("[]() ").replace(",", " ").split() if isinstance(value, str) else value
    numbers = [float(part) for part in (parts if isinstance(parts, (list, tuple)) else [parts])]
    if len(numbers) not in (1, 2) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"scale_prior takes one number or one per axis, such as -2 or -2,-1, not {value}")
    return tuple(numbers * (2 // len(numbers)))


class DiscoveryPrior(snt.AbstractModule):
    """`p(number of new objects, what, where)` given what propagation expects and found."""

    def __init__(
        self, n_steps, kind, step_success_prob, scale_prior, recurrent_where, name="discovery_prior"
    ):
        """Sets the prior up.

        Args:
            n_steps: int N.
            kind: "cat" (learned categorical) or "geom" (untruncated geometric).
            step_success_prob: float, the geometric prior's success probability.
            scale_prior: two floats, mean of the scale logits (x, y).
            recurrent_where: bool; autoregressive locations, or independent ones with standard deviation 1.

        Raises:
            UserError: if `kind` is unknown.
        """
        super().__init__(name=name)
        if kind not in DISCOVERY_PRIORS:
            raise UserError(f"`disc_prior_type={kind}` is not known: use {' or '.join(DISCOVERY_PRIORS)}.")
        self._n_steps, self._kind, self._success_prob = n_steps, kind, step_success_prob
        self._where_loc = np.float32(list(scale_prior) + [0.0, 0.0])
        with self._enter_variable_scope():
            self._where = AutoregressiveNormal(scale_prior) if recurrent_where else None
            if kind == "cat":
                zeros = tf.zeros_initializer()
                later = tf.constant_initializer([LATER_FRAME_BIAS] + [0.0] * n_steps)
                self._bias = tf.get_variable("count_bias", [n_steps + 1], initializer=zeros)
                self._later_bias = tf.get_variable("count_later_bias", [n_steps + 1], initializer=later)
                self._logits = MLP([COUNT_HIDDEN], n_steps + 1, name="count")

    def _build(self, what, where, presence, propagated_summary, expected, is_later):
        """Log-probabilities of discovered objects.

        Args:
            what: `[n, N, Z]`.
            where: `[n, N, 4]` logits.
            presence: `[n, N]`, 0 or 1.
            propagated_summary: `[n, D]`, encoding of the propagated objects.
            expected: `[n, 1]`, how many objects the prior expects to be propagated (`expected_propagations`).
            is_later: `[n, 1]` float32, 0 in the first frame and 1 in later ones.

        Returns:
            `LogProbs` in nats; what and where masked by presence.
        """
        what_log_prob = tf.reduce_sum(-0.5 * what * what - HALF_LOG_TWO_PI, axis=-1)
        if self._where:
            where_log_prob = self._where(where, pack([propagated_summary, expected]))
        else:
            error = where - self._where_loc
            where_log_prob = tf.reduce_sum(-0.5 * error * error - HALF_LOG_TWO_PI, axis=-1)
        count_log_prob = self._count(tf.reduce_sum(presence, axis=-1), expected, is_later)
        return LogProbs(presence * what_log_prob, presence * where_log_prob, count_log_prob)

    def sample(self, noise, propagated_summary, expected, is_later):
        """Draws new objects.

        Differs: of the geometric prior on their number, which has no upper end, what goes beyond N is cut off.

        Args:
            noise: `StepNoise` of `[n, N, k]`.
            propagated_summary, expected, is_later: as of the log-probabilities.

        Returns:
            `SampledObjects` of `[n, N, k]`, what and where zeros where none is present. The presence logit of a slot is
            given that the one before is present, as in discovery.
        """
        logit = slot_logits(self._count_log_probs(expected, is_later))
        found = sample_bernoulli(squeeze_last(noise.presence), probability(logit))
        presence = tf.expand_dims(tf.math.cumprod(found, axis=-1), -1)
        if self._where:
            where, loc, scale = self._where.sample(noise.where, pack([propagated_summary, expected]))
        else:
            loc, scale = tf.zeros_like(noise.where) + self._where_loc, tf.ones_like(noise.where)
            where = loc + noise.where
        objects = presence * noise.what, presence * where, presence, tf.expand_dims(logit, -1)
        return SampledObjects(*objects, tf.zeros_like(noise.what), tf.ones_like(noise.what), loc, scale)

    def _count(self, count, expected, is_later):
        chosen = tf.one_hot(tf.cast(count, tf.int32), self._n_steps + 1)
        log_probs = self._count_log_probs(expected, is_later)
        return tf.reduce_sum(tf.stop_gradient(chosen) * log_probs, axis=-1)

    def _count_log_probs(self, expected, is_later):
        """Of 0..N new objects, `[n, N + 1]` nats."""
        if self._kind == "geom":
            log_probs = np.arange(self._n_steps + 1) * math.log(self._success_prob)
            return tf.zeros_like(expected) + np.float32(log_probs + math.log1p(-self._success_prob))
        logits = tf.nn.elu(self._logits(expected) + self._bias + is_later * self._later_bias)
        return tf.nn.log_softmax(logits)


class PropagationPrior(snt.AbstractModule):
    """`p(what_t, where_t, presence_t | history of the object)`, each object by itself."""

    def __init__(self, n_what, hidden_size, core, kind, step_bias, name="propagation_prior"):
        """Sets the prior up.

        Args:
            n_what: int Z.
            hidden_size: int D.
            core: name of the recurrent core.
            kind: "rnn" (the network's output), "rw" (random walk) or "guided" (random walk with a drift).
            step_bias: float, added to the logit of staying.

        Raises:
            UserError: if `kind` or `core` is unknown.
        """
        super().__init__(name=name)
        if kind not in PROPAGATION_PRIORS:
            raise UserError(
                f"`prop_prior_type={kind}` is not known: use one of {', '.join(PROPAGATION_PRIORS)}."
            )
        self._n_what, self._kind, self._step_bias = n_what, kind, step_bias
        with self._enter_variable_scope():
            inputs = dict(what_tm1=n_what, where_tm1=4)
            self._core = make_core(core, hidden_size, inputs, "prior_transition", name="core")
            self._readout = Linear(1 + 2 * (4 + n_what), name="readout")

    def step(self, what_tm1, where_tm1, state):
        """The recurrent core's next state from the last frame's object; `[m, Z]`, `[m, 4]`, `[m, D]` to `[m, D]`."""
        return self._core(state, what_tm1=what_tm1, where_tm1=where_tm1)[1]

    def _build(self, what_tm1, where_tm1, state):
        """`PropagationStatistics` from the last frame's object and the core's state after `step`.

        The presence logit is the network's; `presence_logit` makes it the prior's.
        """
        widths = [1, 4, self._n_what, 4, self._n_what]
        logit, where_loc, what_loc, where_scale, what_scale = tf.split(self._readout(state), widths, axis=-1)
        if self._kind == "rw":
            where_loc, what_loc = where_tm1, what_tm1
        elif self._kind == "guided":
            where_loc, what_loc = (
                where_tm1 + RANDOM_WALK_GAIN * where_loc,
                what_tm1 + RANDOM_WALK_GAIN * what_loc,
            )
        return PropagationStatistics(
            logit + self._step_bias,
            where_loc,
            what_loc,
            positive_scale(where_scale),
            positive_scale(what_scale),
        )

    def presence_logit(self, logit, logit_tm1):
        """The prior's presence logits `[R, N]` from the network's and the posterior's at t - 1, absent slots too."""
        return logit if self._kind == "rnn" else logit_tm1 + RANDOM_WALK_GAIN * logit


def expected_propagations(prior_logit):
    """How many objects the prior expects to stay: `sum_n (sigmoid(logit_n) - 0.5) / N`, `[R, N]` to `[R, 1]`."""
    return (
        tf.reduce_sum(tf.sigmoid(prior_logit) - 0.5, axis=-1, keepdims=True) / prior_logit.shape.as_list()[-1]
    )
