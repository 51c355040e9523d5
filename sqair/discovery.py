# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: finds the objects of a frame that propagation does not explain (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops
from sqair.distributions import count_log_prob, count_probabilities, probability, sampled_normal_log_prob
from sqair.networks import MLP, WhereStatistics, make_core, positive_scale
from sqair.structures import Latents, LogProbs, Posterior


class DiscoveredSlot(NamedTuple):
    """One slot's result for m rows; also what the next slot conditions on."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    presence: Any  # [m, 1]
    presence_logit: Any  # [m, 1]
    posterior: Posterior  # [m, ...]
    hidden: Any  # [m, D] state of the RNN over slots


ABSENT_SLOT = DiscoveredSlot(0.0, 0.0, 0.0, ops.ABSENT_LOGIT, Posterior(0.0, 1.0, 0.0, 1.0, 0.0), 0.0)


class DiscoveryOutputs(NamedTuple):
    """Discovered objects of one frame, before any is dropped."""

    latents: Latents
    posterior: Posterior
    count_probs: Any  # [R, N + 1] posterior probability of each number of objects
    log_q: LogProbs
    log_p: LogProbs


class DiscoveryCore(snt.AbstractModule):
    """One slot of discovery: RNN, where, what and presence, in this order."""

    def __init__(
        self, glimpse_encoder, hidden_size, transition, scale_bias, step_bias, name="discovery_core"
    ):
        """Sets the core up.

        Args:
            glimpse_encoder: `GlimpseEncoder`, shared with propagation.
            hidden_size: int D.
            transition: name of the recurrent core over slots.
            scale_bias: float, where the offset of the raw location scales starts.
            step_bias: float, where the bias of the presence logit starts.
        """
        super().__init__(name=name)
        self._glimpse_encoder = glimpse_encoder
        with self._enter_variable_scope():
            self.transition = make_core(transition, hidden_size, "transition", "transition")
            self._where = WhereStatistics(hidden_size, scale_bias)
            self._presence = MLP([hidden_size // 2], 1, step_bias, name="presence")

    def _build(self, padded_images, image_index, context, noise, previous):
        """Discovers one object, or none, in each row.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[m]` int32.
            context: `[m, 2 D]`, encodings of the image and of the propagated objects.
            noise: `StepNoise` of `[m, n]`.
            previous: `DiscoveredSlot` of the slot before.

        Returns:
            `DiscoveredSlot`.
        """
        conditioning = ops.concat([context, previous.what, previous.where, previous.presence])
        features, hidden = self.transition(conditioning, previous.hidden)
        where_loc, raw_scale = self._where(features)
        where_scale = positive_scale(raw_scale)
        where = where_loc + where_scale * noise.where
        what_loc, what_scale = self._glimpse_encoder(padded_images, image_index, where)
        what = what_loc + what_scale * noise.what
        logit = self._presence(ops.concat([features, what]))
        logit = ops.mask_absent_logit(logit, previous.presence)
        prob = probability(logit)
        presence = tf.cast(noise.presence < prob, tf.float32) * previous.presence
        posterior = Posterior(what_loc, what_scale, where_loc, where_scale, prob)
        return DiscoveredSlot(what, where, presence, logit, posterior, hidden)


class Discovery(snt.AbstractModule):
    """Runs the core over slots and scores the result under posterior and prior."""

    def __init__(self, core, prior, compact=True, name="discovery"):
        """Args: core: `DiscoveryCore`; prior: `DiscoveryPrior`; compact: run only rows that can still discover?"""
        super().__init__(name=name)
        self._core, self._prior, self._compact = core, prior, compact
        with self._enter_variable_scope():
            size = core.transition.state_size.as_list()
            self._start = tf.compat.v1.get_variable("start", [1] + size, initializer=tf.zeros_initializer())

    def _build(self, padded_images, image_index, context, expected, time_step, noise):
        """Discovers the new objects of one frame.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[R]` int32, the image of each row.
            context: `[R, 2 D]`, encodings of the image and, in the last D, of the propagated objects.
            expected: `[R, 1]`, how many objects the prior expects to be propagated.
            time_step: scalar float32.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `DiscoveryOutputs`.
        """
        slots = self._run_slots(padded_images, image_index, context, noise)
        stacked = tf.nest.map_structure(
            lambda *parts: tf.stack(parts, axis=1), *[s._replace(hidden=()) for s in slots]
        )
        presence, logit, prob = [
            tf.squeeze(x, axis=-1)
            for x in (stacked.presence, stacked.presence_logit, stacked.posterior.presence_prob)
        ]
        latents = Latents(stacked.what, stacked.where, presence, logit)
        posterior = stacked.posterior._replace(presence_prob=prob)
        count_probs = count_probabilities(prob)
        count = tf.reduce_sum(presence, axis=-1)
        log_q = LogProbs(
            presence * sampled_normal_log_prob(noise.what, posterior.what_scale),
            presence * sampled_normal_log_prob(noise.where, posterior.where_scale),
            count_log_prob(count_probs, count),
        )
        features = tf.split(context, 2, axis=-1)[1]
        log_p = self._prior(latents, features, expected, time_step)
        return DiscoveryOutputs(latents, posterior, count_probs, log_q, log_p)

    def _run_slots(self, padded_images, image_index, context, noise):
        rows = tf.shape(context)[0]
        previous = DiscoveredSlot(
            what=tf.zeros_like(noise.what[:, 0]),
            where=tf.zeros_like(noise.where[:, 0]),
            presence=tf.ones_like(noise.presence[:, :1]),
            presence_logit=(),
            posterior=(),
            hidden=tf.tile(self._start, tf.stack([rows, 1])),
        )
        slot_noise = zip(*[tf.unstack(x, axis=1) for x in noise._replace(presence=noise.presence[..., None])])
        slots = []
        for n, (what, where, presence) in enumerate(slot_noise):
            inputs = (image_index, context, type(noise)(what, where, presence), previous)
            if n == 0:
                slot = self._core(padded_images, *inputs)
            else:
                slot = ops.call_where(
                    lambda *args: self._core(padded_images, *args),
                    previous.presence[:, 0] > 0.5,
                    inputs,
                    ABSENT_SLOT,
                    self._compact,
                )
            slots.append(slot)
            previous = slot._replace(presence_logit=(), posterior=())
        return slots
