# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of three variables and a data set in memory, with the contracts of the real ones."""

import numpy as np

from sqair.data.pipeline import SequenceBatch
from sqair.graph_mode import tf
from sqair.model import noise as noises
from sqair.model.sequence_bounds import WholeSequences
from sqair.model.structures import (
    LatentOutputs,
    Latents,
    LogProbs,
    PhaseOutputs,
    Posterior,
    SequenceOutputs,
    StepOutputs,
)

T, H, W, M, N = 4, 6, 5, 2, 3


class StubModel:
    """Paints each frame in one learned colour, jittered by the noise; half of the slots are in use."""

    n_steps = N

    def __init__(self, image_shape=(H, W, 1), n_what=2, bound=None):
        self.noise, self.bound = noises.of_objects(N, n_what), bound or WholeSequences()
        random = tf.random_uniform_initializer()
        self.colour = tf.get_variable("decoder/colour", image_shape, initializer=random)
        self.jitter = tf.get_variable("discovery/jitter", [], initializer=tf.ones_initializer())
        self.unused = tf.get_variable("prior/unused", [n_what], initializer=tf.zeros_initializer())

    def __call__(self, images, noise):
        """`[T, B, H, W, 1]` and `FrameNoise` to `SequenceOutputs`; the log-likelihood is minus the error."""
        noise = noise.discovery
        length, rows = tf.shape(images)[0], tf.shape(images)[1] * noise.presence.shape[2].value
        canvas = self.colour + self.jitter * noise.what[..., :1, :1, None]  # [T, B, K, H, W, 1]
        error = tf.reduce_mean((images[:, :, None] - canvas) ** 2, axis=[3, 4, 5])

        def by_row(x):
            return tf.reshape(x, tf.stack([length, rows, *x.shape.as_list()[3:]]))

        presence, where, what = by_row(tf.round(noise.presence)), by_row(noise.where), by_row(noise.what)
        none = tf.zeros(tf.stack([length, rows]))
        log_probs = LogProbs(presence, presence, none)
        kind = PhaseOutputs(presence, presence, log_probs, log_probs)
        steps = StepOutputs(
            latents=Latents(what, where, presence, presence),
            posterior=Posterior(what, what, where, where, presence),
            object_ids=presence - 1,
            propagation=kind,
            discovery=kind,
            log_q=none,
            log_p=none,
            discrete_log_q=none,
        )
        glimpses = tf.zeros(tf.stack([length, rows, N, 4, 4, 1]))
        return SequenceOutputs(steps, by_row(canvas), glimpses, -by_row(error), -by_row(error))


class StubWithoutObjects(StubModel):
    """The same without objects: its latents are the appearance of the first slot."""

    n_steps = 0

    def __call__(self, images, noise):
        outputs = super().__call__(images, noise)
        steps = outputs.steps
        steps = LatentOutputs(steps.latents.what[:, :, 0], steps.log_q, steps.log_p, steps.discrete_log_q)
        return outputs._replace(steps=steps, glimpses=None)


class StubDataset:
    """Sequences of one brightness each, with the interface of `SequenceDataset`."""

    seq_len, image_shape, max_objects = T, (H, W, 1), M

    def __init__(self, num_sequences, poisoned=None):
        """`poisoned` is the number of a sequence that is NaN."""
        self.num_sequences = num_sequences
        brightness = np.linspace(0, 1, num_sequences, dtype=np.float32)
        self.images = np.tile(brightness[:, None, None, None, None], (1, T, H, W, 1))
        if poisoned is not None:
            self.images[poisoned] = np.nan

    def mean_image(self):
        """The first frame: of use as a start, and as a fingerprint."""
        return self.images[0, 0]

    def batches(self, batch_size, seed=None, start=0, repeat=True, part=(0, 1)):
        """In order, whatever the seed."""
        n, size_of_part = self.num_sequences, batch_size // part[1]

        def load(batch):
            first = batch * batch_size + part[0] * size_of_part
            last = first + size_of_part if repeat else tf.minimum(first + batch_size, n)
            images = tf.transpose(tf.gather(self.images, tf.range(first, last) % n), [1, 0, 2, 3, 4])
            if repeat:
                images.set_shape([T, size_of_part, H, W, 1])
            size = tf.shape(images)[1]
            return SequenceBatch(
                images=images,
                boxes=tf.ones(tf.stack([T, size, M, 4])),
                presence=tf.ones(tf.stack([T, size, M])),
                labels=tf.zeros(tf.stack([size, M]), tf.int32),
                visible=tf.ones(tf.stack([T, size, M])),
            )

        count = tf.int64.max if repeat else -(-n // batch_size)
        return tf.data.Dataset.range(start, count).map(load)
