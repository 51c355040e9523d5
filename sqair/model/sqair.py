# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential Attend, Infer, Repeat (Kosiorek et al. 2018, arXiv:1806.01794): the whole model."""

from sqair.engine.static_gradients import static_gradients
from sqair.engine.tensors import check_finite, check_shape, size
from sqair.engine.unroll import STREAMS, unroll
from sqair.graph_mode import snt, tf
from sqair.model import noise as noises
from sqair.model import videos
from sqair.model.cell import SQAIRCell
from sqair.model.decoder import Decoder
from sqair.model.discovery import Discovery, DiscoveryCore
from sqair.model.generation import GenerativeCell
from sqair.model.networks import GlimpseEncoder, mlp_networks
from sqair.model.priors import DiscoveryPrior, PropagationPrior
from sqair.model.propagation import Propagation, PropagationCore
from sqair.model.scoring import Scoring
from sqair.model.sequence_bounds import WholeSequences
from sqair.model.slots import squeeze_last
from sqair.model.structures import GeneratedSequence

UNITS = 32  # hidden units per `n_units`


class SQAIR(snt.AbstractModule):
    """The model of a batch of videos: encodes all frames, unrolls the cell over time, scores and decodes all frames."""

    def __init__(
        self,
        mean_image,
        image_encoder,
        glimpse_encoder,
        glimpse_decoder,
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
        """Sets the model up; arguments that are not listed are the flags of the same names (`common_model_flags`).

        Args:
            mean_image: `[H, W, C]` float32 array in [0, 1], where the learned background starts.
            image_encoder: module that maps images `[n, H, W, C]` to `[n, D]`, D = 32 * n_units.
            glimpse_encoder: module that maps glimpses `[m, g, g, C]` to features `[m, n]`.
            glimpse_decoder: module that maps appearances `[m, Z]` to glimpses `[m, g, g, C]`.
            scale_prior: two floats, prior mean of the scale logits (x, y).
            debug: bool, check every tensor of the result for NaN and infinity.
            compact: bool, compute only the objects that exist (dynamic shapes) instead of all slots.

        Raises:
            UserError: if a type or core is unknown.
        """
        super().__init__(name=name)
        self.n_steps = n_steps_per_image
        self.noise, self.bound = noises.of_objects(n_steps_per_image, n_what), WholeSequences()
        self._debug, self._image_shape = debug, tuple(mean_image.shape)
        self.streams = STREAMS if compact else 1  # an accelerator has no cores to share out
        self._image_encoder, self._hidden_size = image_encoder, UNITS * n_units
        sizes = n_what, self._hidden_size
        with self._enter_variable_scope(), static_gradients():
            encoder = GlimpseEncoder(
                glimpse_encoder, mean_image.shape, glimpse_size, self._hidden_size, n_what, masked_glimpse
            )
            propagation_core = PropagationCore(
                encoder, *sizes, transition, time_transition, transform_var_bias, prop_step_bias
            )
            propagation_prior = PropagationPrior(
                *sizes, prior_transition, prop_prior_type, prop_prior_step_bias
            )
            propagation = Propagation(propagation_core, propagation_prior, compact)
            discovery_core = DiscoveryCore(encoder, *sizes, transition, transform_var_bias, disc_step_bias)
            discovery = Discovery(discovery_core, compact)
            discovery_prior = DiscoveryPrior(
                n_steps_per_image, disc_prior_type, step_success_prob, scale_prior, rec_where_prior
            )
            self.cell = SQAIRCell(
                propagation, discovery, self._hidden_size, n_steps_per_image, n_what, compact
            )
            self.generative_cell = GenerativeCell(self.cell, propagation_prior, discovery_prior, compact)
            self.scoring = Scoring(
                propagation_core.where_distribution, propagation_prior, discovery_prior, compact
            )
            self.decoder = Decoder(
                mean_image, glimpse_decoder, glimpse_size, output_scale, output_std, compact
            )

    def _build(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `FrameNoise`, standard normal `[T, B, K, N, n]` for what and where, uniform `[T, B, K, N]` for
                presence.

        Returns:
            `SequenceOutputs`; where is in logits (sx, sy, tx, ty) of scale and shift, see `spatial_transformer`.

        Raises:
            ValueError: if images and noise do not fit each other or the model.
        """
        return self._infer(images, noise)[0]

    def infer(self, images, noise):
        """As the call of the model, and with it the state that generation goes on from after the last frame.

        Args:
            images, noise: as of the model; at least one frame.

        Returns:
            Tuple of `SequenceOutputs` and `GenerativeState`.
        """
        outputs, states = self._infer(images, noise)
        objects = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *states)
        return outputs, self.generative_cell.state_after(objects, outputs.steps.latents.presence_logit[-1])

    def generate(self, noise, first_state=None):
        """Videos from the prior: objects move, vanish and appear as it expects.

        Args:
            noise: `FrameNoise`, as of the model; T may be unknown when the graph is built.
            first_state: `GenerativeState` of R rows to go on from, as `infer` returns it; no object by default.

        Returns:
            `GeneratedSequence`.

        Raises:
            ValueError: if the noise does not fit the model, or the state does not fit the noise.
        """
        noise = videos.checked_noise(noise, self.noise)
        batch_size, particles = (size(noise.discovery.what, axis) for axis in (1, 2))
        if first_state is not None:
            first_state = _with_rows(first_state, batch_size * particles)
        generated, _ = unroll(self.generative_cell, noise, particles, self.streams, first_state)
        what, where, presence, object_ids, _ = generated.kept
        latents = what, where, squeeze_last(presence)
        canvas = tf.map_fn(lambda frame: self.decoder(*frame).mean, latents, dtype=tf.float32)
        glimpses = self.decoder.glimpses_over_time(what, latents[-1])
        outputs = GeneratedSequence(*latents, squeeze_last(object_ids), canvas, glimpses)
        return check_finite(outputs, "generation") if self._debug else outputs

    def _infer(self, images, noise):
        """`SequenceOutputs`, and the last `SQAIRState` of each stream."""
        with static_gradients():
            inputs = self.encode(images, noise)
            particles = size(inputs.noise.discovery.what, axis=2)
            inferred, states = unroll(self.cell, inputs, particles, self.streams)
            outputs = self.describe(images, inferred, inputs.noise)
        return outputs, states

    def describe(self, images, inferred, noise):
        """`SequenceOutputs` of `CellOutputs` `[T, R, ...]`; the noise of five dimensions."""
        steps = self.scoring(inferred, videos.merge_rows(noise))
        particles = size(noise.discovery.what, axis=2)
        return videos.describe(images, steps, particles, self.decoder, self._debug)

    def encode(self, images, noise):
        """`FrameInputs` of `[T, B, ...]`, what the cell reads frame by frame; arguments as of the model."""
        return videos.encode(
            images, noise, self.noise, self._image_shape, self._image_encoder, self._hidden_size
        )


def mlp_sqair(mean_image, n_units=8, n_what=50, glimpse_size=20, **arguments):
    """`SQAIR` with fully connected encoders and decoder, the paper's MLP-SQAIR; arguments as of `SQAIR`."""
    networks = mlp_networks(mean_image.shape, UNITS * n_units, glimpse_size)
    sizes = dict(n_units=n_units, n_what=n_what, glimpse_size=glimpse_size)
    return SQAIR(mean_image, *networks, **sizes, **arguments)


def _with_rows(state, rows):
    """The same state, which fails if it has not as many rows; `rows`: int or scalar tensor."""
    check_shape(state.is_later, [rows if isinstance(rows, int) else None, 1], "first_state.is_later")
    text = "first_state must have a row for each particle of the noise"
    with tf.control_dependencies(
        [tf.debugging.assert_equal(tf.shape(state.is_later)[0], rows, message=text)]
    ):
        return tf.nest.map_structure(tf.identity, state)
