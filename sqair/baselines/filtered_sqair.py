# SPDX-License-Identifier: GPL-3.0-or-later
"""SQAIR evaluated by FIVO: the particles of its inference are resampled between frames."""

from typing import Any, NamedTuple

from sqair.baselines import fivo
from sqair.engine.static_gradients import static_gradients
from sqair.engine.tensors import gather_rows, map_packed, merge_leading, range_of, size
from sqair.engine.unroll import unroll
from sqair.errors import UserError
from sqair.graph_mode import snt, tf
from sqair.model.decoder import log_likelihood
from sqair.model.noise import Wanted
from sqair.model.sequence_bounds import Filtered
from sqair.model.sqair import SQAIR
from sqair.model.structures import CellOutputs, FrameNoise


class FilteredNoise(NamedTuple):
    """All noise of one time-step; `[T, B, K, ...]` per field for a whole sequence."""

    objects: FrameNoise
    ancestors: Any  # [B, K] uniform on [0, 1), for resampling


class FilteredInputs(NamedTuple):
    """What one time-step reads: `FrameInputs`, and what its weight and resampling need."""

    image: Any  # [B, P, Q, C] padded
    image_encoding: Any  # [B, D]
    noise: FrameNoise  # [B, K, N, ...]
    frame: Any  # [B, H, W, C] the image as it is
    uniforms: Any  # [B, K]


class Filtering(NamedTuple):
    """What filtering one time-step gives."""

    log_weights: Any  # [R, 1] as of `fivo.weigh`
    parents: Any  # [R, 1] as of `fivo.resample`


class FilteredOutputs(NamedTuple):
    """`CellOutputs`, field by field, and `Filtering`."""

    kept: Any
    propagated: Any
    discovered: Any
    propagated_summary: Any
    filtering: Filtering


class FilteredCell(snt.RNNCore):
    """One time-step of SQAIR's inference, scored and decoded at once; particles are resampled where it is due."""

    def __init__(self, model, resample_below, name="filtered_cell"):
        """Args: model: `SQAIR`; resample_below: float, as of `fivo.resample`."""
        super().__init__(name=name)
        self._model, self._below = model, resample_below

    def initial_state(self, rows):
        """The `fivo.Particles` before the first frame. `rows`: int or scalar tensor R."""
        return fivo.first_particles(self._model.generative_cell.initial_state(rows))

    def _build(self, inputs, particles):
        """One time-step.

        Args:
            inputs: `FilteredInputs` of B images and K particles each.
            particles: `fivo.Particles` of `GenerativeState`, R = B * K rows.

        Returns:
            Tuple of `FilteredOutputs` and the next `fivo.Particles`.
        """
        model, k_particles = self._model, inputs.uniforms.shape[1].value
        particles, parents = fivo.resample(particles, inputs.uniforms, self._below)
        before = particles.state
        inferred, objects = model.cell(inputs, before.objects)
        as_sequence = CellOutputs(*[map_packed(lambda x: tf.expand_dims(x, 0), field) for field in inferred])
        noise = tf.nest.map_structure(merge_leading, inputs.noise)
        steps = tf.nest.map_structure(lambda x: tf.squeeze(x, 0), model.scoring(as_sequence, noise, before))
        what, where, presence, logit = steps.latents
        images = gather_rows(inputs.frame, tf.convert_to_tensor(range_of(size(parents)) // k_particles))
        log_weight = log_likelihood(images, model.decoder(what, where, presence)) + steps.log_p - steps.log_q
        state = model.generative_cell.state_after(objects, logit)
        particles, log_weights = fivo.weigh(particles, state, tf.expand_dims(log_weight, -1), k_particles)
        return FilteredOutputs(*inferred, Filtering(log_weights, parents)), particles

    @property
    def output_size(self):
        """Shapes of `FilteredOutputs`, without the rows."""
        one = tf.TensorShape([1])
        return FilteredOutputs(*self._model.cell.output_size, Filtering(one, one))


class FilteredSQAIR:
    """A SQAIR whose bound is FIVO, with the same variables: for evaluation, as discrete latents have no gradient."""

    def __init__(self, model, resample_below=fivo.RESAMPLE_BELOW):
        """Args: model: `SQAIR`; resample_below: float, as of `fivo.resample`."""
        self._model, self._cell = model, FilteredCell(model, resample_below)
        self.n_steps, self.bound = model.n_steps, Filtered()
        self.noise = FilteredNoise(model.noise, Wanted("ancestors", uniform=True))

    def __call__(self, images, noise):
        """Runs the model.

        Args:
            images: `[T, B, H, W, C]` float32 in [0, 1]; T may be unknown when the graph is built.
            noise: `FilteredNoise` of `[T, B, K, ...]`.

        Returns:
            `SequenceOutputs`; what is of a row is one history, with the weight that it ends with.
        """
        k_particles = size(noise.ancestors, axis=2)
        with static_gradients():
            inputs = FilteredInputs(*self._model.encode(images, noise.objects), images, noise.ancestors)
            outputs, _ = unroll(self._cell, inputs, k_particles, self._model.streams)
            *inferred, filtering = outputs
            log_weights, parents = (tf.squeeze(x, -1) for x in filtering)
            leading = tf.stack([-1, size(images, axis=1), k_particles])
            lineage = fivo.lineages(tf.reshape(tf.cast(parents, tf.int32), leading))
            inferred = CellOutputs(*fivo.follow(tuple(inferred), lineage))
            objects = tf.nest.map_structure(lambda x: _follow_noise(x, lineage), inputs.noise)
            return self._model.describe(images, inferred, objects)._replace(log_weights=log_weights)


def filtered(model, bound):
    """The same model with another bound than its own.

    Args:
        model: what a model config's `load` returns.
        bound: str, the bound's name: "iwae" or "fivo".

    Raises:
        UserError: unless the bound is FIVO and the model a SQAIR.
    """
    if bound == "fivo" and isinstance(model, SQAIR):
        return FilteredSQAIR(model)
    raise UserError(
        f"`bound={bound}` is refused: this model is evaluated by {model.bound.name} alone; leave it out."
    )


def _follow_noise(noise, lineage):
    """Noise `[T, B, K, ...]` of the histories that a lineage, `[T, B, K]`, tells."""
    return tf.gather(noise, lineage, axis=2, batch_dims=2)
