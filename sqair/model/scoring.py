# SPDX-License-Identifier: GPL-3.0-or-later
"""Probabilities of everything that was inferred, under posterior q and prior p (section 3.3, appendix A).

Nothing here feeds back into inference, so that it need not wait for it frame by frame: rows are all frames of all
particles, n = T * R of them.
"""

from typing import Any, NamedTuple

from sqair.engine.active_slots import masked_call
from sqair.engine.tensors import map_packed, merge_leading, pack, size, split_leading, take_slots, unpack
from sqair.graph_mode import snt, tf
from sqair.model import distributions
from sqair.model.priors import expected_propagations
from sqair.model.slots import ABSENT_LOGIT, mask_absent_logit, shift_in_time, squeeze_last
from sqair.model.structures import Latents, LogProbs, PhaseOutputs, Posterior, StepOutputs


class ObjectScores(NamedTuple):
    """Log-probabilities in nats of propagated objects, and their logits, each `[n, N]`."""

    log_q_what: Any  # of a sample, which follows from its noise: (what - loc) / scale
    log_q_where: Any  # with the determinant of the mixing
    log_p_what: Any
    log_p_where: Any
    presence: Any
    logit: Any  # the posterior's of presence
    prior_logit: Any  # the prior's, from its network


# What there is where no object was at t - 1.
_NOT_PROPAGATED = ObjectScores(0.0, 0.0, 0.0, 0.0, 0.0, ABSENT_LOGIT, ABSENT_LOGIT)


class Scoring(snt.AbstractModule):
    """`log q(z | x)` and `log p(z)` of propagation and of discovery."""

    def __init__(self, where_distribution, propagation_prior, discovery_prior, compact=True, name="scoring"):
        """Args: where_distribution: of propagated locations; the two priors; compact: score only what exists?"""
        super().__init__(name=name)
        self._where_distribution = where_distribution
        self._propagation_prior, self._discovery_prior = propagation_prior, discovery_prior
        self._compact = compact

    def _build(self, inferred, noise, before=None):
        """Scores a sequence.

        Args:
            inferred: `CellOutputs` of `[T, R, ...]`.
            noise: `FrameNoise` of `[T * R, N, n]`.
            before: `GenerativeState` of R rows that the first frame follows; no object by default.

        Returns:
            `StepOutputs` of `[T, R, ...]`.
        """
        rows = size(inferred.propagated_summary, axis=1)
        kept, propagated, discovered, summary = [map_packed(merge_leading, field) for field in inferred]
        slots = tf.cast(squeeze_last(kept.slots), tf.int32)
        first_presence = first_logit = None
        if before is not None:
            first_presence, first_logit = map(squeeze_last, (before.objects.presence, before.presence_logit))
        presence_tm1 = shift_in_time(squeeze_last(kept.presence), rows, first_presence)

        scores = self._score_propagated(propagated, presence_tm1, noise.propagation)
        discovery_logit = discovery_logits(discovered)
        logits = tf.expand_dims(tf.concat([scores.logit, discovery_logit], axis=1), -1)
        logit = squeeze_last(take_slots(logits, slots))  # the posterior's, of the kept slots, empty ones too
        prior_logit = self._propagation_prior.presence_logit(
            scores.prior_logit, shift_in_time(logit, rows, first_logit)
        )
        is_later = shift_in_time(tf.ones_like(logit[:, :1]), rows, before and before.is_later)

        propagation = self._propagation(scores, prior_logit, presence_tm1)
        discovery = score_discovery(
            self._discovery_prior,
            discovered,
            discovery_logit,
            summary,
            expected_propagations(prior_logit),
            is_later,
            noise.discovery,
        )
        posterior = _posterior_of_kept(propagated.sampled, discovered, slots, logit)
        latents = Latents(kept.what, kept.where, squeeze_last(kept.presence), logit)
        outputs = StepOutputs(
            latents,
            posterior,
            squeeze_last(kept.object_ids),
            propagation,
            discovery,
            log_q=total(propagation.log_q) + total(discovery.log_q),
            log_p=total(propagation.log_p) + total(discovery.log_p),
            discrete_log_q=propagation.log_q.presence + discovery.log_q.presence,
        )
        return tf.nest.map_structure(lambda x: split_leading(x, rows), outputs)

    def _score_propagated(self, propagated, presence_tm1, noise):
        """`ObjectScores` of `PropagatedObjects`; computed where an object was at t - 1."""

        def score(propagated, what_noise, where_noise):
            sampled, prior = propagated
            log_probs = (
                distributions.sampled_normal_log_prob(what_noise, sampled.what_scale),
                self._where_distribution.log_prob(where_noise, sampled.where_scale),
                distributions.normal_log_prob(sampled.what, prior.what_loc, prior.what_scale),
                distributions.normal_log_prob(sampled.where, prior.where_loc, prior.where_scale),
            )
            log_probs = [tf.expand_dims(x, -1) for x in log_probs]
            return ObjectScores(*log_probs, sampled.presence, sampled.presence_logit, prior.presence_logit)

        arguments = propagated, noise.what, noise.where
        scores = masked_call(score, presence_tm1 > 0.5, arguments, _NOT_PROPAGATED, self._compact)
        return tf.nest.map_structure(squeeze_last, scores)

    def _propagation(self, scores, prior_logit, presence_tm1):
        """`PhaseOutputs` of propagation: each object stays or vanishes, and what stays has a what and a where."""
        presence = scores.presence
        presence_log_q = presence_tm1 * distributions.bernoulli_log_prob(presence, scores.logit)
        presence_log_p = presence_tm1 * distributions.bernoulli_log_prob(presence, prior_logit)
        log_q, log_p = [
            LogProbs(presence * what, presence * where, tf.reduce_sum(of_presence, axis=-1))
            for what, where, of_presence in (
                (scores.log_q_what, scores.log_q_where, presence_log_q),
                (scores.log_p_what, scores.log_p_where, presence_log_p),
            )
        ]
        return PhaseOutputs(presence, presence_tm1 * tf.exp(presence_log_q), log_q, log_p)


def discovery_logits(sampled):
    """The posterior's presence logits `[n, N]` of new objects, `SampledObjects`: each needs the one before it."""
    return mask_absent_logit(
        squeeze_last(sampled.presence_logit), _presence_nm1(squeeze_last(sampled.presence))
    )


def _presence_nm1(presence):
    return tf.concat([tf.ones_like(presence[:, :1]), presence[:, :-1]], axis=1)


def score_discovery(prior, sampled, logit, propagated_summary, expected, is_later, noise):
    """Scores new objects: their number, and a what and a where of each.

    Args:
        prior: `DiscoveryPrior`.
        sampled: `SampledObjects` of `[n, N, k]`.
        logit: `[n, N]`, as of `discovery_logits`.
        propagated_summary, expected, is_later: as of the prior.
        noise: `StepNoise` of `[n, N, k]` that they were drawn with.

    Returns:
        `PhaseOutputs` of `[n, ...]`.
    """
    presence = squeeze_last(sampled.presence)
    # What did not run has no scale to take a logarithm of.
    did_not_run = tf.expand_dims(1.0 - _presence_nm1(presence), -1)
    what_scale, where_scale = sampled.what_scale + did_not_run, sampled.where_scale + did_not_run
    count_probs = distributions.count_probabilities(distributions.probability(logit))
    log_q = LogProbs(
        presence * distributions.sampled_normal_log_prob(noise.what, what_scale),
        presence * distributions.sampled_normal_log_prob(noise.where, where_scale),
        distributions.count_log_prob(count_probs, tf.reduce_sum(presence, axis=-1)),
    )
    log_p = prior(sampled.what, sampled.where, presence, propagated_summary, expected, is_later)
    return PhaseOutputs(presence, count_probs, log_q, log_p)


def total(log_probs):
    """`LogProbs` of a frame together, `[n]` nats."""
    return tf.reduce_sum(log_probs.what + log_probs.where, axis=-1) + log_probs.presence


def _posterior_of_kept(propagated, discovered, slots, logit):
    """`Posterior` that the kept objects of both kinds were drawn from."""
    both = tf.concat([pack(propagated), pack(discovered)], axis=1)
    kept = unpack(take_slots(both, slots), discovered)
    statistics = kept.what_loc, kept.what_scale, kept.where_loc, kept.where_scale
    return Posterior(*statistics, distributions.probability(logit))
