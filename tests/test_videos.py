# SPDX-License-Identifier: GPL-3.0-or-later
import types

import numpy as np
import pytest
from mutated_module import mutated
from tf_run import run

from sqair.graph_mode import tf
from sqair.model import noise as noises
from sqair.model import spatial_transformer, videos
from sqair.model.structures import StepNoise, StepOutputs

T, B, K, N, Z = 2, 3, 4, 2, 5
SHAPE = 3, 4, 1
WANTED = noises.of_slots("discovery", N, Z)


def noise_of(seq_len=T, n_what=Z):
    rng = np.random.RandomState(0)
    shapes = (N, n_what), (N, 4), (N,)
    return StepNoise(*[tf.constant(rng.normal(size=(seq_len, B, K) + s), tf.float32) for s in shapes])


def test_noise_has_five_dimensions_and_rows_are_particles_of_sequences():
    noise = noise_of()
    checked = videos.checked_noise(noise, WANTED)
    (what, _, presence), merged = run([noise, videos.merge_rows(checked)])
    assert [x.shape for x in merged] == [(T * B * K, N, n) for n in (Z, 4, 1)]
    for t, b, k in np.ndindex(T, B, K):
        row = t * B * K + b * K + k
        np.testing.assert_array_equal(merged.what[row], what[t, b, k])
        np.testing.assert_array_equal(merged.presence[row, :, 0], presence[t, b, k])


def test_a_cell_reads_each_frame_with_its_own_encoding():
    images = np.random.RandomState(1).uniform(size=(T, B) + SHAPE).astype(np.float32)

    def encoder(frames):
        return tf.reshape(frames, [-1, 12])[:, :2]

    found = videos.encode(tf.constant(images), noise_of(), WANTED, SHAPE, encoder, 2)
    padded = spatial_transformer.pad_images(tf.constant(images[1, 2][None]))
    found, padded = run([found, padded])
    np.testing.assert_array_equal(found.image_encoding, images.reshape(T, B, 12)[..., :2])
    np.testing.assert_array_equal(found.image[1, 2], padded[0])
    assert found.noise.presence.shape == (T, B, K, N, 1)


@pytest.mark.parametrize(
    "images, noise, sentence",
    [
        ((T, B, 4, 4, 1), {}, "images must have shape"),
        ((T, B) + SHAPE, dict(n_what=4), r"noise of discovery_what must have shape \[2, 3, None, 2, 5\]"),
        ((T, B) + SHAPE, dict(seq_len=1), "noise of discovery_what"),
    ],
)
def test_what_does_not_fit_is_refused(images, noise, sentence):
    with pytest.raises(ValueError, match=sentence):
        videos.encode(tf.zeros(images), noise_of(**noise), WANTED, SHAPE, None, 2)
    with pytest.raises(ValueError, match=r"what image_encoder returns must have shape \[None, 3\]"):
        videos.encode(
            tf.zeros((T, B) + SHAPE), noise_of(), WANTED, SHAPE, lambda x: tf.reshape(x, [-1, 12]), 3
        )


def test_a_posterior_that_counts_for_the_joint_is_noticed():
    wrong = mutated(videos, "steps.log_p - steps.log_q", "steps.log_q - steps.log_p")
    with pytest.raises(AssertionError):
        test_weights_are_the_joint_over_the_posterior(False, wrong)


@pytest.mark.parametrize("debug", [False, True])
def test_weights_are_the_joint_over_the_posterior(debug, module=videos):
    rng, seen = np.random.RandomState(2), []
    log_p, log_q, likelihood = (rng.normal(size=(T, B * K)) for _ in range(3))
    log_q[0, 0] = np.nan

    def render(images, latents, particles):
        seen.append((images, latents, particles))
        return tf.zeros([1]), tf.constant(likelihood, tf.float32), None

    steps = steps_of(tf.constant(log_p, tf.float32), tf.constant(log_q, tf.float32))
    outputs = module.describe("images", steps, K, types.SimpleNamespace(render=render), debug)
    assert seen == [("images", steps.latents, K)]
    if debug:
        with pytest.raises(tf.errors.InvalidArgumentError, match="model.steps.log_q is not finite"):
            run(outputs.steps.log_q)
        return
    np.testing.assert_allclose(run(outputs.log_weights), likelihood + log_p - log_q, rtol=1e-5, atol=1e-6)


def steps_of(log_p, log_q):
    return StepOutputs(None, None, None, None, None, log_q, log_p, log_q)
