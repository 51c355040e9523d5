# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle's parts: against enumeration, loops and numbers done by hand."""

import itertools

import numpy as np
import pytest
import reference
import reference_cases
import reference_parts
import reference_toy
from reference_discovery import discovery_count_log_prior


def test_number_of_steps_against_enumeration():
    prob = np.random.RandomState(0).uniform(size=(5, 3))
    expected = np.zeros((5, 4))
    for draws in itertools.product([0, 1], repeat=3):
        count = draws.index(0) if 0 in draws else 3  # successes before the first failure
        expected[:, count] += np.prod(np.where(draws, prob, 1 - prob), -1)
    np.testing.assert_allclose(reference.num_steps_probs(prob), expected)


@pytest.mark.parametrize("first_frame", [True, False])
def test_count_priors_are_distributions(first_frame):
    flags = reference_cases.DEFAULT_FLAGS
    params = reference_cases.init_params(flags, reference_cases.DEFAULT_IMAGE)
    m = np.full(4, 0.1)
    log_p = discovery_count_log_prior(params, flags, np.arange(4), m, first_frame)
    np.testing.assert_allclose(np.sum(np.exp(log_p)), 1)
    geometric = dict(flags, disc_prior_type="geom", step_success_prob=0.6)
    log_p = discovery_count_log_prior({}, geometric, np.arange(200), None, first_frame)
    np.testing.assert_allclose(np.sum(np.exp(log_p)), 1)
    np.testing.assert_allclose(np.exp(log_p[:3]), [0.4, 0.24, 0.144])


def test_affine_normal_against_its_covariance():
    rng = np.random.RandomState(0)
    v, scale, loc = rng.normal(size=10), rng.uniform(0.5, 2, (3, 4)), rng.normal(size=(3, 4))
    eps = rng.normal(size=(3, 4))
    matrix = reference_parts.fill_triangular(v)
    assert list(matrix[0]) == [v[4], 0, 0, 0] and list(matrix[3]) == list(v[3::-1])
    rows = reference_parts.affine_rows(scale, matrix)
    x = reference_parts.affine_sample(loc, rows, eps)
    log_prob = reference_parts.affine_log_prob(x, loc, rows)
    for r in range(3):
        factor = np.diag(scale[r]) + np.diag(scale[r]).dot(matrix)
        np.testing.assert_allclose(x[r], loc[r] + factor.dot(eps[r]))
        covariance, d = factor.dot(factor.T), x[r] - loc[r]
        expected = -0.5 * d.dot(np.linalg.inv(covariance)).dot(d) - 0.5 * np.linalg.slogdet(covariance)[1]
        np.testing.assert_allclose(log_prob[r], expected - 2 * np.log(2 * np.pi))


def test_glimpses_against_loops():
    rng = np.random.RandomState(0)
    image, where = rng.uniform(size=(2, 6, 9)), rng.normal(size=(2, 4))
    glimpse = reference.read_glimpse(image, where, 5)
    canvas = reference.write_glimpse(glimpse, where, 6, 9)

    def sample(picture, y, x):
        """Bilinear, zero outside."""
        total, (y0, x0) = 0.0, (int(np.floor(y)), int(np.floor(x)))
        for i, j in itertools.product((y0, y0 + 1), (x0, x0 + 1)):
            if 0 <= i < picture.shape[0] and 0 <= j < picture.shape[1]:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * picture[i, j]
        return total

    for r in range(2):
        (sx, sy), (tx, ty) = 1 / (1 + np.exp(-where[r, :2])), np.tanh(where[r, 2:])
        for i, j in itertools.product(range(5), range(5)):
            y, x = sy * (i / 2 - 1) + ty, sx * (j / 2 - 1) + tx
            np.testing.assert_allclose(glimpse[r, i, j], sample(image[r], (y + 1) * 5 / 2, (x + 1) * 8 / 2))
        for i, j in itertools.product(range(6), range(9)):
            v, u = (i / 2.5 - 1 - ty) / sy, (j / 4 - 1 - tx) / sx
            np.testing.assert_allclose(canvas[r, i, j], sample(glimpse[r], (v + 1) * 2, (u + 1) * 2))


def test_a_glimpse_of_everything_is_the_image_and_back():
    image = np.random.RandomState(0).uniform(size=(1, 7, 7))
    everything = np.array([[50.0, 50.0, 0.0, 0.0]])
    np.testing.assert_allclose(reference.read_glimpse(image, everything, 7), image)
    np.testing.assert_allclose(reference.write_glimpse(image, everything, 7, 7), image)
    np.testing.assert_allclose(reference.boxes(everything, 7, 9), [[0, 0, 8, 10]], atol=1e-9)


# Bounds and estimators


def test_bounds_on_numbers_done_by_hand():
    log_w = np.log([[1.0, 3.0], [2.0, 2.0]])
    np.testing.assert_allclose(reference.iwae_per_example(log_w), np.log([2, 2]))
    np.testing.assert_allclose(reference.elbo(log_w), np.log(12) / 4)
    np.testing.assert_allclose(reference.importance_weights(log_w), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(reference.ess(log_w), np.mean([1 / (1 / 16 + 9 / 16), 2]))
    # with two particles the mean of the others is the other
    np.testing.assert_allclose(reference.vimco_baseline(log_w), np.log([[3, 1], [2, 2]]))
    discrete_log_q = np.array([[-1.0, -2.0], [-3.0, -5.0]])
    signal = np.log([[1 / 3, 3], [1, 1]])
    expected = (-np.log(2) - np.mean(signal * discrete_log_q)) / 7
    np.testing.assert_allclose(reference.loss("reference", log_w, discrete_log_q, 7), expected)
    expected = (-np.log(2) - np.mean(log_w * discrete_log_q)) / 7
    np.testing.assert_allclose(reference.loss("reinforce", log_w, discrete_log_q, 7), expected)
    signal = np.log([[2 / 3, 2], [1, 1]])
    expected = (-np.log(2) - np.mean(np.sum(signal * discrete_log_q, 1))) / 7
    np.testing.assert_allclose(reference.loss("vimco", log_w, discrete_log_q, 7), expected)


def test_bounds_survive_large_log_weights():
    log_w = np.array([[-4000.0, -4001.0, -9000.0], [3000.0, 3000.0, 3000.0]])
    np.testing.assert_allclose(reference.iwae_per_example(log_w - 5), reference.iwae_per_example(log_w) - 5)
    assert np.all(np.isfinite(reference.vimco_baseline(log_w)))
    assert 1 <= reference.ess(log_w) <= 3


@pytest.mark.parametrize("estimator", ["reference", "vimco"])
def test_one_particle_has_no_baseline(estimator):
    with pytest.raises(ValueError, match="at least 2 particles"):
        reference.loss(estimator, np.zeros((2, 1)), np.zeros((2, 1)), 1)


@pytest.mark.parametrize("estimator, n_particles", reference_toy.COMBINATIONS)
def test_mean_gradients_of_a_toy_model_are_what_they_estimate(estimator, n_particles):
    for theta in (-1.5, 0.3):
        mean = reference_toy.mean_gradient(estimator, theta, n_particles, seq_len=2)
        target = reference_toy.target_gradient(estimator, theta, n_particles, seq_len=2)
        np.testing.assert_allclose(mean, target, rtol=1e-10, atol=1e-12)


def test_toy_targets_against_finite_differences_of_the_bounds():
    theta, step = 0.3, 1e-6

    def slope(bound, *args):
        return (bound(theta + step, *args) - bound(theta - step, *args)) / (2 * step)

    vimco = reference_toy.target_gradient("vimco", theta, 3)
    np.testing.assert_allclose(-slope(reference_toy.expected_iwae, 3), vimco, rtol=1e-6)
    one = reference_toy.target_gradient("reinforce", theta, 1)
    np.testing.assert_allclose(-slope(reference_toy.expected_elbo), one, rtol=1e-6)
    assert abs(reference_toy.target_gradient("reference", theta, 3) / vimco - 1) > 0.1
