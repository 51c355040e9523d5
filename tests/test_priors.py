# SPDX-License-Identifier: GPL-3.0-or-later
"""Priors against the float64 oracle, with parameters under the oracle's names."""

import numpy as np
import pytest
from oracle_model import D, N, R, Z, constant, flags, parameters
from reference_discovery import discovery_count_log_prior, discovery_where_prior
from reference_generation import count_probs
from reference_names import NUM_PRIOR, PRIOR_READOUT
from reference_parts import diag_normal_log_prob, sigmoid
from reference_propagation import propagation_prior
from tf_run import run

from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.model.priors import DiscoveryPrior, PropagationPrior, expected_propagations
from sqair.model.structures import StepNoise


@pytest.mark.parametrize("is_later", [0.0, 1.0])
@pytest.mark.parametrize("kind, recurrent", [("cat", True), ("geom", False)])
def test_discovery_prior(kind, recurrent, is_later):
    f = flags(disc_prior_type=kind, rec_where_prior=recurrent, scale_prior="-2,-1", step_success_prob=0.6)
    rng = np.random.RandomState(0)
    what, where = rng.normal(size=(R, N, Z)), rng.normal(size=(R, N, 4))
    count = np.array([0, 1, 2, 3, 3, 1])
    presence = 1.0 * (np.arange(N) < count[:, None])
    features, expected = rng.normal(size=(R, D)), rng.uniform(-0.5, 0.5, size=(R, 1))
    with tf.variable_scope("sqair"):
        prior = DiscoveryPrior(N, kind, 0.6, (-2.0, -1.0), recurrent)
        sampled = constant(what), constant(where), constant(presence)
        log_probs = prior(*sampled, constant(features), constant(expected), tf.fill([R, 1], is_later))
    params, feed = parameters(f)
    actual = run(log_probs, feed)
    np.testing.assert_allclose(
        actual.what, presence * diag_normal_log_prob(what, 0.0, np.ones_like(what)), rtol=1e-4
    )
    statistics = discovery_where_prior(params, f, list(where.transpose(1, 0, 2)), features, expected[:, 0])
    for n, (loc, scale) in enumerate(statistics):
        log_prob = presence[:, n] * diag_normal_log_prob(where[:, n], loc, scale)
        np.testing.assert_allclose(actual.where[:, n], log_prob, rtol=1e-4)
    log_prob = discovery_count_log_prior(params, f, count, expected[:, 0], first_frame=not is_later)
    np.testing.assert_allclose(actual.presence, log_prob, rtol=1e-4, atol=1e-6)


def test_nothing_new_is_likely_after_the_first_frame():
    with tf.variable_scope("sqair"):
        prior = DiscoveryPrior(N, "cat", None, (-2.0, -2.0), True)
        nothing = tf.zeros([2, N, Z]), tf.zeros([2, N, 4]), tf.zeros([2, N])
        log_probs = prior(*nothing, tf.zeros([2, D]), tf.zeros([2, 1]), constant([[0.0], [1.0]]))
    first, later = run(log_probs.presence)
    assert first < -1
    assert later > -1e-3


@pytest.mark.parametrize("kind", ["rnn", "rw", "guided"])
def test_propagation_prior(kind):
    f = flags(prop_prior_type=kind, prop_prior_step_bias=2.0)
    rng = np.random.RandomState(0)
    previous = dict(
        what=rng.normal(size=(R, Z)), where=rng.normal(size=(R, 4)), prior=rng.normal(size=(R, D))
    )
    previous.update(presence=np.ones(R), presence_logit=rng.normal(size=R))
    with tf.variable_scope("sqair"):
        prior = PropagationPrior(Z, D, "GRU", kind, 2.0)
        what, where = constant(previous["what"]), constant(previous["where"])
        state = prior.step(what, where, constant(previous["prior"]))
        statistics = prior(what, where, state)
        logit = prior.presence_logit(statistics.presence_logit[:, 0], constant(previous["presence_logit"]))
    params, feed = parameters(f)
    assert np.any(params[PRIOR_READOUT[kind] + "/b"])
    state, statistics, logit = run([state, statistics, logit], feed)
    expected = propagation_prior(params, f, previous)
    np.testing.assert_allclose(state, expected["state"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logit, expected["logit"], rtol=1e-4, atol=1e-5)
    for name in ("where_loc", "where_scale", "what_loc", "what_scale"):
        np.testing.assert_allclose(
            getattr(statistics, name), expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_expected_propagations():
    logits = np.array([[-88.0, -88.0, -88.0], [3.0, -88.0, 0.5], [50.0, 50.0, 50.0], [-8.8, -8.8, -8.8]])
    actual = run(expected_propagations(constant(logits)))
    np.testing.assert_allclose(actual, np.mean(sigmoid(logits) - 0.5, -1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(actual[[0, 2], 0], [-0.5, 0.5], rtol=1e-6)


def test_unknown_kinds_are_refused_with_the_known_ones():
    with pytest.raises(UserError, match="^`disc_prior_type=poisson` .* cat or geom"):
        DiscoveryPrior(N, "poisson", 0.5, (-2.0, -2.0), True)
    with pytest.raises(UserError, match="^`prop_prior_type=lstm` .* rnn, rw, guided"):
        PropagationPrior(Z, D, "GRU", "lstm", 1.0)
    with pytest.raises(UserError, match="^`prior_transition=LSTM` .* GRU, VanillaRNN"):
        PropagationPrior(Z, D, "LSTM", "rnn", 1.0)


# Sampling


@pytest.mark.parametrize("is_later", [0.0, 1.0])
@pytest.mark.parametrize("kind, recurrent", [("cat", True), ("geom", False)])
def test_new_objects_are_distributed_as_the_prior_says(kind, recurrent, is_later):
    """Numbers and first locations of many draws, within four standard errors of the oracle's."""
    f = flags(disc_prior_type=kind, rec_where_prior=recurrent, scale_prior="-2,-1", step_success_prob=0.6)
    rng, draws, expected = np.random.RandomState(0), 20000, -0.2
    features = rng.normal(size=(1, D))
    with tf.variable_scope("sqair"):
        prior = DiscoveryPrior(N, kind, 0.6, (-2.0, -1.0), recurrent)
        noise = StepNoise(
            tf.zeros([draws, N, Z]),
            constant(rng.normal(size=(draws, N, 4))),
            constant(rng.uniform(size=(draws, N, 1))),
        )
        conditions = constant(np.repeat(features, draws, 0)), tf.fill([draws, 1], expected)
        sampled = prior.sample(noise, *conditions, tf.fill([draws, 1], is_later))
    params, feed = parameters(f)
    if kind == "cat":
        later = params[NUM_PRIOR + "step_prior_timestep_bias"] = np.array([1.0, 0.0, 0.0, -0.5])
        feed = {v: later if "later" in v.op.name else value for v, value in feed.items()}
    sampled = run(sampled, feed)
    presence = sampled.presence[..., 0]
    assert np.all(np.diff(presence, axis=-1) <= 0)
    shares = np.bincount(presence.sum(-1).astype(int), minlength=N + 1) / draws
    m = np.array([expected])
    probs = count_probs(params, f, m, first_frame=not is_later)[0]
    assert np.all(np.abs(shares - probs) < 4 * np.sqrt(probs * (1 - probs) / draws))
    loc, scale = [
        np.ravel(x) for x in discovery_where_prior(params, f, [np.zeros((1, 4))] * N, features, m)[0]
    ]
    first = sampled.where[presence[:, 0] == 1, 0]
    error = scale / np.sqrt(len(first))
    assert np.all(np.abs(first.mean(0) - loc) < 4 * error) and np.all(
        np.abs(first.std(0) - scale) < 4 * error
    )


def test_new_objects_are_their_noise():
    """Appearances are standard normal; where nothing is present there is none."""
    rng = np.random.RandomState(0)
    what = rng.normal(size=(R, N, Z))
    with tf.variable_scope("sqair"):
        prior = DiscoveryPrior(N, "geom", 0.5, (-2.0, -2.0), False)
        noise = StepNoise(constant(what), tf.ones([R, N, 4]), constant([[[0.1], [0.9], [0.1]]] * R))
        sampled = run(prior.sample(noise, None, tf.zeros([R, 1]), None))
    np.testing.assert_array_equal(sampled.presence[..., 0], [[1, 0, 0]] * R)
    np.testing.assert_allclose(sampled.what[:, 0], what[:, 0], rtol=1e-6)
    np.testing.assert_allclose(sampled.where[:, 0], [[-1, -1, 1, 1]] * R)
    assert not sampled.what[:, 1:].any() and not sampled.where[:, 1:].any()
