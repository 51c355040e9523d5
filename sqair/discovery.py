# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: finds the objects of a frame that propagation does not explain (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair import ops
from sqair.distributions import probability
from sqair.networks import MLP, WhereStatistics, make_core, positive_scale
from sqair.structures import SlotObjects, StepNoise


class SlotCarry(NamedTuple):
    """What a slot conditions on of the slot before, in the same frame."""

    what: Any  # [m, Z]
    where: Any  # [m, 4]
    presence: Any  # [m, 1]
    hidden: Any  # [m, D] state of the RNN over slots


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
            previous: `SlotCarry` of the slot before.

        Returns:
            Tuple of `SlotObjects` of `[m, n]` and the RNN's next state `[m, D]`.
        """
        conditioning = ops.concat([context, previous.what, previous.where, previous.presence])
        features, hidden = self.transition(conditioning, previous.hidden)
        where_loc, raw_scale = self._where(features)
        where_scale = positive_scale(raw_scale)
        where = where_loc + where_scale * tf.stop_gradient(noise.where)
        seen = self._glimpse_encoder(padded_images, image_index, where)
        what = seen.loc + seen.scale * tf.stop_gradient(noise.what)
        logit = self._presence(ops.concat([features, what]))
        presence = ops.sample_presence(noise.presence, probability(logit), previous.presence)
        return SlotObjects(what, where, presence, logit, seen.loc, seen.scale, where_loc, where_scale), hidden


class Discovery(snt.AbstractModule):
    """Runs the core over slots."""

    def __init__(self, core, compact=True, name="discovery"):
        """Args: core: `DiscoveryCore`; compact: run only rows that can still discover something?"""
        super().__init__(name=name)
        self._core, self._compact = core, compact
        with self._enter_variable_scope():
            size = core.transition.state_size.as_list()
            self._start = tf.compat.v1.get_variable("start", [1] + size, initializer=tf.zeros_initializer())

    def _build(self, padded_images, image_index, context, noise):
        """Discovers the new objects of one frame.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[R]` int32, the image of each row.
            context: `[R, 2 D]`, encodings of the image and of the propagated objects.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `SlotObjects` of `[R, N, n]`; zeros where the slot before discovered nothing.
        """
        slots, carry = [], None
        for packed_noise in tf.unstack(ops.concat(noise), axis=1):
            slot_noise = ops.split_like(packed_noise, noise)
            if carry is None:
                carry = self._first_carry(slot_noise)
                objects, hidden = self._core(padded_images, image_index, context, slot_noise, carry)
            else:
                objects, hidden = ops.call_where(
                    lambda *inputs: self._core(padded_images, *inputs),
                    carry.presence[:, 0] > 0.5,
                    (image_index, context, slot_noise, carry),
                    0.0,
                    self._compact,
                )
            slots.append(ops.concat(objects))
            carry = SlotCarry(objects.what, objects.where, objects.presence, hidden)
        return ops.split_like(tf.stack(slots, axis=1), objects)

    def _first_carry(self, noise: StepNoise):
        hidden = tf.tile(self._start, tf.stack([tf.shape(noise.what)[0], 1]))
        nothing = tf.zeros_like(noise.what), tf.zeros_like(noise.where)
        return SlotCarry(*nothing, tf.ones_like(noise.presence), hidden)
