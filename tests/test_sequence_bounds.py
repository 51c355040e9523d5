# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way to make a bound of frames against loops, and where they agree."""

import numpy as np
import pytest
import reference_bounds
from tf_run import run

from sqair.graph_mode import tf
from sqair.model import bounds
from sqair.model.sequence_bounds import Filtered, IndependentFrames, WholeSequences

T, B, K = 4, 3, 5
EVERY = [WholeSequences, IndependentFrames, Filtered]


@pytest.fixture
def log_w():
    return 3 * np.random.RandomState(0).normal(size=(T, B, K)) - 700


def constant(value):
    return tf.constant(value, tf.float32)


def test_frames_add_up_before_or_after_the_mean_over_particles(log_w):
    sums = np.cumsum(log_w, axis=0)
    together = [[reference_bounds.log_mean_exp(sums[t, b]) for b in range(B)] for t in range(T)]
    alone = [[reference_bounds.log_mean_exp(log_w[t, b]) for b in range(B)] for t in range(T)]
    found = run([kind().so_far(constant(log_w)) for kind in EVERY])
    for values, expected in zip(found, (together, np.cumsum(alone, axis=0), np.cumsum(alone, axis=0))):
        np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_weights_are_of_sequences_of_frames_or_of_the_last_frame(log_w):
    found = run([kind().importance_weights(constant(log_w)) for kind in EVERY])
    of_frames = np.stack([reference_bounds.importance_weights(frame) for frame in log_w])
    for weights, expected in zip(
        found, (reference_bounds.importance_weights(log_w.sum(0)), of_frames, of_frames[-1])
    ):
        np.testing.assert_allclose(weights, expected, rtol=2e-3, atol=1e-5)
    sizes = run([kind().effective_sample_size(constant(log_w)) for kind in EVERY])
    so_far = [reference_bounds.importance_weights(x) for x in np.cumsum(log_w, axis=0)]
    for size, weights in zip(sizes, (np.stack(so_far), of_frames, of_frames)):
        np.testing.assert_allclose(size, 1 / np.sum(weights**2, axis=-1), rtol=2e-3)


@pytest.mark.parametrize("estimator", bounds.ESTIMATORS)
def test_of_one_frame_independent_frames_are_whole_sequences(log_w, estimator):
    log_weights, discrete = constant(log_w[:1]), constant(log_w[1:2])
    losses = [kind().loss(log_weights, discrete, estimator) for kind in EVERY[:2]]
    gradients = [tf.gradients(loss, [log_weights, discrete]) for loss in losses]
    (loss, gradient), (other, other_gradient) = run(list(zip(losses, gradients)))
    np.testing.assert_allclose(loss, other, rtol=1e-6)
    for one, same in zip(gradient, other_gradient):
        np.testing.assert_allclose(one, same, rtol=1e-4, atol=1e-6)


def test_the_learning_signal_of_a_frame_is_its_own(log_w):
    log_weights, discrete = constant(log_w), tf.zeros([T, B, K])
    (found,) = tf.gradients(IndependentFrames().loss(log_weights, discrete, "vimco"), discrete)
    others = np.concatenate([log_w[:1], log_w[1:] + 7 * log_w[:1]])  # other frames change, the first does not
    (same,) = tf.gradients(IndependentFrames().loss(constant(others), discrete, "vimco"), discrete)
    found, same = run([found, same])
    signal = reference_bounds.iwae_per_example(log_w[0])[:, None] - reference_bounds.vimco_baseline(log_w[0])
    np.testing.assert_allclose(found[0], -signal / (B * T), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[0], same[0], rtol=1e-5)
    assert np.abs(found[1:] - same[1:]).max() > 0.01


def test_a_filter_that_never_resamples_bounds_as_whole_sequences_do(log_w):
    """With the weights before each frame in its log-weights, increments telescope."""
    weights = np.full([B, K], 1 / K)
    filtered = []
    for frame in log_w:
        filtered.append(frame + np.log(K * weights))
        weights = np.stack([reference_bounds.importance_weights(row[None])[0] for row in filtered[-1]])
    found, wanted = run(
        [Filtered().so_far(constant(np.array(filtered))), WholeSequences().so_far(constant(log_w))]
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    last, whole = run(
        [
            kind().importance_weights(constant(np.array(x)))
            for kind, x in ((Filtered, filtered), (WholeSequences, log_w))
        ]
    )
    np.testing.assert_allclose(last, whole, rtol=1e-2, atol=1e-4)


def test_weights_have_no_gradient(log_w):
    for kind in EVERY:
        log_weights = constant(log_w)
        assert tf.gradients(kind().importance_weights(log_weights), log_weights) == [None]
