# SPDX-License-Identifier: GPL-3.0-or-later
"""Variational recurrent neural networks (VRNN; Chung et al. 2015, arXiv:1506.02216), as the paper compares with them.

One vector of latent variables for each frame, `z_t`, and an LSTM in between, whose output is `o_t` (appendix E):

    o_t, h_t = LSTM([psi_x(x_{t-1}); psi_z(z_{t-1})], h_{t-1})
    p(z_t | past) = Normal(MLP(o_t)),  q(z_t | past, x_t) = Normal(MLP([o_t; psi_x(x_t)]))
    p(x_t | z_t, past) = Normal(mean image + psi_dec([psi_z(z_t); o_t]), 0.3)

trained on FIVO. Not in the paper: the size of the LSTM, that of all hidden layers; what stands for the frame before the
first, zeros for `psi_x` and `psi_z`; the learned mean image, which starts at that of the data, as SQAIR's does.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sqair.baselines import fivo
from sqair.baselines.image_networks import ConvImageDecoder, MLPImageDecoder
from sqair.engine.early import EarlyProducts
from sqair.engine.layers import LSTM, MLP
from sqair.engine.static_gradients import static_gradients
from sqair.engine.tensors import (
    check_finite,
    check_shape,
    gather_rows,
    map_packed,
    merge_leading,
    range_of,
    size,
    split_leading,
)
from sqair.engine.unroll import STREAMS, unroll
from sqair.graph_mode import snt, tf
from sqair.model.conv_networks import ConvEncoder
from sqair.model.distributions import (
    HALF_LOG_TWO_PI,
    normal_log_prob,
    positive_scale,
    sampled_normal_log_prob,
)
from sqair.model.noise import Wanted
from sqair.model.sequence_bounds import Filtered, WholeSequences
from sqair.model.structures import LatentOutputs, SequenceOutputs

N_LATENT = 3 * (50 + 4 + 1)  # as many as SQAIR has in a frame: what, where and presence of three slots
OUTPUT_STD = 0.3  # of pixels


class VRNNNoise(NamedTuple):
    """All noise of one time-step; `[T, B, K, ...]` per field for a whole sequence."""

    latent: Any  # [B, K, Z] standard normal
    ancestors: Any  # [B, K] uniform on [0, 1), for resampling


class VRNNInputs(NamedTuple):
    """What one time-step reads."""

    image: Any  # [B, H, W, C]
    early: Any  # `Early` of [B, n]: stands for image and image_tm1, the frame's features and those of the last one
    latent_noise: Any  # [B, K, Z]
    uniforms: Any  # [B, K]


class VRNNState(NamedTuple):
    """What one time-step hands to the next."""

    core: Any  # `LSTMState` of [R, D]
    latent: Any  # [R, D] psi_z of the latent variables


class VRNNScores(NamedTuple):
    """Log-probabilities of one time-step in nats, and where its particles come from."""

    log_likelihood: Any  # [R, 1]
    log_q: Any  # [R, 1]
    log_p: Any  # [R, 1]
    log_weights: Any  # [R, 1] as of `fivo.weigh`
    parents: Any  # [R, 1] as of `fivo.resample`


class VRNNOutputs(NamedTuple):
    """What one time-step infers; `[T, R, ...]` for a sequence."""

    latent: Any  # [R, Z]
    canvas: Any  # [R, H, W, C]
    scores: VRNNScores


class VRNNCell(snt.RNNCore):
    """One time-step of inference, of particles that are resampled where it is due."""

    def __init__(self, mean_image, decoder, hidden_size, n_layers, n_latent, resample_below, name="cell"):
        """Arguments as of `VRNN`."""
        super().__init__(name=name)
        self._decoder, self._below = decoder, resample_below
        self._image_shape, self._n_latent = tuple(mean_image.shape), n_latent
        hidden, features = [hidden_size] * n_layers, hidden_size
        with self._enter_variable_scope():
            self._core = LSTM(hidden_size, dict(image_tm1=features, latent_tm1=features))
            self._prior = MLP(hidden, 2 * n_latent, inputs=dict(output=features), name="prior")
            self._posterior = MLP(
                hidden, 2 * n_latent, inputs=dict(output=features, image=features), name="posterior"
            )
            self._latent_encoder = MLP(hidden, name="latent_encoder")
            self._mean_image = tf.get_variable(
                "mean_image", self._image_shape, initializer=tf.constant_initializer(mean_image)
            )
        self._multiply_images = EarlyProducts(self._core, self._posterior)
        self._multiply_output = EarlyProducts(self._prior, self._posterior, decoder)

    def prepare(self, image, image_tm1):
        """`Early` of the features of images, `[m, D]`, and of the images before them: the same for all particles."""
        return self._multiply_images(self._multiply_images(image=image), image_tm1=image_tm1)

    def initial_state(self, rows):
        """The `fivo.Particles` before the first frame. `rows`: int or scalar tensor R."""
        core = self._core.initial_state(rows)
        return fivo.first_particles(VRNNState(core, tf.zeros_like(core.hidden)))

    def _build(self, inputs, particles):
        """One time-step.

        Args:
            inputs: `VRNNInputs` of B images and K particles each.
            particles: `fivo.Particles` of `VRNNState`, R = B * K rows.

        Returns:
            Tuple of `VRNNOutputs` and the next `fivo.Particles`.
        """
        k_particles = inputs.uniforms.shape[1].value
        particles, parents = fivo.resample(particles, inputs.uniforms, self._below)
        image_index = tf.convert_to_tensor(range_of(size(parents)) // k_particles)  # row b * K + k: image b
        early = map_packed(lambda x: gather_rows(x, image_index), inputs.early)
        noise = merge_leading(inputs.latent_noise)

        core, latent_tm1 = particles.state
        output, core = self._core(core, image_tm1=early.image_tm1, latent_tm1=latent_tm1)
        early = self._multiply_output(early, output=output)
        prior_loc, prior_scale = _gaussian(self._prior(output=early.output))
        loc, scale = _gaussian(self._posterior(output=early.output, image=early.image))
        latent = loc + scale * noise
        features = self._latent_encoder(latent)
        canvas = self._decoder(latent=features, output=early.output) + self._mean_image

        log_likelihood = _log_likelihood(gather_rows(inputs.image, image_index), canvas)
        log_q = tf.expand_dims(sampled_normal_log_prob(noise, scale), -1)
        log_p = tf.expand_dims(normal_log_prob(latent, prior_loc, prior_scale), -1)
        particles, log_weights = fivo.weigh(
            particles, VRNNState(core, features), log_likelihood + log_p - log_q, k_particles
        )
        scores = VRNNScores(log_likelihood, log_q, log_p, log_weights, parents)
        return VRNNOutputs(latent, canvas, scores), particles

    @property
    def output_size(self):
        """Shapes of `VRNNOutputs`, without the rows."""
        scores = VRNNScores(*[tf.TensorShape([1])] * len(VRNNScores._fields))
        return VRNNOutputs(tf.TensorShape([self._n_latent]), tf.TensorShape(self._image_shape), scores)


class VRNN(snt.AbstractModule):
    """The model of a batch of videos: encodes all frames, unrolls the cell over time."""

    n_steps = 0  # no objects

    def __init__(
        self,
        mean_image,
        image_encoder,
        decoder,
        hidden_size=512,
        n_layers=3,
        n_latent=N_LATENT,
        resample_below=fivo.RESAMPLE_BELOW,
        debug=False,
        streams=STREAMS,
        name="vrnn",
    ):
        """Sets the model up.

        Args:
            mean_image: `[H, W, C]` float32 array in [0, 1], where the learned mean image starts.
            image_encoder: psi_x, module that maps images `[n, H, W, C]` to features `[n, D]`.
            decoder: psi_dec, module that maps `latent` and `output`, `[m, D]` each, to images `[m, H, W, C]`; its
                `named_weights` take `output`.
            hidden_size: int D, of features, the LSTM and all hidden layers.
            n_layers: int, hidden layers of a perceptron.
            n_latent: int Z.
            resample_below: float, as of `fivo.resample`; with 0 the bound is IWAE.
            debug: bool, check every tensor of the result for NaN and infinity.
            streams: int, as of `unroll`.
        """
        super().__init__(name=name)
        self.noise = VRNNNoise(Wanted("latent", (n_latent,)), Wanted("ancestors", uniform=True))
        self.bound = Filtered() if resample_below else WholeSequences()
        self._image_encoder, self._image_shape = image_encoder, tuple(mean_image.shape)
        self._hidden_size, self._n_latent = hidden_size, n_latent
        self._debug, self._streams = debug, streams
        with self._enter_variable_scope(), static_gradients():
            self.cell = VRNNCell(mean_image, decoder, hidden_size, n_layers, n_latent, resample_below)

    def _build(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `VRNNNoise` of `[T, B, K, ...]`.

        Returns:
            `SequenceOutputs` with `LatentOutputs`; what is of a row is one history, with the weight that it ends with.

        Raises:
            ValueError: if images and noise do not fit each other or the model.
        """
        with static_gradients():
            inputs = self._encode(images, noise)
            k_particles = size(noise.ancestors, axis=2)
            outputs, _ = unroll(self.cell, inputs, k_particles, self._streams)
            scores = tf.nest.map_structure(lambda x: tf.squeeze(x, -1), outputs.scores)
            log_weights, parents = scores.log_weights, tf.cast(scores.parents, tf.int32)
            lineage = fivo.lineages(tf.reshape(parents, tf.stack([-1, size(images, axis=1), k_particles])))
            latent, canvas, scores = fivo.follow(tuple(outputs._replace(scores=scores)), lineage)
            if self.bound.joins:
                log_weights = scores.log_likelihood + scores.log_p - scores.log_q
        steps = LatentOutputs(latent, scores.log_q, scores.log_p, tf.zeros_like(scores.log_q))
        outputs = SequenceOutputs(steps, canvas, None, scores.log_likelihood, log_weights)
        return check_finite(outputs, "model") if self._debug else outputs

    def _encode(self, images, noise):
        """`VRNNInputs` of `[T, B, ...]`."""
        leading = images.shape.as_list()[:2]
        check_shape(images, [None, None, *self._image_shape], "images")
        check_shape(noise.latent, [*leading, None, self._n_latent], "noise of the latent variables")
        check_shape(noise.ancestors, [*leading, None], "noise of the ancestors")
        batch_size = size(images, axis=1)
        features = self._image_encoder(merge_leading(images))
        check_shape(features, (None, self._hidden_size), "what image_encoder returns")
        features_tm1 = tf.concat([tf.zeros_like(features[:batch_size]), features[:-batch_size]], axis=0)
        early = map_packed(lambda x: split_leading(x, batch_size), self.cell.prepare(features, features_tm1))
        return VRNNInputs(images, early, noise.latent, noise.ancestors)


def mlp_vrnn(mean_image, hidden_size=512, n_layers=3, **arguments):
    """`VRNN` with perceptrons for psi_x and psi_dec, the paper's MLP-VRNN; arguments as of `VRNN`."""
    return VRNN(
        mean_image,
        MLP([hidden_size] * n_layers, name="image_encoder"),
        MLPImageDecoder(hidden_size, n_layers, mean_image.shape),
        hidden_size,
        n_layers,
        **arguments,
    )


def conv_vrnn(mean_image, hidden_size=512, n_layers=3, **arguments):
    """`VRNN` with convolutions for psi_x and transposed ones for psi_dec, the paper's CONV-VRNN."""
    return VRNN(
        mean_image,
        ConvEncoder(mean_image.shape, hidden_size, name="image_encoder"),
        ConvImageDecoder(hidden_size, mean_image.shape),
        hidden_size,
        n_layers,
        **arguments,
    )


def _gaussian(statistics):
    """`[m, 2 Z]` to mean and standard deviation, `[m, Z]` each."""
    loc, raw_scale = tf.split(statistics, 2, axis=-1)
    return loc, positive_scale(raw_scale)


def _log_likelihood(images, mean):
    """Log-likelihood of images under Gaussian pixels of deviation `OUTPUT_STD`: `[R, H, W, C]` each to `[R, 1]`."""
    n_pixels = int(np.prod(images.shape.as_list()[1:]))
    error = tf.reshape(images - mean, [-1, n_pixels])
    squares = tf.reduce_sum(error * error, axis=-1, keepdims=True)
    return -0.5 / OUTPUT_STD**2 * squares - n_pixels * (math.log(OUTPUT_STD) + HALF_LOG_TWO_PI)
