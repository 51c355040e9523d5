# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation: follows the objects of the last frame into this one (section 3.2 of the paper)."""

from typing import Any, NamedTuple

from sqair.engine.active_slots import ActiveSlots, scan_slots
from sqair.engine.early import EarlyProducts
from sqair.engine.layers import MLP, Linear, fixed_scalar, make_core
from sqair.engine.tensors import size
from sqair.graph_mode import snt, tf
from sqair.model.distributions import (
    MIN_SCALE,
    AffineDiagonalNormal,
    positive_scale,
    probability,
    sample_bernoulli,
)
from sqair.model.networks import WhatStatistics, WhereStatistics
from sqair.model.slots import PreviousSlot, before_first_slot, squeeze_last
from sqair.model.structures import PropagatedObjects, SampledObjects

GLIMPSE_SHIFT_HIDDEN = 128
GLIMPSE_SHIFT_SCALE = 0.1  # how far the first glimpse may look away from the last location, in logits
MAX_GATE = 0.9999
GATE_BIAS = 1.0
RAW_SCALE_SHIFT = -1.0  # makes moves of propagated objects less noisy than discoveries


class PastObject(NamedTuple):
    """An object at t - 1 and what is known of its slot before the slots have their turn."""

    what: Any  # [m, Z]
    where: Any  # [m, 4] logits
    noise: Any  # `StepNoise` of [m, n]; that of where is mixed: L e, with a learned lower-triangular L
    image_index: Any  # [m] int32, the image that it is in
    mask: Any  # [m, g, g, C] of its glimpses
    early: Any  # `Early`: stands for temporal, glimpse, what_tm1, where_tm1 and presence_tm1 where layers take them


class PropagationOutputs(NamedTuple):
    """Propagated objects of one frame, before any is dropped; zeros where nothing was to propagate."""

    objects: PropagatedObjects  # [R, N, n]
    active: ActiveSlots  # the slots that held an object at t - 1
    temporal_state: Any  # [M, D] of each of those
    prior_state: Any  # [M, D]


class PropagationCore(snt.AbstractModule):
    """One slot of propagation: relation to other objects, then where, what and presence, in this order."""

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
        d, z = hidden_size, n_what
        with self._enter_variable_scope():
            self._glimpse_shift = MLP(
                [GLIMPSE_SHIFT_HIDDEN], 4, inputs=dict(temporal=d), name="glimpse_shift"
            )
            previous = dict(what_nm1=z, where_nm1=4, presence_nm1=1)
            past = dict(what_tm1=z, where_tm1=4, presence_tm1=1, temporal=d)
            self.relation = make_core(
                transition, d, dict(glimpse=z, **previous, **past), argument="transition", name="transition"
            )
            self._where = WhereStatistics(d, scale_bias, dict(relation=d, where_tm1=4, temporal=d))
            self._update_scale = fixed_scalar("where_update_scale", 1.0)
            self.where_distribution = AffineDiagonalNormal(4)
            self._temporal = make_core(
                time_transition,
                d,
                dict(relation=d, where=4, seen_loc=z, seen_scale=z),
                argument="time_transition",
                state="temporal",
                name="temporal",
            )
            self._expected = Linear(2 * z, dict(output=d), name="what_statistics")
            self._min_scale = fixed_scalar("what_min_scale", MIN_SCALE)
            self._gates = Linear(3 * z, dict(output=d), tf.constant_initializer(GATE_BIAS), name="what_gates")
            self._presence = MLP(
                [d // 2], 1, step_bias, dict(relation=d, temporal=d, what=z), name="presence"
            )
        # Layers that take something of the last frame, which is multiplied for all slots at once.
        self._multiply = EarlyProducts(
            self._glimpse_shift,
            *glimpse_encoder.mask_layers,
            self.relation,
            self._where,
            self._temporal,
            self._presence,
        )
        self._multiply_output = EarlyProducts(self._expected, self._gates)

    def prepare(self, images, image_index, what, where, presence, temporal_state, noise):
        """All that depends on the last frame alone: looks near the old location, with the mean appearance seen there.

        Args:
            images: `[B, P, Q, C]`, padded.
            image_index: `[m]` int32, the image of each object.
            what, where, presence, temporal_state: `[m, n]` at t - 1, of the objects of all slots.
            noise: `StepNoise` of `[m, n]`.

        Returns:
            `PastObject`.
        """
        early = self._multiply(temporal=temporal_state)
        shift = GLIMPSE_SHIFT_SCALE * self._glimpse_shift(temporal=early.temporal)
        mask = self._glimpse_encoder.mask(early.temporal)
        glimpse = self._glimpse_encoder(images, image_index, where + shift, mask).loc
        early = self._multiply(early, glimpse=glimpse, what_tm1=what, where_tm1=where, presence_tm1=presence)
        noise = noise._replace(where=self.where_distribution.mix(noise.where))
        return PastObject(what, where, noise, image_index, mask, early)

    def _build(self, images, tm1, nm1):
        """Propagates one object in each row, or lets it vanish.

        Args:
            images: `[B, P, Q, C]`, padded.
            tm1: `PastObject`, the object at t - 1.
            nm1: `PreviousSlot`, slot n - 1 at t.

        Returns:
            Tuple of `SampledObjects` of `[m, n]`, the temporal state `[m, D]` and the `PreviousSlot` of slot n + 1.
        """
        early = tm1.early
        relation, hidden = self.relation(
            nm1.hidden,
            glimpse=early.glimpse,
            what_nm1=nm1.what,
            where_nm1=nm1.where,
            presence_nm1=nm1.presence,
            what_tm1=early.what_tm1,
            where_tm1=early.where_tm1,
            presence_tm1=early.presence_tm1,
            temporal=early.temporal,
        )
        move, raw_scale = self._where(relation=relation, where_tm1=early.where_tm1, temporal=early.temporal)
        where_loc = tm1.where + self._update_scale * move
        where_scale = positive_scale(raw_scale + RAW_SCALE_SHIFT)
        where = self.where_distribution(where_loc, where_scale, tm1.noise.where)

        seen = self._glimpse_encoder(images, tm1.image_index, where, tm1.mask)
        output, temporal_state = self._temporal(
            early.temporal, relation=relation, where=where, seen_loc=seen.loc, seen_scale=seen.scale
        )
        what_loc, what_scale = self._what_statistics(output, tm1.what, seen)
        what = what_loc + what_scale * tf.stop_gradient(tm1.noise.what)

        # The temporal state of t - 1, as in the authors' release.
        logit = self._presence(relation=relation, temporal=early.temporal, what=what)
        presence = sample_bernoulli(tm1.noise.presence, probability(logit))
        sampled = SampledObjects(what, where, presence, logit, what_loc, what_scale, where_loc, where_scale)
        return sampled, temporal_state, PreviousSlot(what, where, presence, hidden)

    def _what_statistics(self, output, what_tm1, seen):
        """`WhatStatistics` of `f what_tm1 + (1 - i) seen + (1 - e) expected`, with gates f, i, e of the output."""
        output = self._multiply_output(output=output).output
        expected_loc, expected_scale = tf.split(self._expected(output=output), 2, axis=-1)
        expected_scale = positive_scale(expected_scale, self._min_scale)
        gates = MAX_GATE * tf.sigmoid(self._gates(output=output))
        keep_past, skip_seen, skip_expected = tf.split(gates, 3, axis=-1)
        use_seen, use_expected = 1.0 - skip_seen, 1.0 - skip_expected
        loc = keep_past * what_tm1 + use_seen * seen.loc + use_expected * expected_loc
        return WhatStatistics(loc, use_seen * seen.scale + use_expected * expected_scale)


class Propagation(snt.AbstractModule):
    """Runs the core over the slots of the last frame, and the prior beside it."""

    def __init__(self, core, prior, compact=True, name="propagation"):
        """Args: core: `PropagationCore`; prior: `PropagationPrior`; compact: run only what exists?"""
        super().__init__(name=name)
        self._core, self._prior, self._compact = core, prior, compact
        with self._enter_variable_scope():
            shape = [1] + core.relation.state_size.as_list()
            self._start = tf.get_variable("start", shape, initializer=tf.zeros_initializer())

    def _build(self, images, image_index, state, noise):
        """Propagates the objects of one frame.

        Args:
            images: `[B, P, Q, C]`, padded.
            image_index: `[R]` int32, the image of each row.
            state: `SQAIRState` of the last frame.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `PropagationOutputs`.
        """
        rows, n_slots, n_what = size(state.what), state.what.shape[1].value, state.what.shape[2].value
        active = ActiveSlots.known(squeeze_last(state.presence) > 0.5, self._compact)
        what, where, presence, noise = active.gather((state.what, state.where, state.presence, noise))
        temporal_state, prior_state = active.gather(state.temporal_state), active.gather(state.prior_state)
        image_index = active.gather(tf.tile(image_index[:, None], [1, n_slots]))

        past = self._core.prepare(images, image_index, what, where, presence, temporal_state, noise)
        prior_state = self._prior.step(what, where, prior_state)
        prior = self._prior(what, where, prior_state)

        def step(tm1, nm1):
            sampled, temporal_state, carry = self._core(images, tm1, nm1)
            return (sampled, temporal_state), carry

        first = before_first_slot(rows, n_what, presence=0.0, hidden=self._start)
        sampled, temporal_state = scan_slots(step, active, active.split(past), first)
        objects = active.scatter(PropagatedObjects(sampled, prior))
        return PropagationOutputs(objects, active, temporal_state, prior_state)
