# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat (Kosiorek et al. 2018, arXiv:1806.01794): one time-step, and the whole model."""

import sonnet as snt
import tensorflow as tf

from sqair.engine import active_slots as compaction
from sqair.engine import ops
from sqair.engine.layers import MLP
from sqair.engine.loop_gradients import DeferredGradients
from sqair.engine.static_gradients import static_gradients
from sqair.model import spatial_transformer
from sqair.model.decoder import Decoder
from sqair.model.discovery import Discovery, DiscoveryCore
from sqair.model.networks import GlimpseEncoder, ImageEncoder
from sqair.model.priors import DiscoveryPrior, PropagationPrior
from sqair.model.propagation import Propagation, PropagationCore
from sqair.model.scoring import Scoring
from sqair.model.structures import CellOutputs, FrameInputs, SequenceOutputs, SQAIRState, packed_widths

UNITS = 32  # hidden units per `n_units`
PARTS = 2  # parts of a batch that are unrolled side by side


class SQAIRCell(snt.RNNCore):
    """One time-step: propagate the objects of the last frame, discover new ones, keep the present ones."""

    def __init__(self, propagation, discovery, hidden_size, n_steps, n_what, compact=True, name="sqair_cell"):
        """Args: propagation, discovery: the two modules; hidden_size, n_steps, n_what: ints D, N, Z."""
        super().__init__(name=name)
        self._propagation, self._discovery = propagation, discovery
        self._n_steps, self._n_what, self._compact = n_steps, n_what, compact
        self._hidden_size = hidden_size
        with self._enter_variable_scope():
            self._summary = MLP([hidden_size] * 2, name="object_summary")
            zeros = tf.zeros_initializer()
            self._temporal_start = tf.compat.v1.get_variable(
                "temporal_start", [1, hidden_size], initializer=zeros
            )
            self._prior_start = tf.compat.v1.get_variable("prior_start", [1, hidden_size], initializer=zeros)

    def initial_state(self, rows):
        """The `SQAIRState` before the first frame: nothing is there. `rows`: int or scalar tensor R."""
        slots = [rows, self._n_steps]
        what, where, presence = [tf.fill(slots + [size], 0.0) for size in (self._n_what, 4, 1)]
        return SQAIRState(
            what,
            where,
            presence,
            *[
                tf.tile(x[:, None], tf.stack([rows, self._n_steps, 1]))
                for x in (self._temporal_start, self._prior_start)
            ],
            tf.fill(slots + [1], -1.0),
            tf.fill([rows, 1], -1.0),
        )

    def _build(self, inputs, state):
        """One time-step.

        Args:
            inputs: `FrameInputs`; the image padded by `spatial_transformer.pad_images`.
            state: `SQAIRState`.

        Returns:
            Tuple of `CellOutputs` and the next `SQAIRState`.
        """
        k_particles = inputs.noise.discovery.presence.shape.as_list()[1]
        noise = tf.nest.map_structure(ops.merge, inputs.noise)
        image_index = tf.convert_to_tensor(ops.image_of_rows(ops.rows_of(state.last_id), k_particles))

        propagated = self._propagation(inputs.image, image_index, state, noise.propagation)
        summary = self._summarise(propagated.objects)
        discovered = self._discovery(
            inputs.image, inputs.image_encoding, image_index, summary, noise.discovery
        )
        kept, next_state = self._keep(propagated, discovered, state)
        outputs = CellOutputs(kept, propagated.objects.packed, discovered.packed, summary)
        return outputs, next_state

    def _summarise(self, objects):
        """`[R, D]`: the sum of the encodings of the present objects."""
        summaries = compaction.call_where(
            self._summary,
            tf.reshape(objects.presence, [-1]) > 0.5,
            [ops.merge(ops.concat([objects.what, objects.where]))],
            0.0,
            self._compact,
        )
        return tf.reduce_sum(tf.reshape(summaries, [-1, self._n_steps, self._hidden_size]), axis=1)

    def _keep(self, propagated, discovered, state):
        """Joins both kinds, keeps the present objects, and gives the new ones their ids and states.

        Returns:
            Tuple of the packed `KeptObjects` and the next `SQAIRState`.
        """
        old = propagated.objects
        old_ids = old.presence * (state.object_ids + 1.0) - 1.0
        new_ids, last_id = ops.next_ids(state.last_id, tf.squeeze(discovered.presence, axis=-1))
        fields = old.what, old.where, old.presence, old_ids
        new = discovered.what, discovered.where, discovered.presence, tf.expand_dims(new_ids, -1)
        presence = tf.squeeze(tf.concat([old.presence, discovered.presence], axis=1), axis=-1)
        slots = ops.present_first(presence, self._n_steps)
        kept = ops.take_slots(tf.concat([ops.concat(fields), ops.concat(new)], axis=1), slots)
        what, where, presence, object_ids = ops.split_like(kept, fields)

        old_rows = tf.expand_dims(propagated.row_numbers, -1)
        rows = ops.merge(ops.take_slots(tf.concat([old_rows, tf.zeros_like(old_rows)], axis=1), slots))
        states = [
            tf.reshape(
                tf.gather_nd(tf.concat([start, of_old], 0), rows), [-1, self._n_steps, self._hidden_size]
            )
            for start, of_old in zip((self._temporal_start, self._prior_start), propagated.states)
        ]
        kept = ops.concat([kept, tf.expand_dims(tf.cast(slots, tf.float32), -1)])
        return kept, SQAIRState(what, where, presence, *states, object_ids, last_id)

    @property
    def state_size(self):
        """Shapes of `SQAIRState`, without the rows."""
        what, where, one, hidden = self._sizes(self._n_what, 4, 1, self._hidden_size)
        return SQAIRState(what, where, one, hidden, hidden, one, tf.TensorShape([1]))

    @property
    def output_size(self):
        """Shapes of `CellOutputs`, without the rows."""
        kept, propagated, discovered, _ = packed_widths(self._n_what)
        sizes = [sum(tf.nest.flatten(widths)) for widths in (kept, propagated, discovered)]
        return CellOutputs(*self._sizes(*sizes), tf.TensorShape([self._hidden_size]))

    def _sizes(self, *sizes):
        return [tf.TensorShape([self._n_steps, size]) for size in sizes]


class SQAIR(snt.AbstractModule):
    """The model of a batch of videos: encodes all frames, unrolls the cell over time, decodes all frames."""

    def __init__(
        self,
        mean_image,
        n_steps_per_image=3,
        n_what=50,
        n_units=8,
        glimpse_size=20,
        transition="VanillaRNN",
        time_transition="GRU",
        prior_transition="GRU",
        output_std=0.3,
        output_scale=0.25,
        scale_prior=(-2.0, -2.0),
        transform_var_bias=-3.0,
        disc_step_bias=1.0,
        prop_step_bias=5.0,
        prop_prior_step_bias=10.0,
        prop_prior_type="rnn",
        disc_prior_type="cat",
        step_success_prob=0.75,
        masked_glimpse=True,
        rec_where_prior=True,
        debug=False,
        compact=True,
        name="sqair",
    ):
        """Sets the model up; the arguments are the flags of the same names (see `common_model_flags`).

        Args:
            mean_image: `[H, W, C]` float32 array in [0, 1], where the learned background starts.
            scale_prior: two floats, prior mean of the scale logits (x, y).
            debug: bool, check every tensor of the result for NaN and infinity.
            compact: bool, compute only the objects that exist (dynamic shapes) instead of all slots.

        Raises:
            UserError: if a type or core is unknown.
        """
        super().__init__(name=name)
        self.n_steps, self.n_what = n_steps_per_image, n_what
        self._debug, self._image_shape = debug, tuple(mean_image.shape)
        self._parts = PARTS if compact else 1  # accelerators share the work within an operation
        hidden_size = UNITS * n_units
        with self._enter_variable_scope(), static_gradients():
            self._image_encoder = ImageEncoder(hidden_size)
            glimpse_encoder = GlimpseEncoder(
                mean_image.shape, glimpse_size, hidden_size, n_what, masked_glimpse
            )
            core = PropagationCore(
                glimpse_encoder,
                n_what,
                hidden_size,
                transition,
                time_transition,
                transform_var_bias,
                prop_step_bias,
            )
            propagation_prior = PropagationPrior(
                n_what, hidden_size, prior_transition, prop_prior_type, prop_prior_step_bias
            )
            propagation = Propagation(core, propagation_prior, compact)
            discovery = Discovery(
                DiscoveryCore(
                    glimpse_encoder, n_what, hidden_size, transition, transform_var_bias, disc_step_bias
                ),
                compact,
            )
            discovery_prior = DiscoveryPrior(
                n_steps_per_image, disc_prior_type, step_success_prob, scale_prior, rec_where_prior
            )
            self._cell = SQAIRCell(propagation, discovery, hidden_size, n_steps_per_image, n_what, compact)
            self._scoring = Scoring(core.where_distribution, propagation_prior, discovery_prior, compact)
            self._decoder = Decoder(mean_image, glimpse_size, hidden_size, output_scale, output_std, compact)

    def _build(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `FrameNoise` of `[T, B, K, N, n]` for what and where, `[T, B, K, N]` for presence.

        Returns:
            `SequenceOutputs`.

        Raises:
            ValueError: if images and noise do not fit each other or the model.
        """
        ops.check_shape(images, (None, None) + self._image_shape, "images")
        for kind in noise:
            slots = images.shape.as_list()[:2] + [None, self.n_steps]
            ops.check_shape(kind.what, slots + [self.n_what], "noise of what")
            ops.check_shape(kind.where, slots + [4], "noise of where")
            ops.check_shape(kind.presence, slots, "noise of presence")
        noise = tf.nest.map_structure(lambda x: x[..., None] if x.shape.ndims == 4 else x, noise)
        batch_size = ops.rows_of(images, axis=1)
        k_particles = noise.discovery.presence.shape.as_list()[2]
        with static_gradients():
            frames = ops.merge(images)
            padded = ops.split_first(spatial_transformer.pad_images(frames), batch_size)
            encodings = ops.split_first(self._image_encoder(frames), batch_size)
            inputs = FrameInputs(padded, encodings, noise)
            inferred = _unroll(self._cell, inputs, k_particles, self._parts)
            steps = self._scoring(inferred, tf.nest.map_structure(lambda x: ops.merge(ops.merge(x)), noise))
            outputs = self._decode(images, steps, k_particles)
        return _checked(outputs, "model") if self._debug else outputs

    def _decode(self, images, steps, k_particles):
        """Decodes and paints frame by frame: the cores share frames, and canvases stay in the processor's cache."""
        latents = steps.latents
        rows = ops.rows_of(steps.log_q, axis=1)
        image_index = ops.image_of_rows(rows, k_particles)

        def paint(frame):
            image, what, where, presence = frame
            painting = self._decoder(what, where, presence)
            return painting.canvas, self._decoder.log_likelihood(tf.gather(image, image_index), painting)

        frames = images, latents.what, latents.where, latents.presence
        canvas, log_likelihood = tf.map_fn(paint, frames, dtype=(tf.float32, tf.float32))
        log_weights = log_likelihood + steps.log_p - steps.log_q
        glimpses = self._decoder.glimpses(ops.merge(latents.what), ops.merge(latents.presence))
        glimpses = ops.split_first(glimpses, rows)  # to look at
        return SequenceOutputs(steps, canvas, glimpses, log_likelihood, log_weights)


def _checked(value, name):
    """The same structure, whose tensors fail by their names if they are not finite."""
    if isinstance(value, tuple):
        return type(value)(*[_checked(x, f"{name}.{field}") for field, x in zip(value._fields, value)])
    return tf.debugging.check_numerics(value, f"{name} is not finite")


def _unroll(cell, inputs, k_particles, parts):
    """Scans the cell over time, for parts of the batch side by side.

    One loop runs the parts in turn, each with a state of its own: with two, iteration `2 t + h` is frame t of half h.
    It does not wait for iteration `2 t + h - 1`: two cores work where the frames of one sequence keep one busy.

    Args:
        cell: `SQAIRCell`.
        inputs: `FrameInputs` of `[T, B, ...]`.
        k_particles: int K.
        parts: int, how many if the batch can be divided by it.

    Returns:
        `CellOutputs` of `[T, R, ...]`.
    """
    batch_size = ops.rows_of(inputs.image, axis=1)
    parts = parts if isinstance(batch_size, int) and batch_size % parts == 0 else 1
    part_size = batch_size // parts
    inputs = tf.nest.map_structure(lambda x: ops.split_first(ops.merge(x), part_size), inputs)
    states = [cell.initial_state(part_size * k_particles)] * parts
    length = tf.shape(inputs.image)[0]
    deferred = DeferredGradients(length)

    def unstack(tensor):
        return tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape[1:]).unstack(tensor)

    images, encodings, noise = (
        unstack(inputs.image),
        unstack(inputs.image_encoding),
        unstack(ops.concat(inputs.noise)),
    )

    def step(index, results, states):
        state, *others = states
        frame_noise = ops.split_like(noise.read(index), inputs.noise)
        frame = FrameInputs(images.read(index), encodings.read(index), frame_noise)
        with deferred.inside(index):
            outputs, next_state = cell(frame, state)
        for tensor, like in zip(tf.nest.flatten(next_state), tf.nest.flatten(state)):
            tensor.set_shape(like.shape)
        results = [array.write(index, tensor) for array, tensor in zip(results, outputs)]
        return index + 1, results, others + [next_state]

    results = [tf.TensorArray(tf.float32, length) for _ in cell.output_size]
    _, results, _ = tf.while_loop(lambda index, *_: index < length, step, (0, results, states))
    rows = batch_size * k_particles
    whole = [ops.split_first(ops.merge(array.stack()), rows) for array in results]
    for tensor, size in zip(whole, cell.output_size):
        tensor.set_shape([None, rows if isinstance(rows, int) else None] + size.as_list())
    return CellOutputs(*whole)
