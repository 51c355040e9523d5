# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation: follows the objects of the last frame into this one (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops
from sqair.discovery import SlotCarry
from sqair.distributions import AffineDiagonalNormal, probability
from sqair.networks import MIN_SCALE, MLP, Linear, WhereStatistics, fixed_scalar, make_core, positive_scale
from sqair.structures import SlotObjects, StepNoise

GLIMPSE_SHIFT_HIDDEN = 128
GLIMPSE_SHIFT_SCALE = 0.1  # how far the first glimpse may look away from the last location, in logits
MAX_GATE = 0.9999
GATE_BIAS = 1.0
RAW_SCALE_SHIFT = -1.0  # makes moves of propagated objects less noisy than discoveries


class PastObject(NamedTuple):
    """One object at t - 1 with what can be prepared for it before its turn comes."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    presence: Any  # [m, 1]
    temporal_state: Any  # [m, D]
    glimpse: Any  # [m, Z] encoding of a first glimpse near the last location
    mask: Any  # [m, g * g * C] glimpse mask
    noise: StepNoise  # [m, n]; where already mixed


class Prepared(NamedTuple):
    """What depends on the past alone."""

    glimpse: Any  # [m, Z]
    mask: Any  # [m, g * g * C]
    prior_state: Any  # [m, D]


class PropagationOutputs(NamedTuple):
    """Propagated objects of one frame, before any is dropped; zeros where nothing was to propagate."""

    objects: SlotObjects  # [R, N, n]
    temporal_state: Any  # [R, N, D]
    prior_state: Any  # [R, N, D]


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
            self._what = Linear(2 * n_what, name="what_statistics")
            self._min_scale = fixed_scalar("what_min_scale", MIN_SCALE)
            self._gates = Linear(3 * n_what, tf.constant_initializer(GATE_BIAS), name="what_gates")
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
            Tuple of `SlotObjects` of `[m, n]` and the next states `[m, D]` of the RNNs over slots and over time.
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
        what = what_loc + what_scale * tf.stop_gradient(past.noise.what)

        logit = self._presence(ops.concat([features, past.temporal_state, what]))
        presence = ops.sample_presence(past.noise.presence, probability(logit), past.presence)
        objects = SlotObjects(what, where, presence, logit, what_loc, what_scale, where_loc, where_scale)
        return objects, hidden, temporal_state

    def _what_statistics(self, output, what_tm1, seen):
        """Gated mixture of the last appearance, what is seen now, and what the temporal core expects."""
        expected_loc, expected_scale = tf.split(self._what(output), 2, axis=-1)
        expected_scale = positive_scale(expected_scale, self._min_scale)
        forget, ignore, exclude = tf.split(MAX_GATE * tf.sigmoid(self._gates(output)), 3, axis=-1)
        use_seen, use_expected = 1.0 - ignore, 1.0 - exclude
        seen_and_expected = ops.concat([seen.loc, seen.scale]) * ops.concat([use_seen, use_seen])
        seen_and_expected += ops.concat([expected_loc, expected_scale]) * ops.concat(
            [use_expected, use_expected]
        )
        loc, scale = tf.split(seen_and_expected, 2, axis=-1)
        return loc + forget * what_tm1, scale


class Propagation(snt.AbstractModule):
    """Runs the core over the slots of the last frame, and the prior's recurrent core beside it."""

    def __init__(self, core, prior, compact=True, name="propagation"):
        """Args: core: `PropagationCore`; prior: `PropagationPrior`; compact: run only what exists?"""
        super().__init__(name=name)
        self._core, self._prior, self._compact = core, prior, compact
        with self._enter_variable_scope():
            size = core.transition.state_size.as_list()
            self._start = tf.compat.v1.get_variable("start", [1] + size, initializer=tf.zeros_initializer())

    def _build(self, padded_images, image_index, past, noise):
        """Propagates the objects of one frame.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[R]` int32, the image of each row.
            past: `SQAIRState` of the last frame.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `PropagationOutputs`.
        """
        prepared = self._prepare(padded_images, image_index, past)
        mixed = self._core.where_distribution.mix(noise.where)
        objects = PastObject(
            past.what,
            past.where,
            past.presence,
            past.temporal_state,
            prepared.glimpse,
            prepared.mask,
            noise._replace(where=mixed),
        )
        slots, temporal_states, carry = [], [], self._first_carry(past)
        exists = tf.unstack(tf.squeeze(past.presence, axis=-1) > 0.5, axis=1)
        for slot_exists, packed in zip(exists, tf.unstack(ops.concat(objects), axis=1)):
            slot, hidden, temporal_state = ops.call_where(
                lambda index, packed, carry: self._core(
                    padded_images, index, ops.split_like(packed, objects), carry
                ),
                slot_exists,
                (image_index, packed, carry),
                0.0,
                self._compact,
            )
            slots.append(ops.concat(slot))
            temporal_states.append(temporal_state)
            carry = SlotCarry(slot.what, slot.where, slot.presence, hidden)
        objects = ops.split_like(tf.stack(slots, axis=1), slot)
        return PropagationOutputs(objects, tf.stack(temporal_states, axis=1), prepared.prior_state)

    def _first_carry(self, past):
        hidden = tf.tile(self._start, tf.stack([tf.shape(past.what)[0], 1]))
        what, where, presence = [tf.zeros_like(x[:, 0]) for x in (past.what, past.where, past.presence)]
        return SlotCarry(what, where, presence, hidden)

    def _prepare(self, padded_images, image_index, past):
        """What depends on the past alone, for all slots of all rows at once."""

        def prepare(image_index, what, where, temporal_state, prior_state):
            glimpse, mask = self._core.prepare(padded_images, image_index, where, temporal_state)
            return Prepared(glimpse, mask, self._prior.step(what, where, prior_state))

        n_slots = past.presence.shape.as_list()[1]
        index = tf.reshape(tf.tile(image_index[:, None], [1, n_slots]), [-1])
        inputs = [ops.merge(x) for x in (past.what, past.where, past.temporal_state, past.prior_state)]
        exists = tf.reshape(past.presence, [-1]) > 0.5
        prepared = ops.call_where(prepare, exists, [index] + inputs, 0.0, self._compact)
        return tf.nest.map_structure(lambda x: tf.reshape(x, [-1, n_slots, x.shape.as_list()[-1]]), prepared)
