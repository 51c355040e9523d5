# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation: follows the objects of the last frame into this one (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops
from sqair.distributions import (
    AffineDiagonalNormal,
    bernoulli_log_prob,
    normal_log_prob,
    probability,
    sampled_normal_log_prob,
)
from sqair.networks import MLP, WhereStatistics, fixed_scalar, make_core, positive_scale
from sqair.structures import Latents, LogProbs, Posterior, StepNoise

GLIMPSE_SHIFT_HIDDEN = 128
GLIMPSE_SHIFT_SCALE = 0.1  # how far the first glimpse may look away from the last location, in logits
MAX_GATE = 0.9999
GATE_BIAS = 1.0
RAW_SCALE_SHIFT = -1.0  # makes moves of propagated objects less noisy than discoveries


class SlotCarry(NamedTuple):
    """What a slot conditions on of the slot before, in the same frame."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    presence: Any  # [m, 1]
    hidden: Any  # [m, D] state of the RNN over slots


class PastObject(NamedTuple):
    """One object at t - 1 with what can be prepared for it before its turn comes."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    presence: Any  # [m, 1]
    temporal_state: Any  # [m, D]
    glimpse: Any  # [m, Z] encoding of a first glimpse near the last location
    mask: Any  # [m, g * g * C] glimpse mask
    noise: StepNoise  # [m, n]; where already mixed


class PropagatedSlot(NamedTuple):
    """One slot's result for m rows."""

    carry: SlotCarry
    presence_logit: Any  # [m, 1]
    posterior: Posterior  # [m, ...]
    temporal_state: Any  # [m, D]


ABSENT_SLOT = PropagatedSlot(
    SlotCarry(0.0, 0.0, 0.0, 0.0), ops.ABSENT_LOGIT, Posterior(0.0, 0.0, 0.0, 0.0, 0.0), 0.0
)


class ObjectScores(NamedTuple):
    """One object's log-probabilities in nats (unmasked) and prior."""

    log_q_what: Any  # [m, 1]
    log_q_where: Any  # [m, 1]
    log_p_what: Any  # [m, 1]
    log_p_where: Any  # [m, 1]
    prior_logit: Any  # [m, 1]
    prior_state: Any  # [m, D]


UNSCORED = ObjectScores(0.0, 0.0, 0.0, 0.0, ops.ABSENT_LOGIT, 0.0)


class PropagationOutputs(NamedTuple):
    """Propagated objects of one frame, before any is dropped."""

    latents: Latents
    posterior: Posterior
    temporal_state: Any  # [R, N, D]
    prior_state: Any  # [R, N, D]
    prior_logit: Any  # [R, N] the prior's presence logit
    sampled_prob: Any  # [R, N] posterior probability of the presence drawn, 0 where nothing was to propagate
    log_q: LogProbs
    log_p: LogProbs


class PropagationCore(snt.AbstractModule):
    """One slot of propagation: RNN, where, what and presence, in this order."""

    def __init__(
        self,
        glimpse_encoder,
        n_what,
        hidden_size,
        transition,
        time_transition,
        scale_bias,
        step_bias,
        name="propagation_core",
    ):
        """Sets the core up.

        Args:
            glimpse_encoder: `GlimpseEncoder`, shared with discovery.
            n_what: int Z.
            hidden_size: int D.
            transition, time_transition: names of the recurrent cores over slots and over time.
            scale_bias: float, where the offset of the raw location scales starts.
            step_bias: float, where the bias of the presence logit starts.
        """
        super().__init__(name=name)
        self._glimpse_encoder = glimpse_encoder
        self._n_what = n_what
        with self._enter_variable_scope():
            self._glimpse_shift = MLP([GLIMPSE_SHIFT_HIDDEN], 4, name="glimpse_shift")
            self.transition = make_core(transition, hidden_size, "transition", "transition")
            self.temporal = make_core(time_transition, hidden_size, "time_transition", "temporal")
            self._where = WhereStatistics(hidden_size, scale_bias)
            self._update_scale = fixed_scalar("where_update_scale", 1.0)
            self.where_distribution = AffineDiagonalNormal(4)
            self._what = snt.Linear(2 * n_what, name="what_statistics")
            self._min_scale = fixed_scalar("what_min_scale", 0.01)
            bias = {"b": tf.constant_initializer(GATE_BIAS)}
            self._gates = snt.Linear(3 * n_what, initializers=bias, name="what_gates")
            self._presence = MLP([hidden_size // 2], 1, step_bias, name="presence")

    def prepare(self, padded_images, image_index, where_tm1, temporal_state):
        """Takes a first glimpse near an object's last location; it depends on the past alone.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[m]` int32.
            where_tm1: `[m, 4]` logits.
            temporal_state: `[m, D]`.

        Returns:
            Tuple of the glimpse's encoding `[m, Z]` and the mask `[m, g * g * C]` for this and the next glimpse.
        """
        shift = GLIMPSE_SHIFT_SCALE * self._glimpse_shift(temporal_state)
        mask = self._glimpse_encoder.mask(temporal_state)
        return self._glimpse_encoder(padded_images, image_index, where_tm1 + shift, mask).loc, mask

    def _build(self, padded_images, image_index, past, previous):
        """Propagates one object in each row, or lets it vanish.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[m]` int32.
            past: `PastObject`.
            previous: `SlotCarry` of the slot before.

        Returns:
            `PropagatedSlot`.
        """
        before = [past.what, past.where, past.presence, past.temporal_state]
        conditioning = ops.concat([past.glimpse, previous.what, previous.where, previous.presence] + before)
        features, hidden = self.transition(conditioning, previous.hidden)

        move, raw_scale = self._where(ops.concat([features, past.where, past.temporal_state]))
        where_loc = past.where + self._update_scale * move
        where_scale = positive_scale(raw_scale + RAW_SCALE_SHIFT)
        where = self.where_distribution(where_loc, where_scale, past.noise.where)

        seen = self._glimpse_encoder(padded_images, image_index, where, past.mask)
        output, temporal_state = self.temporal(ops.concat([features, where, seen]), past.temporal_state)
        what_loc, what_scale = self._what_statistics(output, past.what, seen)
        what = what_loc + what_scale * past.noise.what

        logit = self._presence(ops.concat([features, past.temporal_state, what]))
        logit = ops.mask_absent_logit(logit, past.presence)
        prob = probability(logit)
        presence = tf.cast(past.noise.presence < prob, tf.float32) * past.presence
        posterior = Posterior(what_loc, what_scale, where_loc, where_scale, prob)
        return PropagatedSlot(SlotCarry(what, where, presence, hidden), logit, posterior, temporal_state)

    def _what_statistics(self, output, what_tm1, seen):
        """Gated mixture of the last appearance, what is seen now, and what the temporal core expects."""
        expected_loc, expected_scale = tf.split(self._what(output), 2, axis=-1)
        expected_scale = positive_scale(expected_scale, self._min_scale)
        forget, ignore, exclude = tf.split(MAX_GATE * tf.sigmoid(self._gates(output)), 3, axis=-1)
        use_seen, use_expected = 1.0 - ignore, 1.0 - exclude
        loc = forget * what_tm1 + use_seen * seen.loc + use_expected * expected_loc
        return loc, use_seen * seen.scale + use_expected * expected_scale


class Propagation(snt.AbstractModule):
    """Runs the core over the slots of the last frame and scores the result under posterior and prior."""

    def __init__(self, core, prior, compact=True, name="propagation"):
        """Args: core: `PropagationCore`; prior: `PropagationPrior`; compact: run only what exists?"""
        super().__init__(name=name)
        self._core, self._prior, self._compact = core, prior, compact
        with self._enter_variable_scope():
            size = core.transition.state_size.as_list()
            self._start = tf.compat.v1.get_variable("start", [1] + size, initializer=tf.zeros_initializer())

    def _build(self, padded_images, image_index, past, temporal_state, prior_state, noise):
        """Propagates the objects of one frame.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[R]` int32, the image of each row.
            past: `Latents` of the last frame.
            temporal_state, prior_state: `[R, N, D]`.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `PropagationOutputs`.
        """
        slots = self._run_slots(padded_images, image_index, past, temporal_state, noise)
        stack = lambda *parts: tf.stack(parts, axis=1)  # noqa: E731
        slots = [slot._replace(carry=slot.carry._replace(hidden=())) for slot in slots]
        carry, logit, posterior, temporal_state = tf.nest.map_structure(stack, *slots)
        presence, logit, prob = [tf.squeeze(x, -1) for x in (carry.presence, logit, posterior.presence_prob)]
        latents = Latents(carry.what, carry.where, presence, logit)
        posterior = posterior._replace(presence_prob=prob)
        scores = self._score(past, latents, posterior, prior_state, noise)
        prior_logit = self._prior.presence_logit(scores.prior_logit[..., 0], past.presence_logit)
        presence_log_q = past.presence * bernoulli_log_prob(presence, logit)
        presence_log_p = past.presence * bernoulli_log_prob(presence, prior_logit)

        def log_probs(what, where, presence_log_prob):
            total = tf.reduce_sum(presence_log_prob, axis=-1)
            return LogProbs(presence * what[..., 0], presence * where[..., 0], total)

        return PropagationOutputs(
            latents,
            posterior,
            temporal_state,
            scores.prior_state,
            prior_logit,
            sampled_prob=past.presence * tf.exp(presence_log_q),
            log_q=log_probs(scores.log_q_what, scores.log_q_where, presence_log_q),
            log_p=log_probs(scores.log_p_what, scores.log_p_where, presence_log_p),
        )

    def _run_slots(self, padded_images, image_index, past, temporal_state, noise):
        n_slots = past.presence.shape.as_list()[1]
        exists = past.presence > 0.5
        glimpse, mask = self._for_objects(
            lambda index, where, state: self._core.prepare(padded_images, index, where, state),
            exists,
            (tf.tile(image_index[:, None], [1, n_slots]), past.where, temporal_state),
            (0.0, 0.0),
        )
        mixed = tf.reshape(self._core.where_distribution.mix(_flat(noise.where)), tf.shape(noise.where))
        mixed.set_shape(noise.where.shape)
        noise = StepNoise(noise.what, mixed, noise.presence[..., None])
        objects = PastObject(
            past.what, past.where, past.presence[..., None], temporal_state, glimpse, mask, noise
        )
        by_slot = [tf.unstack(x, n_slots, axis=1) for x in tf.nest.flatten(objects)]

        rows = tf.shape(past.presence)[0]
        carry = SlotCarry(
            what=tf.zeros_like(past.what[:, 0]),
            where=tf.zeros_like(past.where[:, 0]),
            presence=tf.zeros_like(past.presence[:, :1]),
            hidden=tf.tile(self._start, tf.stack([rows, 1])),
        )
        slots = []
        for n, columns in enumerate(zip(*by_slot)):
            inputs = (image_index, tf.nest.pack_sequence_as(objects, columns), carry)
            core = lambda *args: self._core(padded_images, *args)  # noqa: E731
            slots.append(ops.call_where(core, exists[:, n], inputs, ABSENT_SLOT, self._compact))
            carry = slots[-1].carry
        return slots

    def _score(self, past, latents, posterior, prior_state, noise):
        """Scores of all objects that were there, `ObjectScores` of `[R, N, n]`."""

        def score(what_tm1, where_tm1, what, where, what_scale, where_scale, noise_what, noise_where, state):
            prior, state = self._prior(what_tm1, where_tm1, state)
            distribution = self._core.where_distribution
            log_probs = [
                sampled_normal_log_prob(noise_what, what_scale),
                distribution.log_prob(noise_where, where_scale),
                normal_log_prob(what, prior.what_loc, prior.what_scale),
                normal_log_prob(where, prior.where_loc, prior.where_scale),
            ]
            return ObjectScores(*[x[:, None] for x in log_probs], prior.presence_logit, state)

        inputs = (
            past.what,
            past.where,
            latents.what,
            latents.where,
            posterior.what_scale,
            posterior.where_scale,
        )
        return self._for_objects(
            score, past.presence > 0.5, inputs + (noise.what, noise.where, prior_state), UNSCORED
        )

    def _for_objects(self, function, exists, inputs, defaults):
        """`call_where` over all slots of all rows at once: `[R, N, n]` in and out."""
        n_slots = exists.shape.as_list()[1]
        flat = tf.nest.map_structure(_flat, inputs)
        outputs = ops.call_where(function, tf.reshape(exists, [-1]), flat, defaults, self._compact)
        return tf.nest.map_structure(lambda x: tf.reshape(x, [-1, n_slots, x.shape.as_list()[-1]]), outputs)


def _flat(tensor):
    """`[R, N, n]` to `[R * N, n]`, `[R, N]` to `[R * N]`."""
    return tf.reshape(tensor, [-1] + tensor.shape.as_list()[2:])
