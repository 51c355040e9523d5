# SPDX-License-Identifier: GPL-3.0-or-later
"""Oracle of the bounds and estimators: `log_w` is `[B, K]`, log p(x, z_k) - log q(z_k | x) in nats.

Each is differentiable by autograd.
"""

import autograd.numpy as np
from reference_parts import stop


def log_mean_exp(values):
    """log of the mean of exp(values), for a vector."""
    top = np.max(stop(values))
    return top + np.log(np.mean(np.exp(values - top)))


def elbo(log_w):
    """Mean over sequences and particles."""
    return np.mean(log_w)


def iwae_per_example(log_w):
    """log (1/K sum_k w_k) (Burda et al. 2016, eq. 8), `[B]`."""
    return np.stack([log_mean_exp(row) for row in log_w])


def iwae(log_w):
    return np.mean(iwae_per_example(log_w))


def vimco_baseline(log_w):
    """The IWAE bound with log w_k replaced by the mean of the other log-weights (Mnih & Rezende 2016)."""
    log_w = stop(log_w)
    if log_w.shape[1] < 2:
        raise ValueError("the leave-one-out mean needs at least 2 particles")
    out = np.empty_like(log_w)
    for b, row in enumerate(log_w):
        for k in range(len(row)):
            others = np.delete(row, k)
            out[b, k] = log_mean_exp(np.append(others, others.mean()))
    return out


def loss(estimator, log_w, discrete_log_q, seq_len):
    """The surrogate whose gradient the estimator is; `discrete_log_q` `[B, K]` is summed over time."""
    constant_log_w = stop(log_w)
    terms = []
    bounds = iwae_per_example(log_w)
    baseline = np.zeros_like(constant_log_w) if estimator == "reinforce" else vimco_baseline(log_w)
    for b in range(constant_log_w.shape[0]):
        n_particles = constant_log_w.shape[1]
        term = -bounds[b]
        for k in range(n_particles):
            if estimator in ("reference", "reinforce"):
                signal = (constant_log_w[b, k] - baseline[b, k]) / n_particles
            elif estimator == "vimco":
                signal = stop(bounds)[b] - baseline[b, k]
            else:
                raise ValueError("no estimator %r" % estimator)
            term = term - signal * discrete_log_q[b, k]
        terms.append(term)
    return np.mean(np.stack(terms)) / seq_len


def importance_weights(log_w):
    """softmax over particles, without gradient."""
    log_w = stop(log_w)
    w = np.exp(log_w - log_w.max(1, keepdims=True))
    return w / w.sum(1, keepdims=True)


def ess(log_w):
    """(sum w)^2 / sum w^2, mean over sequences: between 1 and K."""
    w = importance_weights(log_w)
    return np.mean(np.sum(w, 1) ** 2 / np.sum(w**2, 1))
