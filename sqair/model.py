# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat (Kosiorek et al. 2018, arXiv:1806.01794): one time-step, and the whole model."""

import sonnet as snt
import tensorflow as tf

from sqair import ops, spatial_transformer
from sqair.decoder import Decoder
from sqair.discovery import Discovery, DiscoveryCore
from sqair.networks import MLP, GlimpseEncoder, ImageEncoder
from sqair.priors import DiscoveryPrior, PropagationPrior, expected_propagations
from sqair.propagation import Propagation, PropagationCore
from sqair.static_gradients import static_gradients
from sqair.structures import (
    FrameInputs,
    KindOutputs,
    Latents,
    LogProbs,
    Posterior,
    SequenceOutputs,
    SQAIRState,
    StepOutputs,
)

UNITS = 32  # hidden units per `n_units`


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
        zeros = lambda *sizes: tf.fill(slots + list(sizes), 0.0)  # noqa: E731
        latents = Latents(zeros(self._n_what), zeros(4), zeros(), zeros())
        starts = self._new_states(rows)
        return SQAIRState(latents, *starts, tf.fill(slots, -1.0), tf.fill([rows, 1], -1.0), tf.constant(0.0))

    def _new_states(self, rows):
        multiples = tf.stack([rows, self._n_steps, 1])
        tiled = [tf.tile(start[:, None], multiples) for start in (self._temporal_start, self._prior_start)]
        for tensor in tiled:
            tensor.set_shape([rows if isinstance(rows, int) else None, self._n_steps, self._hidden_size])
        return tiled

    def _build(self, inputs, state):
        """One time-step.

        Args:
            inputs: `FrameInputs`; the image padded by `spatial_transformer.pad_images`.
            state: `SQAIRState`.

        Returns:
            Tuple of `StepOutputs` and the next `SQAIRState`.
        """
        k_particles = inputs.noise.discovery.presence.shape.as_list()[1]
        batch_size = inputs.image.shape[0].value or tf.shape(inputs.image)[0]
        rows = batch_size * k_particles
        noise = tf.nest.map_structure(_merge_particles, inputs.noise)
        image_index = tf.range(rows) // k_particles

        propagated = self._propagation(
            inputs.image,
            image_index,
            state.latents,
            state.temporal_state,
            state.prior_state,
            noise.propagation,
        )
        encoding = tf.tile(inputs.image_encoding[:, None], [1, k_particles, 1])
        encoding = tf.reshape(encoding, [-1, encoding.shape.as_list()[-1]])
        discovered = self._discovery(
            inputs.image,
            image_index,
            ops.concat([encoding, self._summarise(propagated.latents)]),
            expected_propagations(propagated.prior_logit),
            state.time_step,
            noise.discovery,
        )
        (latents, posterior, object_ids), state = self._keep(propagated, discovered, state, rows)
        outputs = _step_outputs(propagated, discovered, latents, posterior, object_ids)
        return outputs, state

    def _summarise(self, latents):
        """`[R, D]`: the sum of the encodings of the present objects."""
        features = ops.concat([latents.what, latents.where])
        summaries = ops.call_where(
            self._summary,
            tf.reshape(latents.presence, [-1]) > 0.5,
            (tf.reshape(features, [-1, features.shape.as_list()[-1]]),),
            0.0,
            self._compact,
        )
        return tf.reduce_sum(tf.reshape(summaries, [-1, self._n_steps, self._hidden_size]), axis=1)

    def _keep(self, propagated, discovered, state, rows):
        """Joins both kinds, keeps the present objects, and gives the new ones their ids and states."""
        old_presence, new_presence = propagated.latents.presence, discovered.latents.presence
        old_ids = old_presence * (state.object_ids + 1.0) - 1.0
        new_ids, last_id = ops.next_ids(state.last_id, new_presence)
        new_states = self._new_states(rows)
        column = lambda tensors: tf.nest.map_structure(  # noqa: E731
            lambda x: x[..., None] if x.shape.ndims == 2 else x, tensors
        )
        old = (
            propagated.latents,
            propagated.posterior,
            old_ids,
            propagated.temporal_state,
            propagated.prior_state,
        )
        new = (discovered.latents, discovered.posterior, new_ids, new_states[0], new_states[1])
        packed = tf.concat([ops.concat(column(old)), ops.concat(column(new))], axis=1)
        kept = ops.keep_present(tf.concat([old_presence, new_presence], axis=1), packed, self._n_steps)
        kept = ops.split_like(kept, column(old))
        kept = tf.nest.map_structure(lambda x, like: x[..., 0] if like.shape.ndims == 2 else x, kept, old)
        latents, posterior, object_ids, temporal_state, prior_state = kept
        next_state = SQAIRState(
            latents, temporal_state, prior_state, object_ids, last_id, state.time_step + 1.0
        )
        return (latents, posterior, object_ids), next_state

    @property
    def state_size(self):
        """Shapes of `SQAIRState`, without the rows."""
        latents, slots = self.output_size.latents, tf.TensorShape([self._n_steps])
        hidden = slots.concatenate(self._hidden_size)
        return SQAIRState(latents, hidden, hidden, slots, tf.TensorShape([1]), tf.TensorShape([]))

    @property
    def output_size(self):
        """Shapes of `StepOutputs`, without the rows."""
        slots, scalar = tf.TensorShape([self._n_steps]), tf.TensorShape([])
        what, where, counts = (
            slots.concatenate(self._n_what),
            slots.concatenate(4),
            tf.TensorShape([self._n_steps + 1]),
        )
        log_probs = LogProbs(slots, slots, scalar)
        return StepOutputs(
            Latents(what, where, slots, slots),
            Posterior(what, what, where, where, slots),
            slots,
            KindOutputs(slots, slots, log_probs, log_probs),
            KindOutputs(slots, counts, log_probs, log_probs),
            *[scalar] * 3,
        )


def _merge_particles(tensor):
    """`[B, K, ...]` to `[R, ...]`."""
    return tf.reshape(tensor, [-1] + tensor.shape.as_list()[2:])


def _step_outputs(propagated, discovered, latents, posterior, object_ids):
    def total(log_probs):
        return tf.reduce_sum(log_probs.what + log_probs.where, axis=-1) + log_probs.presence

    return StepOutputs(
        latents,
        posterior,
        object_ids,
        KindOutputs(propagated.latents.presence, propagated.sampled_prob, propagated.log_q, propagated.log_p),
        KindOutputs(discovered.latents.presence, discovered.count_probs, discovered.log_q, discovered.log_p),
        log_q=total(propagated.log_q) + total(discovered.log_q),
        log_p=total(propagated.log_p) + total(discovered.log_p),
        discrete_log_q=propagated.log_q.presence + discovered.log_q.presence,
    )


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
        self._debug = debug
        hidden_size = UNITS * n_units
        with self._enter_variable_scope(), static_gradients():
            self._image_encoder = ImageEncoder(hidden_size)
            glimpse_encoder = GlimpseEncoder(
                mean_image.shape, glimpse_size, hidden_size, n_what, masked_glimpse
            )
            propagation = Propagation(
                PropagationCore(
                    glimpse_encoder,
                    n_what,
                    hidden_size,
                    transition,
                    time_transition,
                    transform_var_bias,
                    prop_step_bias,
                ),
                PropagationPrior(
                    n_what, hidden_size, prior_transition, prop_prior_type, prop_prior_step_bias
                ),
                compact,
            )
            discovery = Discovery(
                DiscoveryCore(glimpse_encoder, hidden_size, transition, transform_var_bias, disc_step_bias),
                DiscoveryPrior(
                    n_steps_per_image, disc_prior_type, step_success_prob, scale_prior, rec_where_prior
                ),
                compact,
            )
            self._cell = SQAIRCell(propagation, discovery, hidden_size, n_steps_per_image, n_what, compact)
            self._decoder = Decoder(mean_image, glimpse_size, hidden_size, output_scale, output_std, compact)

    def _build(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `FrameNoise` of `[T, B, K, N, n]`.

        Returns:
            `SequenceOutputs`.
        """
        image_shape = images.shape.as_list()[2:]
        batch_size = images.shape[1].value or tf.shape(images)[1]
        k_particles = noise.discovery.presence.shape.as_list()[2]
        with static_gradients():
            frames = tf.reshape(images, [-1] + image_shape)
            encodings = self._image_encoder(frames)
            by_time = lambda x: tf.reshape(x, tf.stack([-1, batch_size] + x.shape.as_list()[1:]))  # noqa: E731
            padded = by_time(spatial_transformer.pad_images(frames))
            inputs = FrameInputs(padded, by_time(encodings), noise)
            state = self._cell.initial_state(batch_size * k_particles)
            steps = _unroll(self._cell, inputs, state)
            outputs = self._decode(images, steps, k_particles)
        return self._check(outputs) if self._debug else outputs

    def _decode(self, images, steps, k_particles):
        """All frames of all particles at once."""
        decoded = self._decoder(
            *[_merge(x, 0) for x in (steps.latents.what, steps.latents.where, steps.latents.presence)]
        )
        targets = tf.tile(images[:, :, None], [1, 1, k_particles, 1, 1, 1])
        log_likelihood = self._decoder.log_likelihood(
            tf.reshape(targets, [-1] + images.shape.as_list()[2:]), decoded
        )
        rows = tf.shape(steps.log_q)[1]
        by_time = lambda x: tf.reshape(x, tf.stack([-1, rows] + x.shape.as_list()[1:]))  # noqa: E731
        log_likelihood = by_time(log_likelihood)
        return SequenceOutputs(
            steps,
            by_time(decoded.canvas),
            by_time(decoded.glimpses),
            log_likelihood,
            log_likelihood + steps.log_p - steps.log_q,
        )

    @staticmethod
    def _check(outputs):
        names = ["outputs"]
        return tf.nest.map_structure(lambda x: tf.debugging.check_numerics(x, names[0]), outputs)


def _unroll(cell, inputs, state):
    """Scans the cell over time.

    Args:
        cell: `SQAIRCell`.
        inputs: `FrameInputs` of `[T, B, ...]`.
        state: `SQAIRState` before the first frame.

    Returns:
        `StepOutputs` of `[T, R, ...]`.
    """
    length = tf.shape(inputs.image)[0]

    def unstack(tensor):
        return tf.TensorArray(tensor.dtype, length, element_shape=tensor.shape[1:]).unstack(tensor)

    frames = tf.nest.map_structure(unstack, inputs)

    def step(time, results, state):
        outputs, next_state = cell(tf.nest.map_structure(lambda array: array.read(time), frames), state)
        for tensor, like in zip(tf.nest.flatten(next_state), tf.nest.flatten(state)):
            tensor.set_shape(like.shape)
        # All results in one array; they are told apart again after the loop.
        columns = [tf.reshape(x, [-1, width]) for x, width in zip(tf.nest.flatten(outputs), widths)]
        return time + 1, results.write(time, ops.concat(columns)), next_state

    sizes = tf.nest.flatten(cell.output_size)
    widths = [size.num_elements() for size in sizes]
    results = tf.TensorArray(tf.float32, length)
    _, results, _ = tf.while_loop(lambda time, *_: time < length, step, (0, results, state))
    packed = results.stack()
    packed.set_shape([None, None, sum(widths)])
    rows = state.last_id.shape[0].value or tf.shape(state.last_id)[0]
    columns = tf.split(packed, widths, axis=-1)
    fields = [tf.reshape(x, tf.stack([-1, rows] + size.as_list())) for x, size in zip(columns, sizes)]
    return tf.nest.pack_sequence_as(cell.output_size, fields)


def _merge(tensor, axis):
    """Joins dimensions `axis` and `axis + 1`."""
    sizes = tensor.shape.as_list()
    return tf.reshape(tensor, sizes[:axis] + [-1] + sizes[axis + 2 :])
