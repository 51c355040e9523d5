# SPDX-License-Identifier: GPL-3.0-or-later
"""One time-step of SQAIR: propagate, discover, keep the present objects (section 3 of the paper)."""

from sqair.engine.active_slots import masked_sum
from sqair.engine.layers import MLP
from sqair.engine.tensors import merge_leading, pack, range_of, size, take_slots, unpack
from sqair.graph_mode import snt, tf
from sqair.model.slots import next_ids, present_first, squeeze_last
from sqair.model.structures import (
    CellOutputs,
    KeptObjects,
    PropagatedObjects,
    PropagationStatistics,
    SampledObjects,
    SQAIRState,
)


class SQAIRCell(snt.RNNCore):
    """Propagates the objects of the last frame, discovers new ones, keeps the present ones."""

    def __init__(self, propagation, discovery, hidden_size, n_steps, n_what, compact=True, name="sqair_cell"):
        """Args: propagation, discovery: the two modules; hidden_size, n_steps, n_what: ints D, N, Z."""
        super().__init__(name=name)
        self._propagation, self._discovery = propagation, discovery
        self._hidden_size, self._n_steps, self._n_what = hidden_size, n_steps, n_what
        self._compact = compact
        with self._enter_variable_scope():
            self._encode = MLP([hidden_size] * 2, inputs=dict(what=n_what, where=4), name="object_summary")
            self._temporal_start, self._prior_start = [
                tf.get_variable(name, [1, hidden_size], initializer=tf.zeros_initializer())
                for name in ("temporal_start", "prior_start")
            ]

    def initial_state(self, rows):
        """The `SQAIRState` before the first frame: no object. `rows`: int or scalar tensor R."""
        what, where, presence = [tf.fill([rows, self._n_steps, width], 0.0) for width in (self._n_what, 4, 1)]
        temporal_state, prior_state = [
            tf.tile(start[:, None], tf.stack([rows, self._n_steps, 1]))
            for start in (self._temporal_start, self._prior_start)
        ]
        object_ids, last_id = tf.fill([rows, self._n_steps, 1], -1.0), tf.fill([rows, 1], -1.0)
        return SQAIRState(what, where, presence, temporal_state, prior_state, object_ids, last_id)

    def _build(self, inputs, state):
        """One time-step.

        Args:
            inputs: `FrameInputs` of B images and K particles each.
            state: `SQAIRState` of R = B * K rows.

        Returns:
            Tuple of `CellOutputs` and the next `SQAIRState`.
        """
        noise = tf.nest.map_structure(merge_leading, inputs.noise)
        particles = inputs.noise.discovery.what.shape.as_list()[1]
        image_index = tf.convert_to_tensor(
            range_of(size(state.last_id)) // particles
        )  # row b * K + k: image b

        propagated = self._propagation(inputs.image, image_index, state, noise.propagation)
        summary = self.summarise(propagated.objects.sampled)
        discovered = self._discovery(
            inputs.image, inputs.image_encoding, image_index, summary, noise.discovery
        )
        kept, next_state = self.keep(propagated, discovered, state)
        return CellOutputs(kept, propagated.objects, discovered, summary), next_state

    def summarise(self, objects):
        """`[R, D]`: the sum of the encodings of the present objects, `SampledObjects` of `[R, N, n]`."""
        return masked_sum(
            lambda what, where: self._encode(what=what, where=where),
            squeeze_last(objects.presence) > 0.5,
            [objects.what, objects.where],
            self._compact,
        )

    def keep(self, propagated, discovered, state):
        """Keeps the present objects, propagated ones first, at most N; new ones get ids and the learned states.

        Surplus objects are dropped, but have used up their ids and are scored, as in the authors' release.

        Args:
            propagated: `PropagationOutputs`.
            discovered: `SampledObjects` of `[R, N, n]`.
            state: `SQAIRState` of the last frame.

        Returns:
            Tuple of `KeptObjects` and the next `SQAIRState`.
        """
        old, new = propagated.objects.sampled, discovered
        presence = squeeze_last(tf.concat([old.presence, new.presence], axis=1))
        slots = present_first(presence, self._n_steps)

        old_ids = old.presence * (state.object_ids + 1.0) - 1.0
        new_ids, last_id = next_ids(state.last_id, squeeze_last(new.presence))
        old = old.what, old.where, old.presence, old_ids
        new = new.what, new.where, new.presence, tf.expand_dims(new_ids, -1)
        kept = unpack(take_slots(tf.concat([pack(old), pack(new)], axis=1), slots), old)
        what, where, presence, object_ids = kept

        # Slots from N on are new, and like empty ones start from what is learned.
        temporal_state = propagated.active.select(propagated.temporal_state, slots, self._temporal_start)
        prior_state = propagated.active.select(propagated.prior_state, slots, self._prior_start)
        kept = KeptObjects(
            *kept, tf.expand_dims(tf.cast(slots, tf.float32), -1)
        )  # a float, to travel with the others
        return kept, SQAIRState(what, where, presence, temporal_state, prior_state, object_ids, last_id)

    @property
    def state_size(self):
        """Shapes of `SQAIRState`, without the rows."""
        what, where, one, hidden = self._sizes(self._n_what, 4, 1, self._hidden_size)
        return SQAIRState(what, where, one, hidden, hidden, one, tf.TensorShape([1]))

    @property
    def output_size(self):
        """Shapes of `CellOutputs`, without the rows."""
        what, where, one = self._sizes(self._n_what, 4, 1)
        sampled = SampledObjects(what, where, one, one, what, what, where, where)
        prior = PropagationStatistics(one, where, what, where, what)
        kept = KeptObjects(what, where, one, one, one)
        summary = tf.TensorShape([self._hidden_size])
        return CellOutputs(kept, PropagatedObjects(sampled, prior), sampled, summary)

    def _sizes(self, *widths):
        return [tf.TensorShape([self._n_steps, width]) for width in widths]
