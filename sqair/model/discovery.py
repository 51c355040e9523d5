# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: finds the objects of a frame that propagation does not explain (section 3.2 of the paper)."""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair.engine import ops
from sqair.engine.active_slots import SlotRows
from sqair.engine.layers import MLP, make_core, positive_scale
from sqair.model.distributions import probability
from sqair.model.networks import WhereStatistics
from sqair.model.structures import PackedObjects, SlotObjects


class SlotCarry(NamedTuple):
    """What a slot conditions on of the slot before, in the same frame."""

    objects: Any  # [m, Z + 5] its what, where and presence
    hidden: Any  # [m, D] state of the RNN over slots


def first_carry(start, rows, n_what, presence):
    """The carry of the first slot, joined: no object, present or not, and the learned state `start` `[1, D]`."""
    nothing = tf.constant([[0.0] * (n_what + 4) + [presence]])
    return tf.tile(ops.concat([nothing, start]), tf.stack([rows, 1]))


def split_carry(carry, n_what):
    """`[m, Z + 5 + D]` to a `SlotCarry`."""
    n_object = n_what + 5
    return SlotCarry(*tf.split(carry, [n_object, carry.shape.as_list()[1] - n_object], axis=-1))


def packed_objects(packed, n_what):
    """`PackedObjects` of `[R, N, n]` that begins with what, where and presence; `n_what`: int Z."""
    widths = n_what, 4, 1, packed.shape.as_list()[-1] - n_what - 5
    return PackedObjects(*tf.split(packed, widths, axis=-1)[:3], packed)


class DiscoveryCore(snt.AbstractModule):
    """One slot of discovery: RNN, where, what and presence, in this order."""

    def __init__(
        self, glimpse_encoder, n_what, hidden_size, transition, scale_bias, step_bias, name="discovery_core"
    ):
        """Sets the core up.

        Args:
            glimpse_encoder: `GlimpseEncoder`, shared with propagation.
            n_what: int Z.
            hidden_size: int D.
            transition: name of the recurrent core over slots.
            scale_bias: float, where the offset of the raw location scales starts.
            step_bias: float, where the bias of the presence logit starts.
        """
        super().__init__(name=name)
        self._glimpse_encoder = glimpse_encoder
        with self._enter_variable_scope():
            widths = [hidden_size, hidden_size, n_what + 5]  # the image, what is propagated, the slot before
            self.transition = make_core(transition, hidden_size, widths, "transition", "transition")
            self._where = WhereStatistics(hidden_size, scale_bias)
            self._presence = MLP([hidden_size // 2], 1, step_bias, name="presence")

    def prepare(self, image_encoding, image_index, summary):
        """What the image and the propagated objects add to the RNN's preactivations.

        Args:
            image_encoding: `[B, D]`.
            image_index: `[R]` int32, the image of each row.
            summary: `[R, D]` encoding of the propagated objects.

        Returns:
            `[R, k]`.
        """
        of_image = tf.gather_nd(self.transition.share((0,))(image_encoding), image_index[:, None])
        return of_image + self.transition.share((1,), bias=False)(summary)

    def _build(self, padded_images, image_index, context, noise, previous):
        """Discovers one object, or none, in each row where the slot before did.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_index: `[m]` int32.
            context: `[m, k]` from `prepare`.
            noise: `StepNoise` of `[m, n]`.
            previous: `SlotCarry` of the slot before.

        Returns:
            Tuple of `SlotObjects` of `[m, n]` and the RNN's next state `[m, D]`.
        """
        features, hidden = self.transition(previous.objects, previous.hidden, context, (2,))
        where_loc, raw_scale = self._where(features)
        where_scale = positive_scale(raw_scale)
        where = where_loc + where_scale * tf.stop_gradient(noise.where)
        seen = self._glimpse_encoder(padded_images, image_index, where)
        what = seen.loc + seen.scale * tf.stop_gradient(noise.what)
        logit = self._presence(ops.concat([features, what]))
        presence = ops.sample_presence(noise.presence, probability(logit))
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

    def _build(self, padded_images, image_encoding, image_index, summary, noise):
        """Discovers the new objects of one frame.

        Args:
            padded_images: `[B, P, Q, C]`.
            image_encoding: `[B, D]`.
            image_index: `[R]` int32, the image of each row.
            summary: `[R, D]` encoding of the propagated objects.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `PackedObjects`, of `SlotObjects` alone; zeros where the slot before discovered nothing.
        """
        n_rows, (n_slots, n_what) = ops.rows_of(summary), noise.what.shape.as_list()[1:]
        context = self._core.prepare(image_encoding, image_index, summary)
        carry = first_carry(self._start, n_rows, n_what, 1.0)
        running, slots, objects = SlotRows(tf.fill([n_rows], True), n_slots, self._compact), [], None
        for packed_noise in tf.unstack(ops.concat(noise), axis=1):
            if slots:
                running.add(objects.presence[:, 0] > 0.5)
                image_index, context, carry = [running.follow(x) for x in (image_index, context, carry)]
                packed_noise = running.take(packed_noise)
            slot_noise = ops.split_like(packed_noise, noise)
            previous = split_carry(carry, n_what)
            objects, hidden = self._core(padded_images, image_index, context, slot_noise, previous)
            slots.append(ops.concat(objects))
            carry = ops.concat([objects[:3], hidden])
        return packed_objects(running.scatter(slots), n_what)
