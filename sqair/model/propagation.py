# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation: follows the objects of the last frame into this one (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair.engine import ops
from sqair.engine.active_slots import SlotRows
from sqair.engine.layers import MIN_SCALE, MLP, Linear, SideBySide, fixed_scalar, make_core, positive_scale
from sqair.model.discovery import first_carry, packed_objects, split_carry
from sqair.model.distributions import AffineDiagonalNormal, probability
from sqair.model.networks import WhereStatistics
from sqair.model.structures import PackedObjects, SlotObjects

GLIMPSE_SHIFT_HIDDEN = 128
GLIMPSE_SHIFT_SCALE = 0.1  # how far the first glimpse may look away from the last location, in logits
MAX_GATE = 0.9999
GATE_BIAS = 1.0
RAW_SCALE_SHIFT = -1.0  # makes moves of propagated objects less noisy than discoveries


class PastObject(NamedTuple):
    """An object at t - 1 with what can be prepared for it before its turn comes."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    noise_what: Any  # [m, Z]
    noise_where: Any  # [m, 4], mixed
    noise_presence: Any  # [m, 1]
    temporal_state: Any  # [m, D]
    mask: Any  # [m, g * g * C] glimpse mask
    transition: Any  # [m, k] share in the preactivations of the RNN over slots,
    where_hidden: Any  # [m, D] of the first hidden layer of the location's network,
    temporal: Any  # [m, k] of the RNN over time,
    presence_hidden: Any  # [m, D / 2] of the hidden layer of the presence's network


class PropagationOutputs(NamedTuple):
    """Propagated objects of one frame, before any is dropped; zeros where nothing was to propagate."""

    objects: PackedObjects  # with what the prior says of them, `PropagationStatistics`
    states: Any  # the temporal and the prior state of each object that was to propagate, `[M, D]` each
    row_numbers: Any  # [R, N] int32 the row of each slot in the states, counted from 1; 0 if it has none


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
            hidden = [hidden_size]
            self._glimpse_shift = MLP([GLIMPSE_SHIFT_HIDDEN], 4, widths=hidden, name="glimpse_shift")
            widths = [n_what, n_what + 5, n_what + 5, hidden_size]  # first glimpse, slot before, past object
            self.transition = make_core(transition, hidden_size, widths, "transition", "transition")
            widths = [hidden_size + 4 + 2 * n_what]
            self.temporal = make_core(time_transition, hidden_size, widths, "time_transition", "temporal")
            self._where = WhereStatistics(hidden_size, scale_bias, [hidden_size, 4, hidden_size])
            self._update_scale = fixed_scalar("where_update_scale", 1.0)
            self.where_distribution = AffineDiagonalNormal(4)
            what = Linear(2 * n_what, widths=hidden, name="what_statistics")
            self._min_scale = fixed_scalar("what_min_scale", MIN_SCALE)
            gates = Linear(3 * n_what, tf.constant_initializer(GATE_BIAS), hidden, name="what_gates")
            self._what_and_gates = SideBySide(what.share(), gates.share())
            widths = [hidden_size, hidden_size, n_what]
            self._presence = MLP([hidden_size // 2], 1, step_bias, widths, name="presence")
            self._of_temporal_state = SideBySide(
                self._glimpse_shift.share(),
                glimpse_encoder.mask_share,
                self.transition.share((3,)),
                self._where.share((2,)),
                self.temporal.state_share,
                self._presence.share((1,)),
            )
            self._of_object = self.transition.share((0, 2), bias=False)
            self._of_where = self._where.share((1,), bias=False)

    def prepare(self, padded_images, image_index, what, where, presence, temporal_state, noise):
        """All that depends on the past alone, for objects in any order.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[m]` int32.
            what, where, presence, temporal_state: `[m, n]` of the last frame.
            noise: `StepNoise` of `[m, n]`.

        Returns:
            `PastObject`.
        """
        shift, mask, transition, where_hidden, temporal, presence_hidden = self._of_temporal_state(
            temporal_state
        )
        shift = GLIMPSE_SHIFT_SCALE * self._glimpse_shift(None, shift)
        mask = self._glimpse_encoder.mask(mask)
        glimpse = self._glimpse_encoder(padded_images, image_index, where + shift, mask).loc
        return PastObject(
            what,
            where,
            noise.what,
            self.where_distribution.mix(noise.where),
            noise.presence,
            temporal_state,
            mask,
            transition + self._of_object(ops.concat([glimpse, what, where, presence])),
            where_hidden + self._of_where(where),
            temporal,
            presence_hidden,
        )

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
        features, hidden = self.transition(previous.objects, previous.hidden, past.transition, (1,))

        move, raw_scale = self._where(features, past.where_hidden, (0,))
        where_loc = past.where + self._update_scale * move
        where_scale = positive_scale(raw_scale + RAW_SCALE_SHIFT)
        where = self.where_distribution(where_loc, where_scale, past.noise_where)

        seen = self._glimpse_encoder(padded_images, image_index, where, past.mask)
        output, temporal_state = self.temporal(
            ops.concat([features, where, seen]), past.temporal_state, state_share=past.temporal
        )
        what_loc, what_scale = self._what_statistics(output, past.what, seen)
        what = what_loc + what_scale * tf.stop_gradient(past.noise_what)

        logit = self._presence(ops.concat([features, what]), past.presence_hidden, (0, 2))
        presence = ops.sample_presence(past.noise_presence, probability(logit))
        objects = SlotObjects(what, where, presence, logit, what_loc, what_scale, where_loc, where_scale)
        return objects, hidden, temporal_state

    def _what_statistics(self, output, what_tm1, seen):
        """Gated mixture of the last appearance, what is seen now, and what the temporal core expects."""
        expected, gates = self._what_and_gates(output)
        expected_loc, expected_scale = tf.split(expected, 2, axis=-1)
        expected_scale = positive_scale(expected_scale, self._min_scale)
        forget, ignore, exclude = tf.split(MAX_GATE * tf.sigmoid(gates), 3, axis=-1)
        use_seen, use_expected = 1.0 - ignore, 1.0 - exclude
        loc = forget * what_tm1 + use_seen * seen.loc + use_expected * expected_loc
        return loc, use_seen * seen.scale + use_expected * expected_scale


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
        n_rows, n_slots, n_what = ops.rows_of(past.what), past.what.shape[1].value, past.what.shape[2].value
        exists = tf.unstack(past.presence[:, :, 0] > 0.5, axis=1)
        running = SlotRows(exists[0], n_slots, self._compact)
        for mask in exists[1:]:
            running.add(running.take(mask))
        fields = past.what, past.where, past.presence, noise
        what, where, presence, noise = ops.split_like(running.gather(ops.concat(fields)), fields)
        temporal_state, prior_state = running.gather(past.temporal_state), running.gather(past.prior_state)
        image_index = running.gather(tf.tile(image_index[:, None], [1, n_slots]))

        pasts = self._core.prepare(padded_images, image_index, what, where, presence, temporal_state, noise)
        prior_state = self._prior.step(what, where, prior_state)
        prior = self._prior(what, where, prior_state)
        slots, temporal_states, carry = [], [], first_carry(self._start, n_rows, n_what, 0.0)
        slot_inputs = zip(running.split(image_index), *[running.split(x) for x in pasts])
        for slot, (index, *past) in enumerate(slot_inputs):
            carry = running.follow(carry, slot) if slot else running.take(carry, 0)
            objects, hidden, temporal_state = self._core(
                padded_images, index, PastObject(*past), split_carry(carry, n_what)
            )
            slots.append(ops.concat(objects))
            temporal_states.append(temporal_state)
            carry = ops.concat([objects[:3], hidden])
        packed = running.scatter_all(ops.concat([tf.concat(slots, axis=0), prior]))
        states = tf.concat(temporal_states, axis=0), prior_state
        return PropagationOutputs(packed_objects(packed, n_what), states, running.row_numbers())
