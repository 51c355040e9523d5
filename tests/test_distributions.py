# SPDX-License-Identifier: GPL-3.0-or-later
"""Distributions against SciPy, the float64 oracle and loops."""

import numpy as np
import pytest
import reference_parts
from autograd import elementwise_grad, grad
from scipy import special, stats
from tf_run import run

from sqair import graph_mode
from sqair.graph_mode import tf
from sqair.model import distributions


def constant(value):
    return tf.constant(value, tf.float32)


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def test_positive_scale():
    raw = np.array([-200.0, -1.0, 0.0, 3.0])
    actual = run(distributions.positive_scale(constant(raw)))
    np.testing.assert_allclose(actual, np.logaddexp(0, raw) + 0.01, rtol=1e-5)


def test_normal_against_scipy(rng):
    value, loc, scale = (
        rng.normal(size=(4, 3, 5)),
        rng.normal(size=(3, 5)),
        rng.uniform(0.1, 2, size=(4, 3, 5)),
    )
    actual = distributions.normal_log_prob(constant(value), constant(loc), constant(scale))
    np.testing.assert_allclose(run(actual), stats.norm.logpdf(value, loc, scale).sum(-1), rtol=1e-4)


def test_a_sample_has_the_density_and_gradients_of_its_value(rng):
    noise, scale = constant(rng.normal(size=(6, 4))), constant(rng.uniform(0.05, 2, size=(6, 4)))
    loc = constant(rng.normal(size=(6, 4)))
    direct = distributions.sampled_normal_log_prob(noise, scale)
    at_sample = distributions.normal_log_prob(loc + scale * noise, loc, scale)
    results = [[log_prob, tf.gradients(log_prob, scale)[0]] for log_prob in (direct, at_sample)]
    for actual, expected in zip(*run(results)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_bernoulli_is_finite_at_the_logit_of_the_absent():
    logit = np.array([-88.0, -3.0, 0.0, 2.0, 88.0])
    for value in (0.0, 1.0):
        actual = run(distributions.bernoulli_log_prob(tf.fill([5], value), constant(logit)))
        sign = 1 if value else -1
        np.testing.assert_allclose(actual, -np.logaddexp(0, -sign * logit), rtol=1e-5, atol=1e-6)


def test_probability_is_accurate_where_it_is_small():
    logits = np.array([-87.0, -40.0, -20.0, -3.0, 0.0, 5.0, 30.0])
    x = constant(logits)
    prob = distributions.probability(x)
    value, gradient = run([prob, tf.gradients(prob, x)[0]])
    np.testing.assert_allclose(value, special.expit(logits), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, special.expit(logits) * special.expit(-logits), rtol=1e-4, atol=1e-12
    )
    assert run(distributions.probability(tf.constant(-200.0))) == 0


# The number of objects


@pytest.mark.parametrize("n_slots", [1, 2, 3, 5])
def test_count_probabilities_and_their_gradients_against_the_oracle(n_slots, rng):
    probs = rng.uniform(size=(12, n_slots))
    probs[0], probs[1] = 0, 1
    probs[2, -1] = 0
    probs[3, 0] = 0
    upstream = rng.normal(size=(12, n_slots + 1))
    x = constant(probs)
    counts = distributions.count_probabilities(x)
    assert counts.shape.as_list() == [12, n_slots + 1]
    value, gradient = run([counts, tf.gradients(counts, x, grad_ys=constant(upstream))[0]])
    np.testing.assert_allclose(value, reference_parts.num_steps_probs(probs), atol=1e-6)
    np.testing.assert_allclose(value.sum(-1), 1, atol=1e-6)

    def oracle(p):
        return (upstream * reference_parts.num_steps_probs(p)).sum()

    np.testing.assert_allclose(gradient, grad(oracle)(probs), atol=1e-5)


def test_count_log_probability_is_clipped_straight_through():
    probs = constant([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5 - 1e-20, 1e-20]])
    log_prob = distributions.count_log_prob(probs, constant([1.0, 0.0, 2.0]))
    value, gradient = run([log_prob, tf.gradients(log_prob, probs)[0]])
    np.testing.assert_allclose(value, np.log([0.75, 1e-16, 1e-16]), rtol=1e-5)
    expected = [[0, 1 / 0.75, 0], [1e16, 0, 0], [0, 0, 1e16]]  # the clipped ones have a gradient as well
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


# Correlated locations


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_triangles_are_filled_in_the_order_of_tensorflow_probability(size, rng):
    """Where that is installed for other reasons; elsewhere in the order of the oracle, which agrees with it."""
    entries, weights = rng.normal(size=size * (size + 1) // 2), rng.normal(size=(size, size))
    tensor = constant(entries)
    filled = distributions.fill_triangular(tensor)
    matrix, gradient = run([filled, tf.gradients(filled, tensor, constant(weights))[0]])
    np.testing.assert_array_equal(matrix, reference_parts.fill_triangular(entries.astype(np.float32)))
    order = reference_parts.fill_triangular(np.arange(len(entries)) + 1.0).astype(int)
    np.testing.assert_array_equal(gradient[order[order > 0] - 1], weights.astype(np.float32)[order > 0])
    if not graph_mode.TF2:
        tfp = pytest.importorskip("tensorflow_probability")
        np.testing.assert_array_equal(matrix, run(tfp.math.fill_triangular(tensor)))


def test_what_fills_no_triangle_is_refused():
    with pytest.raises(ValueError, match="5 numbers do not fill a triangle"):
        distributions.fill_triangular(tf.zeros([5]))


def affine(rng, entries=None):
    """The distribution with given entries of M, its matrices L for scales, and the variable's assignment."""
    distribution = distributions.AffineDiagonalNormal(4)
    variable = tf.global_variables()[0]
    assert variable.shape.as_list() == [10]
    entries = rng.normal(size=10) if entries is None else entries
    scale = rng.uniform(0.3, 2, size=(5, 4))
    factors = [np.diag(s).dot(np.eye(4) + reference_parts.fill_triangular(entries)) for s in scale]
    return distribution, variable, entries, scale, factors


@pytest.mark.parametrize("mirrored", [False, True])
def test_correlated_normal_against_scipy(mirrored, rng):
    """`1 + M_ii` may be negative: the density takes the absolute value of the determinant."""
    entries = rng.normal(size=10)
    if mirrored:
        entries[[9, 4]] = -2.5, -1.7  # on the diagonal of M
    distribution, variable, entries, scale, factors = affine(rng, entries)
    if mirrored:
        assert any(np.any(np.diag(factor) < 0) for factor in factors)
    noise, loc = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    sample = distribution(constant(loc), constant(scale), distribution.mix(constant(noise)))
    log_prob = distribution.log_prob(constant(noise), constant(scale))
    sample, log_prob = run([sample, log_prob], {variable: entries})
    for r, factor in enumerate(factors):
        np.testing.assert_allclose(sample[r], loc[r] + factor.dot(noise[r]), rtol=1e-4, atol=1e-5)
        expected = stats.multivariate_normal.logpdf(sample[r], loc[r], factor.dot(factor.T))
        np.testing.assert_allclose(log_prob[r], expected, rtol=1e-3, atol=1e-3)


def test_gradients_of_the_correlated_normal_against_the_oracle(rng):
    distribution, variable, entries, scale, _ = affine(rng)
    noise, loc, weights = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    scale_tensor = constant(scale)
    sample = distribution(constant(loc), scale_tensor, distribution.mix(constant(noise)))
    log_prob = distribution.log_prob(constant(noise), scale_tensor)
    total = tf.reduce_sum(sample * constant(weights)) + tf.reduce_sum(log_prob)
    actual = run(tf.gradients(total, [variable, scale_tensor]), {variable: entries})

    def oracle(entries, scale):
        rows = reference_parts.affine_rows(scale, reference_parts.fill_triangular(entries))
        sample = reference_parts.affine_sample(loc, rows, noise)
        return (sample * weights).sum() + reference_parts.affine_log_prob(sample, loc, rows).sum()

    for i in (0, 1):
        expected = elementwise_grad(oracle, i)(entries, scale)
        np.testing.assert_allclose(actual[i], expected, rtol=1e-3, atol=1e-4)


# Locations in a row


@pytest.mark.parametrize("n_slots", [1, 2, 4])
def test_slot_logits_undo_count_probabilities(n_slots, rng):
    """Up to a constant, and where counts are next to impossible."""
    probs = special.softmax(rng.normal(size=(9, n_slots + 1)) * 3, axis=-1)
    probs[0, 1:] = 1e-30
    log_probs = np.log(probs) + rng.normal(size=(9, 1))
    logits = distributions.slot_logits(constant(log_probs))
    again = distributions.count_probabilities(distributions.probability(logits))
    actual, expected = run(again), probs / probs.sum(-1, keepdims=True)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-4)


@pytest.mark.parametrize("n_slots", [1, 3])
def test_locations_in_a_row_against_a_loop(n_slots, rng):
    prior = distributions.AutoregressiveNormal((-2.0, -1.0))
    where, features = rng.normal(size=(6, n_slots, 4)), rng.normal(size=(6, 7))
    log_prob = prior(constant(where), constant(features))
    assert log_prob.shape.as_list() == [6, n_slots]
    variables = {v.op.name.split("/", 1)[1]: v for v in tf.global_variables()}
    values = {name: 0.3 * rng.normal(size=v.shape.as_list()) for name, v in variables.items()}
    actual = run(log_prob, {variables[name]: value for name, value in values.items()})

    def linear(name, x):
        return x.dot(values[name + "/w"]) + values[name + "/b"]

    for r in range(6):
        context = reference_parts.elu(linear("context", np.append(values["start"][0], features[r])))
        previous = values["first_where"][0]
        for n in range(n_slots):
            hidden = np.tanh(linear("where_to_hidden", previous) + linear("context_to_hidden", context))
            loc, scale = np.split(linear("readout", hidden), 2)
            scale = np.logaddexp(0, scale) + 0.01
            previous = where[r, n]
            np.testing.assert_allclose(actual[r, n], stats.norm.logpdf(previous, loc, scale).sum(), rtol=1e-4)


def test_locations_in_a_row_start_at_the_prior_scale():
    prior = distributions.AutoregressiveNormal((-2.0, -1.0))
    prior(tf.zeros([1, 2, 4]), tf.zeros([1, 3]))
    bias = [v for v in tf.global_variables() if v.op.name.endswith("readout/b")][0]
    np.testing.assert_array_equal(run(bias), [-2, -1, 0, 0, 1, 1, 1, 1])


def test_sampled_locations_in_a_row_have_the_density_of_their_noise(rng):
    prior = distributions.AutoregressiveNormal((-2.0, -1.0))
    noise, features = rng.normal(size=(6, 3, 4)), constant(rng.normal(size=(6, 7)))
    where, loc, scale = prior.sample(constant(noise), features)
    results = where, loc, scale, prior(where, features)
    where, loc, scale, log_prob = run(
        results, {v: rng.normal(size=v.shape.as_list()) for v in tf.global_variables()}
    )
    np.testing.assert_allclose(where, loc + scale * noise, rtol=1e-5, atol=1e-5)
    expected = stats.norm.logpdf(noise).sum(-1) - np.log(scale).sum(-1)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3)
    assert np.ptp(loc[:, 1:], axis=1).any()
