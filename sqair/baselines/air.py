# SPDX-License-Identifier: GPL-3.0-or-later
"""Attend, Infer, Repeat (Eslami et al. 2016, arXiv:1603.08575): the frames of a video as independent images.

It is SQAIR's first frame, in every frame: discovery where nothing was propagated, its prior and the decoder, of the
same modules. Nothing is handed from one frame to the next.

Differs: locations, appearances and presence of a slot are drawn as SQAIR draws them, and the number of objects has
SQAIR's learned prior; the original's is geometric (`disc_prior_type="geom"`).
"""

import numpy as np

from sqair.engine.static_gradients import static_gradients
from sqair.engine.tensors import merge_leading, range_of, size, split_leading
from sqair.graph_mode import snt, tf
from sqair.model import noise as noises
from sqair.model import videos
from sqair.model.decoder import Decoder
from sqair.model.discovery import Discovery, DiscoveryCore
from sqair.model.distributions import probability
from sqair.model.networks import GlimpseEncoder, mlp_networks
from sqair.model.priors import DiscoveryPrior
from sqair.model.scoring import discovery_logits, score_discovery, total
from sqair.model.sequence_bounds import IndependentFrames
from sqair.model.slots import mask_absent_logit, squeeze_last
from sqair.model.sqair import UNITS
from sqair.model.structures import (
    Latents,
    LogProbs,
    PhaseOutputs,
    Posterior,
    SampledObjects,
    StepOutputs,
)

EXPECTED = -0.5  # `priors.expected_propagations` where there is nothing to propagate


class AIR(snt.AbstractModule):
    """The model of a batch of videos whose frames do not know each other."""

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
        output_std=0.3,
        output_scale=0.25,
        scale_prior=(-2.0, -2.0),
        transform_var_bias=-3.0,
        disc_step_bias=1.0,
        disc_prior_type="cat",
        step_success_prob=0.75,
        rec_where_prior=True,
        debug=False,
        compact=True,
        name="air",
    ):
        """Sets the model up; arguments as of `sqair.model.sqair.SQAIR`.

        Raises:
            UserError: if a type or core is unknown.
        """
        super().__init__(name=name)
        self.n_steps = n_steps_per_image
        self.noise = noises.of_slots("discovery", n_steps_per_image, n_what)
        self.bound = IndependentFrames()
        self._debug, self._image_shape = debug, tuple(mean_image.shape)
        self._image_encoder, self._hidden_size = image_encoder, UNITS * n_units
        with self._enter_variable_scope(), static_gradients():
            encoder = GlimpseEncoder(
                glimpse_encoder, mean_image.shape, glimpse_size, self._hidden_size, n_what, masked=False
            )
            core = DiscoveryCore(
                encoder, n_what, self._hidden_size, transition, transform_var_bias, disc_step_bias
            )
            self._discovery = Discovery(core, compact)
            self._prior = DiscoveryPrior(
                n_steps_per_image, disc_prior_type, step_success_prob, scale_prior, rec_where_prior
            )
            self._decoder = Decoder(
                mean_image, glimpse_decoder, glimpse_size, output_scale, output_std, compact
            )

    def _build(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `StepNoise`, standard normal `[T, B, K, N, n]` for what and where, uniform `[T, B, K, N]` for
                presence.

        Returns:
            `SequenceOutputs`; ids are those of slots, and nothing is ever propagated.

        Raises:
            ValueError: if images and noise do not fit each other or the model.
        """
        with static_gradients():
            inputs = videos.encode(
                images, noise, self.noise, self._image_shape, self._image_encoder, self._hidden_size
            )
            particles = size(inputs.noise.what, axis=2)
            padded, encodings = merge_leading(inputs.image), merge_leading(inputs.image_encoding)
            steps = self._discover(padded, encodings, videos.merge_rows(inputs.noise), particles)
            rows = size(images, axis=1) * particles
            steps = tf.nest.map_structure(lambda x: split_leading(x, rows), steps)
            return videos.describe(images, steps, particles, self._decoder, self._debug)

    def _discover(self, images, encodings, noise, particles):
        """`StepOutputs` of `[T * R, ...]`, those of all frames.

        Args:
            images: `[T * B, P, Q, C]`, padded.
            encodings: `[T * B, D]`.
            noise: `StepNoise` of `[T * R, N, n]`.
            particles: int K.
        """
        rows = size(noise.what)
        image_index = tf.convert_to_tensor(range_of(rows) // particles)
        summary = tf.fill(tf.stack([rows, self._hidden_size]), 0.0)  # of nothing that was propagated
        sampled = self._discovery(images, encodings, image_index, summary, noise)
        logit = discovery_logits(sampled)
        one = tf.ones_like(logit[:, :1])
        found = score_discovery(self._prior, sampled, logit, summary, EXPECTED * one, 0.0 * one, noise)

        present, presence = sampled.presence, squeeze_last(sampled.presence)
        kept = SampledObjects(
            *(present * x for x in sampled)
        )  # of a slot that was tried in vain nothing is left
        kept_logit = mask_absent_logit(logit, presence)
        statistics = kept.what_loc, kept.what_scale, kept.where_loc, kept.where_scale
        none = tf.zeros_like(presence)
        no_log_probs = LogProbs(none, none, none[:, 0])
        return StepOutputs(
            latents=Latents(kept.what, kept.where, presence, kept_logit),
            posterior=Posterior(*statistics, probability(kept_logit)),
            object_ids=presence * np.arange(1, self.n_steps + 1, dtype=np.float32) - 1.0,
            propagation=PhaseOutputs(none, none, no_log_probs, no_log_probs),
            discovery=found,
            log_q=total(found.log_q),
            log_p=total(found.log_p),
            discrete_log_q=found.log_q.presence,
        )


def mlp_air(mean_image, n_units=8, n_what=50, glimpse_size=20, **arguments):
    """`AIR` with fully connected encoders and decoder, the paper's MLP-AIR; arguments as of `AIR`."""
    networks = mlp_networks(mean_image.shape, UNITS * n_units, glimpse_size)
    sizes = dict(n_units=n_units, n_what=n_what, glimpse_size=glimpse_size)
    return AIR(mean_image, *networks, **sizes, **arguments)
