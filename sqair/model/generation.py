# SPDX-License-Identifier: GPL-3.0-or-later
"""Generation: one time-step of the prior alone, `p(z_t | z_{t-1})` (section 3.1 of the paper)."""

from sqair.engine.active_slots import ActiveSlots
from sqair.engine.tensors import merge_leading, take_slots
from sqair.graph_mode import snt, tf
from sqair.model.distributions import probability, sample_bernoulli
from sqair.model.priors import expected_propagations
from sqair.model.propagation import PropagationOutputs
from sqair.model.slots import mask_absent_logit, squeeze_last
from sqair.model.structures import CellOutputs, GenerativeState, PropagatedObjects, SampledObjects


class GenerativeCell(snt.RNNCore):
    """As `SQAIRCell`, but objects move, vanish and appear as the priors say, and no image is seen.

    Its outputs are those of an inference whose posterior is the prior, so that they can be scored in the same way. It
    has no variables of its own.

    Differs: the authors' release has a switch for this, without effect. Random-walk priors on presence go on from the
    posterior's logit; here, from the one that presence was drawn with, which for a new object is that of its count.
    """

    def __init__(self, cell, propagation_prior, discovery_prior, compact=True, name="generative_cell"):
        """Args: cell: the `SQAIRCell` of inference; the two priors; compact: run only what exists?"""
        super().__init__(name=name)
        self._cell, self._compact = cell, compact
        self._propagation_prior, self._discovery_prior = propagation_prior, discovery_prior

    def initial_state(self, rows):
        """The `GenerativeState` before the first frame: no object. `rows`: int or scalar tensor R."""
        objects = self._cell.initial_state(rows)
        return GenerativeState(objects, tf.zeros_like(objects.presence), tf.zeros_like(objects.last_id))

    def state_after(self, objects, presence_logit):
        """The `GenerativeState` after inference: `SQAIRState` and logits `[R, N]` of its last frame."""
        return GenerativeState(objects, tf.expand_dims(presence_logit, -1), tf.ones_like(objects.last_id))

    def _build(self, noise, state):
        """One time-step.

        Args:
            noise: `FrameNoise` of `[B, K, N, n]`.
            state: `GenerativeState` of R = B * K rows.

        Returns:
            Tuple of `CellOutputs` and the next `GenerativeState`.
        """
        noise = tf.nest.map_structure(merge_leading, noise)
        propagated, expected = self._propagate(state, noise.propagation)
        sampled = propagated.objects.sampled
        summary = self._cell.summarise(sampled)
        discovered = self._discovery_prior.sample(noise.discovery, summary, expected, state.is_later)
        kept, objects = self._cell.keep(propagated, discovered, state.objects)

        # Empty slots of discovery are never kept: those of propagation come first, and are enough.
        old_logit = mask_absent_logit(sampled.presence_logit, state.objects.presence)
        logits = tf.concat([old_logit, discovered.presence_logit], axis=1)
        logit = take_slots(logits, tf.cast(squeeze_last(kept.slots), tf.int32))
        outputs = CellOutputs(kept, propagated.objects, discovered, summary)
        return outputs, GenerativeState(objects, logit, tf.ones_like(state.is_later))

    def _propagate(self, state, noise):
        """`PropagationOutputs`, and how many objects the prior expects to stay, `[R, 1]`."""
        objects, prior = state.objects, self._propagation_prior
        active = ActiveSlots.known(squeeze_last(objects.presence) > 0.5, self._compact)
        what, where = active.gather((objects.what, objects.where))
        prior_state = prior.step(what, where, active.gather(objects.prior_state))
        statistics = active.scatter(prior(what, where, prior_state))

        logit = mask_absent_logit(statistics.presence_logit, objects.presence)
        logit = prior.presence_logit(squeeze_last(logit), squeeze_last(state.presence_logit))
        expected, logit = expected_propagations(logit), tf.expand_dims(logit, -1)
        presence = objects.presence * sample_bernoulli(noise.presence, probability(logit))
        what = presence * (statistics.what_loc + statistics.what_scale * noise.what)
        where = presence * (statistics.where_loc + statistics.where_scale * noise.where)
        sampled = SampledObjects(
            what,
            where,
            presence,
            logit,
            statistics.what_loc,
            statistics.what_scale,
            statistics.where_loc,
            statistics.where_scale,
        )
        temporal_state = active.gather(objects.temporal_state)  # of inference alone: stays as it was
        found = PropagatedObjects(sampled, statistics)
        return PropagationOutputs(found, active, temporal_state, prior_state), expected

    @property
    def state_size(self):
        """Shapes of `GenerativeState`, without the rows."""
        objects = self._cell.state_size
        return GenerativeState(objects, objects.presence, objects.last_id)

    @property
    def output_size(self):
        """Shapes of `CellOutputs`, without the rows."""
        return self._cell.output_size
