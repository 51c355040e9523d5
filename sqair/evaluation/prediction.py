# SPDX-License-Identifier: GPL-3.0-or-later
"""What a model sees in sequences: one particle of each, drawn by importance weight."""

from typing import Any, NamedTuple

import numpy as np

from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.spatial_transformer import boxes_from_logits


class Prediction(NamedTuple):
    """What a model sees in B sequences: NumPy arrays, one particle a sequence, drawn by importance weight.

    Of a model without objects there are N = 0 slots.
    """

    images: Any  # [T, B, H, W, C] in [0, 1]
    reconstructions: Any  # [T, B, H, W, C]
    boxes: Any  # [T, B, N, 4] (y, x, h, w) in pixels
    presence: Any  # [T, B, N] 0 or 1
    presence_prob: Any  # [T, B, N]
    object_ids: Any  # [T, B, N], -1 where absent
    glimpses: Any  # [T, B, N, g, g, C]
    true_boxes: Any  # [T, B, M, 4]
    true_presence: Any  # [T, B, M]

    @classmethod
    def joined(cls, parts):
        """The prediction of all sequences of several."""
        return cls(*(np.concatenate(field, axis=1) for field in zip(*parts)))

    def of(self, sequences):
        """The prediction of some of the sequences, a list of their places or a slice."""
        return Prediction(*(field[:, sequences] for field in self))

    @property
    def tracks(self):
        """What the figures of `visualization` take first."""
        return self.images, self.reconstructions, self.boxes, self.presence, self.object_ids


class Features(NamedTuple):
    """What a classifier may learn of B sequences from, and what is annotated: NumPy arrays."""

    features: (
        Any  # [T, B, S, F] of the particle shown: appearances times presence of S slots; else latents, S = 1
    )
    labels: Any  # [B, M] int32, which digit each annotated object is
    true_presence: Any  # [T, B, M] 0 or 1


class Shown:
    """The particle of each sequence that is shown, in the graph."""

    def __init__(self, model, result, batch, seed, sequences):
        """Draws it.

        Args:
            model: what the result is of.
            result: `sqair.training.objective.ModelResult` of K particles.
            batch: `SequenceBatch` of `[T, B, ...]`.
            seed, sequences: as of `noise.resample`.
        """
        self._model, self._outputs, self._batch = model, result.outputs, batch
        batch_size, k_particles = tf.shape(batch.images)[1], result.log_weights.shape.as_list()[2]
        particle = noise.resample(result.importance_weights, seed, sequences)
        self._rows = (
            tf.range(batch_size) * k_particles + particle
        )  # [B], or [T, B] where frames have their own

    def _chosen(self, values):
        """`[T, R, ...]` to `[T, B, ...]`."""
        if self._rows.shape.ndims == 1:
            return tf.gather(values, self._rows, axis=1)
        return tf.gather(values, self._rows, axis=1, batch_dims=1)

    def prediction(self):
        """`Prediction` of tensors."""
        batch, outputs = self._batch, self._outputs
        image_size, channels = batch.images.shape[2:4].as_list(), batch.images.shape[4].value
        if self._model.n_steps:
            steps = outputs.steps
            where, presence, presence_prob, object_ids, glimpses = map(
                self._chosen,
                (
                    steps.latents.where,
                    steps.latents.presence,
                    steps.posterior.presence_prob,
                    steps.object_ids,
                    outputs.glimpses,
                ),
            )
        else:
            where, presence, glimpses = [
                tf.zeros(tf.concat([tf.shape(batch.images)[:2], shape], 0))
                for shape in ([0, 4], [0], [0, 1, 1, channels])
            ]
            presence_prob = object_ids = presence
        return Prediction(
            images=batch.images,
            reconstructions=self._chosen(outputs.canvas),
            boxes=boxes_from_logits(where, image_size),
            presence=presence,
            presence_prob=presence_prob,
            object_ids=object_ids,
            glimpses=glimpses,
            true_boxes=batch.boxes,
            true_presence=batch.presence,
        )

    def features(self):
        """`Features` of tensors."""
        latents = self._outputs.steps.latents
        if self._model.n_steps:
            features = self._chosen(latents.what) * tf.expand_dims(self._chosen(latents.presence), -1)
        else:
            features = tf.expand_dims(self._chosen(latents), 2)
        return Features(features, self._batch.labels, self._batch.presence)
