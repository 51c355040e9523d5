# SPDX-License-Identifier: GPL-3.0-or-later
"""Probabilities of what was inferred, against densities object by object; priors are stand-ins."""

import numpy as np
import pytest
from oracle_model import constant
from reference_parts import bernoulli_log_prob, num_steps_probs, sigmoid
from scipy import stats
from tf_run import run

from sqair.graph_mode import tf
from sqair.model.distributions import sampled_normal_log_prob
from sqair.model.scoring import Scoring
from sqair.model.structures import (
    CellOutputs,
    FrameNoise,
    KeptObjects,
    LogProbs,
    PropagatedObjects,
    PropagationStatistics,
    SampledObjects,
    StepNoise,
)

T, R, N, Z, D = 3, 4, 2, 3, 5
ABSENT = -88.0
COUNTS = np.array([[1, 0, 2, 2], [2, 1, 0, 1], [0, 0, 1, 2]])  # [T, R] discoveries
STAYS = np.array([[[0, 0]] * 4, [[1, 0], [0, 0], [0, 1], [1, 1]], [[0, 1], [1, 0], [0, 0], [1, 0]]])


class WhereDistribution:
    """Locations without correlation."""

    log_prob = staticmethod(sampled_normal_log_prob)


class WalkPrior:
    """Its logits depend on the posterior's at t - 1, of absent slots too."""

    def presence_logit(self, logit, logit_tm1):
        return logit + 0.5 * logit_tm1


class CountingPrior:
    """`LogProbs` that show what it was asked."""

    def __call__(self, what, where, presence, summary, expected, is_later):
        of_row = tf.reduce_sum(summary, -1) + 10.0 * expected[:, 0] + 100.0 * is_later[:, 0]
        return LogProbs(presence * what[..., 0], presence * where[..., 0], of_row)


def sampled(rng, ran, presence):
    """Objects `[T, R, N, n]` with their noise; zeros where nothing ran."""
    what, where = [rng.normal(size=(T, R, N, n)) for n in (Z, 4)]
    locs, scales = [
        [draw(size=(T, R, N, n)) for n in (Z, 4)]
        for draw in (rng.normal, lambda size: rng.uniform(0.3, 1.5, size=size))
    ]
    values = [loc + scale * noise for loc, scale, noise in zip(locs, scales, (what, where))]
    logit = rng.normal(size=(T, R, N, 1))
    fields = values + [presence[..., None], logit, locs[0], scales[0], locs[1], scales[1]]
    fields = [ran[..., None] * field for field in fields]
    return SampledObjects(*fields), StepNoise(what, where, rng.uniform(size=(T, R, N, 1)))


class Case:
    """A sequence that some cell could have inferred, and its scores."""

    def __init__(self):
        rng = np.random.RandomState(0)
        self.found = 1.0 * (np.arange(N) < COUNTS[..., None])
        self.had_turn = np.concatenate([np.ones((T, R, 1)), self.found[..., :-1]], -1)
        self.stays, self.before = np.zeros((T, R, N)), np.zeros((T, R, N))
        self.slots, kept = np.zeros((T, R, N), int), np.zeros((T, R, N))
        for t in range(T):
            self.before[t] = kept[t - 1] if t else 0.0
            self.stays[t] = STAYS[t] * self.before[t]
            both = np.concatenate([self.stays[t], self.found[t]], -1)
            self.slots[t] = np.argsort(-both, -1, kind="stable")[:, :N]
            kept[t] = np.take_along_axis(both, self.slots[t], -1)
        self.kept = kept
        self.propagated, propagation_noise = sampled(rng, self.before, self.stays)
        self.discovered, discovery_noise = sampled(rng, self.had_turn, self.found)
        self.noise = FrameNoise(propagation_noise, discovery_noise)
        widths = PropagationStatistics(1, 4, Z, 4, Z)
        self.prior = PropagationStatistics(
            *[self.before[..., None] * rng.uniform(0.5, 1.5, size=(T, R, N, width)) for width in widths]
        )
        self.summary = rng.normal(size=(T, R, D))

    def choose(self, propagated, discovered):
        """`[T, R, N, n]` of the kept objects."""
        return np.take_along_axis(np.concatenate([propagated, discovered], 2), self.slots[..., None], 2)

    def inferred(self):
        fields = [
            self.choose(getattr(self.propagated, f), getattr(self.discovered, f)) for f in ("what", "where")
        ]
        ids = np.where(self.kept == 1, 5.0, -1.0)[..., None]
        kept = KeptObjects(*fields, self.kept[..., None], ids, self.slots[..., None])
        outputs = CellOutputs(
            kept, PropagatedObjects(self.propagated, self.prior), self.discovered, self.summary
        )
        return tf.nest.map_structure(constant, outputs)

    def scores(self, compact):
        scoring = Scoring(WhereDistribution(), WalkPrior(), CountingPrior(), compact)
        noise = tf.nest.map_structure(lambda x: constant(x.reshape((T * R,) + x.shape[2:])), self.noise)
        return run(scoring(self.inferred(), noise))


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture(scope="module", params=[True, False], ids=["compact", "dense"])
def scores(request, case):
    with tf.Graph().as_default():
        return case.scores(request.param)


def normal(value, loc, scale):
    return stats.norm.logpdf(value, loc, np.where(scale > 0, scale, 1.0)).sum(-1)


def posterior_logits(case):
    """Of the propagated and of the discovered, `[T, R, N]`; what had no chance is absent for sure."""
    return [
        np.where(chance == 1, objects.presence_logit[..., 0], ABSENT)
        for objects, chance in ((case.propagated, case.before), (case.discovered, case.had_turn))
    ]


def prior_logits(case):
    kept = case.choose(*[logit[..., None] for logit in posterior_logits(case)])[..., 0]
    kept_tm1 = np.concatenate([np.zeros((1, R, N)), kept[:-1]])
    return np.where(case.before == 1, case.prior.presence_logit[..., 0], ABSENT) + 0.5 * kept_tm1


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_this_case_is_not_trivial(case):
    assert np.any(case.before > case.stays), "some vanish"
    assert case.stays.sum() > 4
    assert np.any(case.stays.sum(-1) + case.found.sum(-1) > N), "some are dropped"
    assert np.any(case.kept == 0)


def test_propagated_objects_have_densities_where_they_stay(case, scores):
    objects, prior = case.propagated, case.prior
    for log_probs, what, where in (
        (
            scores.propagation.log_q,
            normal(objects.what, objects.what_loc, objects.what_scale),
            normal(objects.where, objects.where_loc, objects.where_scale),
        ),
        (
            scores.propagation.log_p,
            normal(objects.what, prior.what_loc, prior.what_scale),
            normal(objects.where, prior.where_loc, prior.where_scale),
        ),
    ):
        assert_close(log_probs.what, case.stays * what)
        assert_close(log_probs.where, case.stays * where)


def test_each_object_of_the_last_frame_stays_or_vanishes(case, scores):
    """One Bernoulli each, also of those that vanish; none of slots that were empty."""
    logit, _ = posterior_logits(case)
    log_q = case.before * bernoulli_log_prob(case.stays, logit)
    log_p = case.before * bernoulli_log_prob(case.stays, prior_logits(case))
    assert_close(scores.propagation.log_q.presence, log_q.sum(-1))
    assert_close(scores.propagation.log_p.presence, log_p.sum(-1))
    assert_close(scores.propagation.prob, case.before * np.exp(log_q))
    np.testing.assert_array_equal(scores.propagation.presence, case.stays)


def test_discovered_objects_have_densities_where_they_were_found(case, scores):
    """Those that are dropped too."""
    objects = case.discovered
    log_q = scores.discovery.log_q
    assert_close(log_q.what, case.found * normal(objects.what, objects.what_loc, objects.what_scale))
    assert_close(log_q.where, case.found * normal(objects.where, objects.where_loc, objects.where_scale))
    np.testing.assert_array_equal(scores.discovery.presence, case.found)


def test_the_number_of_discoveries(case, scores):
    _, logit = posterior_logits(case)
    probs = num_steps_probs(sigmoid(logit).reshape(-1, N)).reshape(T, R, N + 1)
    assert_close(scores.discovery.prob, probs)
    drawn = np.take_along_axis(probs, COUNTS[..., None], -1)[..., 0]
    assert_close(scores.discovery.log_q.presence, np.log(drawn))


def test_the_discovery_prior_is_asked_about_what_was_found_and_expected(case, scores):
    """Empty slots take part in what is expected; the first frame differs from later ones."""
    log_p, found = scores.discovery.log_p, case.found
    assert_close(log_p.what, found * case.discovered.what[..., 0])
    assert_close(log_p.where, found * case.discovered.where[..., 0])
    expected = (sigmoid(prior_logits(case)) - 0.5).mean(-1)
    is_later = (np.arange(T) > 0)[:, None]
    assert_close(log_p.presence, case.summary.sum(-1) + 10 * expected + 100 * is_later)


def test_absent_objects_count_nothing(case, scores):
    for phase, presence in ((scores.propagation, case.stays), (scores.discovery, case.found)):
        for log_probs in (phase.log_q, phase.log_p):
            assert not log_probs.what[presence == 0].any()
            assert not log_probs.where[presence == 0].any()
            assert np.all(log_probs.what[presence == 1] != 0)
    assert not scores.propagation.log_q.presence[0].any()


def test_totals_add_up(scores):
    phases = scores.propagation, scores.discovery
    for total, name in ((scores.log_q, "log_q"), (scores.log_p, "log_p")):
        parts = [getattr(phase, name) for phase in phases]
        assert_close(total, sum((part.what + part.where).sum(-1) + part.presence for part in parts))
    assert_close(scores.discrete_log_q, sum(phase.log_q.presence for phase in phases))


def test_kept_objects_take_their_posterior_along(case, scores):
    """Wherever they come from; a propagated slot's or a discovered one's."""
    for name in ("what_loc", "what_scale", "where_loc", "where_scale"):
        expected = case.choose(getattr(case.propagated, name), getattr(case.discovered, name))
        assert_close(getattr(scores.posterior, name), expected)
    logit = case.choose(*[x[..., None] for x in posterior_logits(case)])[..., 0]
    assert_close(scores.latents.presence_logit, logit)
    assert_close(scores.posterior.presence_prob, sigmoid(logit))
    np.testing.assert_array_equal(scores.latents.presence, case.kept)
    np.testing.assert_array_equal(scores.object_ids, np.where(case.kept == 1, 5, -1))
