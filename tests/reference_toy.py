# SPDX-License-Identifier: GPL-3.0-or-later
"""A model small enough to enumerate: one Bernoulli latent z with q(z = 1) = sigmoid(theta), K particles.

`log_weight(z, theta)` maps 0/1 arrays to log p(x, z) - log q(z; theta) of the same shape; it may be any
function of z and theta. What the estimators estimate, as gradients of a loss to be minimised:

- `vimco`: -d/dtheta E[IWAE], the whole gradient of the expected bound: the baseline of particle k does not
  depend on z_k, so it adds nothing to the mean.
- `reference` and `reinforce`: -(E[d IWAE/dtheta at fixed z] + d/dtheta' E_q(theta')[log w(z; theta)]), the
  gradient of IWAE through its continuous arguments beside the score-function gradient of the ELBO. With one
  particle that is the gradient of the ELBO; with more it is that of no bound.
"""

import itertools

import autograd.numpy as np
from autograd import grad
from reference_bounds import iwae_per_example, loss
from reference_parts import softplus, stop

LOG_LIKELIHOOD = np.array([-1.3, 0.4])  # log p(x | z = 0), log p(x | z = 1)
PRIOR_LOGIT = -0.8
# Estimators with numbers of particles: all but `reinforce` compare each particle with the others.
COMBINATIONS = [(name, k) for name in ("reference", "vimco") for k in (2, 4)]
COMBINATIONS += [("reinforce", k) for k in (1, 2, 4)]


def log_prob(z, theta):
    """Bernoulli log-probability, elementwise."""
    return z * theta - softplus(theta)


def model_log_weight(z, theta):
    """log p(x | z) + log p(z) - log q(z; theta): the default toy model."""
    log_likelihood = LOG_LIKELIHOOD[0] + z * (LOG_LIKELIHOOD[1] - LOG_LIKELIHOOD[0])
    return log_likelihood + log_prob(z, PRIOR_LOGIT) - log_prob(z, theta)


def configurations(n_particles):
    """All outcomes of K particles: `[2^K, K]` of 0.0 and 1.0."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=n_particles)))


def probabilities(theta, n_particles):
    """Their probabilities, `[2^K]`."""
    return np.exp(np.sum(log_prob(configurations(n_particles), theta), 1))


def expected_iwae(theta, n_particles, log_weight=model_log_weight):
    bounds = iwae_per_example(log_weight(configurations(n_particles), theta))
    return np.sum(probabilities(theta, n_particles) * bounds)


def expected_elbo(theta, log_weight=model_log_weight):
    z = np.array([0.0, 1.0])
    return np.sum(np.exp(log_prob(z, theta)) * log_weight(z, theta))


def mean_gradient(estimator, theta, n_particles, log_weight=model_log_weight, seq_len=1):
    """The exact mean of what the estimator's loss gives as gradient: enumerates the outcomes."""
    outcomes = configurations(n_particles)
    total = 0.0
    for z, probability in zip(outcomes, probabilities(theta, n_particles)):

        def surrogate(theta, z=z):
            return loss(estimator, log_weight(z, theta)[None], log_prob(z, theta)[None], seq_len)

        total += probability * grad(surrogate)(theta)
    return total


def target_gradient(estimator, theta, n_particles, log_weight=model_log_weight, seq_len=1):
    """The exact gradient that the estimator claims to estimate (see above)."""
    if estimator == "vimco":
        return -grad(expected_iwae)(theta, n_particles, log_weight) / seq_len
    weights = stop(probabilities(theta, n_particles))

    def reparametrised(theta):
        return np.sum(weights * iwae_per_example(log_weight(configurations(n_particles), theta)))

    def score_function(theta_of_q):
        z = np.array([0.0, 1.0])
        return np.sum(np.exp(log_prob(z, theta_of_q)) * log_weight(z, theta))

    return -(grad(reparametrised)(theta) + grad(score_function)(theta)) / seq_len
