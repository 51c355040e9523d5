# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: finds the objects of a frame that propagation does not explain (section 3.2 of the paper)."""

from sqair.engine.active_slots import ActiveSlots, scan_slots, split_slots
from sqair.engine.early import EarlyProducts
from sqair.engine.layers import MLP, make_core
from sqair.engine.tensors import gather_rows, size
from sqair.graph_mode import snt, tf
from sqair.model.distributions import positive_scale, probability, sample_bernoulli
from sqair.model.networks import WhereStatistics
from sqair.model.slots import PreviousSlot, before_first_slot, squeeze_last
from sqair.model.structures import SampledObjects


class DiscoveryCore(snt.AbstractModule):
    """One slot of discovery: relation to other objects, then where, what and presence, in this order."""

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
        d, z = hidden_size, n_what
        with self._enter_variable_scope():
            inputs = dict(image=d, propagated=d, what_nm1=z, where_nm1=4, presence_nm1=1)
            self.relation = make_core(transition, d, inputs, argument="transition", name="transition")
            self._where = WhereStatistics(d, scale_bias, dict(relation=d))
            self._presence = MLP([d // 2], 1, step_bias, dict(relation=d, what=z), name="presence")
        self._multiply = EarlyProducts(self.relation)

    def prepare(self, image_encoding, image_index, propagated_summary):
        """All that depends on the image and on the propagated objects alone.

        Args:
            image_encoding: `[B, D]`.
            image_index: `[R]` int32, the image of each row.
            propagated_summary: `[R, D]`, encoding of the propagated objects.

        Returns:
            `Early` of image and propagated, `[R, n]`.
        """
        of_images = self._multiply(image=image_encoding)
        of_rows = tf.nest.map_structure(lambda x: gather_rows(x, image_index), of_images)
        return self._multiply(of_rows, propagated=propagated_summary)

    def _build(self, images, noise, nm1, image_index, early):
        """Discovers one object, or none, in each row where the slot before did.

        Args:
            images: `[B, P, Q, C]`, padded.
            noise: `StepNoise` of `[m, n]`.
            nm1: `PreviousSlot`, slot n - 1.
            image_index: `[m]` int32.
            early: `Early`, stands for image and propagated.

        Returns:
            Tuple of `SampledObjects` of `[m, n]` and the `PreviousSlot` of slot n + 1.
        """
        relation, hidden = self.relation(
            nm1.hidden,
            image=early.image,
            propagated=early.propagated,
            what_nm1=nm1.what,
            where_nm1=nm1.where,
            presence_nm1=nm1.presence,
        )
        where_loc, raw_scale = self._where(relation=relation)
        where_scale = positive_scale(raw_scale)
        where = where_loc + where_scale * tf.stop_gradient(noise.where)

        seen = self._glimpse_encoder(images, image_index, where)
        what = seen.loc + seen.scale * tf.stop_gradient(noise.what)

        logit = self._presence(relation=relation, what=what)
        presence = sample_bernoulli(noise.presence, probability(logit))
        sampled = SampledObjects(what, where, presence, logit, seen.loc, seen.scale, where_loc, where_scale)
        return sampled, PreviousSlot(what, where, presence, hidden)


class Discovery(snt.AbstractModule):
    """Runs the core over slots, each where the one before found something."""

    def __init__(self, core, compact=True, name="discovery"):
        """Args: core: `DiscoveryCore`; compact: run only rows that can still discover something?"""
        super().__init__(name=name)
        self._core, self._compact = core, compact
        with self._enter_variable_scope():
            shape = [1] + core.relation.state_size.as_list()
            self._start = tf.get_variable("start", shape, initializer=tf.zeros_initializer())

    def _build(self, images, image_encoding, image_index, propagated_summary, noise):
        """Discovers the new objects of one frame.

        Args:
            images: `[B, P, Q, C]`, padded.
            image_encoding: `[B, D]`.
            image_index: `[R]` int32, the image of each row.
            propagated_summary: `[R, D]`, encoding of the propagated objects.
            noise: `StepNoise` of `[R, N, n]`.

        Returns:
            `SampledObjects` of `[R, N, n]`; zeros where a slot did not run, since the one before found nothing.
        """
        rows, (n_slots, n_what) = size(propagated_summary), noise.what.shape.as_list()[1:]
        early = self._core.prepare(image_encoding, image_index, propagated_summary)

        def step(noise, nm1, image_index, early):
            sampled, carry = self._core(images, noise, nm1, image_index, early)
            return (sampled,), carry

        active = ActiveSlots(tf.fill([rows], True), n_slots, self._compact)  # grows slot by slot
        (sampled,) = scan_slots(
            step,
            active,
            slot_inputs=split_slots(noise),
            carry=before_first_slot(rows, n_what, presence=1.0, hidden=self._start),
            row_inputs=(image_index, early),
            found=lambda sampled: squeeze_last(sampled.presence) > 0.5,
        )
        return active.scatter(sampled)
