# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of three variables with the contract of the real one: all that training and evaluation see."""

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from sqair.structures import Latents, Posterior, SequenceBatch

T, H, W, M = 4, 6, 5, 2
SCALARS = ("normalised_vae", "normalised_iwae", "data_ll", "kl", "log_p_z", "log_q_z_given_x", "num_steps")
SCALARS += ("num_disc_steps", "num_prop_steps", "num_step_acc", "mse", "ess")


class Outputs(NamedTuple):
    latents: Any
    posterior: Any
    object_ids: Any
    canvas: Any
    glimpses: Any


class Result(NamedTuple):
    loss: Any
    scalars: Any
    log_weights: Any
    importance_weights: Any
    outputs: Any


class StubModel:
    """Paints each frame in one learned colour; the noise jitters it."""

    n_steps, n_what = 3, 2

    def __init__(self):
        self.colour = tf.get_variable(
            "decoder/colour", [H, W, 1], initializer=tf.random_uniform_initializer()
        )
        self.jitter = tf.get_variable("discovery/jitter", [], initializer=tf.ones_initializer())
        self.unused = tf.get_variable("prior/unused", [2], initializer=tf.zeros_initializer())


def evaluate(model, batch, k_particles, noise, estimator="reference", l2=0.0):
    """Stands in for `sqair.model.evaluate`."""
    noise = noise.discovery
    canvas = model.colour + model.jitter * noise.what[..., :1, :1, None]  # [T, B, K, H, W, 1]
    error = tf.reduce_mean((batch.images[:, :, None] - canvas) ** 2, axis=[0, 3, 4, 5])
    log_weights = -error
    weights = tf.stop_gradient(tf.nn.softmax(log_weights))
    bound = tf.reduce_mean(tf.reduce_logsumexp(log_weights, axis=1))
    scalars = OrderedDict((name, bound * (i + 1)) for i, name in enumerate(SCALARS))

    def rows(x):
        return tf.reshape(x, tf.concat([tf.shape(x)[:1], [-1], tf.shape(x)[3:]], axis=0))

    presence = rows(tf.cast(noise.presence < 0.5, tf.float32))
    where, what = rows(noise.where), rows(noise.what)
    outputs = Outputs(
        latents=Latents(what, where, presence, presence),
        posterior=Posterior(what, what, where, where, presence),
        object_ids=presence - 1,
        canvas=tf.reshape(canvas, [tf.shape(canvas)[0], -1, H, W, 1]),
        glimpses=tf.zeros(tf.concat([tf.shape(presence), [4, 4, 1]], axis=0)),
    )
    return Result(-bound, scalars, log_weights, weights, outputs)


class StubDataset:
    """Sequences in memory with the interface of `SequenceDataset`; each is brighter than the last."""

    seq_len, image_shape, max_objects = T, (H, W, 1), M

    def __init__(self, num_sequences, poisoned=None):
        self.num_sequences = num_sequences
        brightness = np.linspace(0, 1, num_sequences, dtype=np.float32)
        self.images = np.tile(brightness[:, None, None, None, None], (1, T, H, W, 1))
        if poisoned is not None:
            self.images[poisoned] = np.nan

    def batches(self, batch_size, seed=None, start=0, repeat=True):
        n = self.num_sequences

        def load(batch):
            first = batch * batch_size
            last = first + batch_size if repeat else tf.minimum(first + batch_size, n)
            images = tf.gather(tf.constant(self.images), tf.range(first, last) % n)
            images = tf.transpose(images, [1, 0, 2, 3, 4])
            if repeat:
                images.set_shape([T, batch_size, H, W, 1])
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
