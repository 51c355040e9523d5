# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds and estimators against loops in float64, and against the enumeration of a toy model."""

import numpy as np
import pytest
import reference_bounds
import reference_toy
from autograd import grad
from tf_run import run

from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model import bounds

SIZES = [(1, 2), (5, 3), (1, 5), (5, 1)]  # sequences, particles
BATCHES = (1, 5)
PARTICLES = {"reference": (2, 3, 5), "vimco": (2, 3, 5), "reinforce": (1, 2, 3, 5)}  # one has no baseline


def log_weights(batch_size, k_particles, spread=3.0):
    return np.random.RandomState(0).normal(size=(batch_size, k_particles)) * spread - 20


@pytest.mark.parametrize("batch_size, k_particles", SIZES)
def test_bounds_against_loops(batch_size, k_particles):
    values = log_weights(batch_size, k_particles)
    x = tf.constant(values, tf.float32)
    weights = bounds.importance_weights(x)
    elbo, iwae, weights, ess = run(
        [bounds.elbo(x), bounds.iwae(x), weights, bounds.effective_sample_size(weights)]
    )
    np.testing.assert_allclose(elbo, reference_bounds.elbo(values), rtol=1e-6)
    np.testing.assert_allclose(iwae, reference_bounds.iwae_per_example(values), rtol=1e-6)
    np.testing.assert_allclose(weights, reference_bounds.importance_weights(values), atol=1e-5)
    np.testing.assert_allclose(np.mean(ess), reference_bounds.ess(values), rtol=1e-5)
    assert ess.shape == (batch_size,)


@pytest.mark.parametrize("batch_size, k_particles", [(1, 2), (5, 2), (5, 5)])
def test_baseline_against_a_loop(batch_size, k_particles):
    values = log_weights(batch_size, k_particles)
    actual = run(bounds.vimco_baseline(tf.constant(values, tf.float32)))
    np.testing.assert_allclose(actual, reference_bounds.vimco_baseline(values), rtol=1e-5)


def test_every_estimator_is_tried():
    assert set(PARTICLES) == set(bounds.ESTIMATORS)


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("estimator, k_particles", [(name, k) for name in PARTICLES for k in PARTICLES[name]])
def test_loss_and_its_gradients_against_the_oracle(estimator, batch_size, k_particles):
    values = log_weights(batch_size, k_particles)
    discrete = np.random.RandomState(1).normal(size=values.shape) - 3
    x, y = tf.constant(values, tf.float32), tf.constant(discrete, tf.float32)
    loss = bounds.loss(x, y, 4, estimator)
    assert loss.shape.ndims == 0
    actual = run([loss] + tf.gradients(loss, [x, y]))

    def oracle(log_w, log_q):
        return reference_bounds.loss(estimator, log_w, log_q, 4)

    np.testing.assert_allclose(actual[0], oracle(values, discrete), rtol=1e-4)
    for i in (0, 1):
        np.testing.assert_allclose(actual[1 + i], grad(oracle, i)(values, discrete), rtol=1e-3, atol=1e-5)


def test_log_weights_of_thousands_of_nats():
    values = np.array([[-4000.0, -4001.0, -9000.0], [6000.0, 6000.0, 5000.0]])
    x = tf.constant(values, tf.float32)
    weights = bounds.importance_weights(x)
    results = [bounds.iwae(x), bounds.vimco_baseline(x), weights, bounds.effective_sample_size(weights)]
    iwae, baseline, weights, ess = run(results)
    np.testing.assert_allclose(iwae, reference_bounds.iwae_per_example(values), rtol=1e-6)
    np.testing.assert_allclose(baseline, reference_bounds.vimco_baseline(values), rtol=1e-6)
    np.testing.assert_allclose(weights, reference_bounds.importance_weights(values), atol=1e-6)
    assert np.all((ess >= 1) & (ess <= 3))


def test_the_batch_may_be_unknown():
    x = tf.placeholder(tf.float32, [None, 3])
    loss = bounds.loss(x, x, tf.constant(2), "vimco")
    for batch_size in (1, 5):
        values = log_weights(batch_size, 3)
        expected = reference_bounds.loss("vimco", values, values, 2)
        np.testing.assert_allclose(run(loss, {x: values}), expected, rtol=1e-5)


def test_signals_and_weights_carry_no_gradient():
    x = tf.constant(log_weights(2, 3), tf.float32)
    for estimator in bounds.ESTIMATORS:
        assert tf.gradients(bounds.learning_signal(x, estimator), x) == [None]
    assert tf.gradients(bounds.importance_weights(x), x) == [None]


# What the estimators estimate


def parametrised_weight(z, theta):
    """Log-weights with a gradient at fixed z, as reparametrised variables give."""
    return reference_toy.model_log_weight(z, theta) + 0.3 * theta * theta * z


@pytest.mark.parametrize("estimator, k_particles", reference_toy.COMBINATIONS)
@pytest.mark.parametrize("log_weight", [reference_toy.model_log_weight, parametrised_weight])
def test_mean_gradients_on_a_toy_model_agree_with_enumeration(estimator, k_particles, log_weight):
    theta, z = tf.placeholder(tf.float32, []), tf.placeholder(tf.float32, [1, k_particles])
    log_q = z * theta - tf.nn.softplus(theta)
    low, high = reference_toy.LOG_LIKELIHOOD
    log_w = (
        low
        + z * (high - low)
        + z * reference_toy.PRIOR_LOGIT
        - np.log1p(np.exp(reference_toy.PRIOR_LOGIT))
        - log_q
    )
    if log_weight is parametrised_weight:
        log_w += 0.3 * theta * theta * z
    gradient = tf.gradients(bounds.loss(log_w, log_q, 2, estimator), theta)[0]
    outcomes = reference_toy.configurations(k_particles)
    with tf.Session(config=session_config(1)) as session:
        for point in (-1.5, 0.3):
            gradients = [session.run(gradient, {theta: point, z: outcome[None]}) for outcome in outcomes]
            mean = np.sum(reference_toy.probabilities(point, k_particles) * gradients)
            target = reference_toy.target_gradient(estimator, point, k_particles, log_weight, seq_len=2)
            np.testing.assert_allclose(mean, target, rtol=1e-4, atol=1e-5)


# Refusals


@pytest.mark.parametrize("estimator", ["reference", "vimco"])
def test_one_particle_has_no_baseline(estimator):
    x = tf.zeros([2, 1])
    with pytest.raises(UserError, match=f"`k_particles=1` leaves no other .* `estimator={estimator}`"):
        bounds.loss(x, x, 3, estimator)
    with pytest.raises(ValueError, match="at least 2 particles, not 1"):
        bounds.vimco_baseline(x)


def test_an_unknown_estimator_is_refused_with_the_known_ones():
    x = tf.zeros([2, 3])
    with pytest.raises(UserError, match="`estimator=nvil`.*reference, vimco, reinforce"):
        bounds.loss(x, x, 3, "nvil")
