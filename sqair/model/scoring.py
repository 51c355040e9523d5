# SPDX-License-Identifier: GPL-3.0-or-later
"""Probabilities of everything that was inferred, under posterior and prior, for all frames at once.

Nothing here feeds back into inference, so that it need not wait for it frame by frame: rows are all frames of all
particles, n = T * R of them.
"""

from typing import Any, NamedTuple

import sonnet as snt
import tensorflow as tf

from sqair.engine import active_slots as compaction
from sqair.engine import ops
from sqair.model import distributions
from sqair.model.priors import expected_propagations
from sqair.model.structures import KindOutputs, Latents, LogProbs, Posterior, StepOutputs, packed_widths


class ObjectScores(NamedTuple):
    """Log-probabilities in nats of one propagated object, and its logits, each `[m, 1]`."""

    log_q_what: Any
    log_q_where: Any
    log_p_what: Any
    log_p_where: Any
    presence: Any
    logit: Any  # the posterior's of presence
    prior_logit: Any  # the prior's, from its network


_NOT_PROPAGATED = ObjectScores(0.0, 0.0, 0.0, 0.0, 0.0, ops.ABSENT_LOGIT, ops.ABSENT_LOGIT)


class Scoring(snt.AbstractModule):
    """Joins both kinds of objects, keeps the present ones, and computes all probabilities (section 3.3, appendix A)."""

    def __init__(self, where_distribution, propagation_prior, discovery_prior, compact=True, name="scoring"):
        """Args: where_distribution: of propagated locations; the two priors; compact: score only what exists?"""
        super().__init__(name=name)
        self._where_distribution = where_distribution
        self._propagation_prior, self._discovery_prior = propagation_prior, discovery_prior
        self._compact = compact

    def _build(self, inferred, noise):
        """Scores a sequence.

        Args:
            inferred: `CellOutputs` of `[T, R, ...]`.
            noise: `FrameNoise` of `[T * R, N, n]`.

        Returns:
            `StepOutputs` of `[T, R, ...]`.
        """
        rows = ops.rows_of(inferred.propagated_summary, axis=1)
        inferred = tf.nest.map_structure(ops.merge, inferred)
        n_what = noise.propagation.what.shape.as_list()[-1]
        widths = packed_widths(n_what)
        kept, discovered = (
            ops.split(inferred.kept, widths.kept),
            ops.split(inferred.discovered, widths.discovered),
        )

        last = lambda x: tf.squeeze(x, axis=-1)  # noqa: E731
        slots = tf.cast(last(kept.slots), tf.int32)
        exists, found = _one_step_later(last(kept.presence), rows), last(discovered.presence)
        possible = tf.concat([tf.ones_like(found[:, :1]), found[:, :-1]], axis=1)
        scores = self._score_propagated(inferred.propagated, widths.propagated, exists, noise.propagation)
        discovered_logit = ops.mask_absent_logit(last(discovered.presence_logit), possible)
        logits = tf.expand_dims(tf.concat([scores.logit, discovered_logit], axis=1), -1)
        logit = last(ops.take_slots(logits, slots))

        past_logit = _one_step_later(logit, rows)
        is_later = _one_step_later(tf.ones_like(logit[:, :1]), rows)
        propagation, prior_logit = self._propagation(scores, exists, past_logit)
        discovery = self._discovery(
            discovered,
            discovered_logit,
            possible,
            inferred.propagated_summary,
            prior_logit,
            is_later,
            noise.discovery,
        )
        statistics = _statistics(inferred, widths, slots)
        outputs = _step_outputs(kept, statistics, logit, propagation, discovery)
        return tf.nest.map_structure(lambda x: ops.split_first(x, rows), outputs)

    def _score_propagated(self, packed, widths, exists, noise):
        """`ObjectScores` of `[n, N]`."""

        def score(packed, what_noise, where_noise):
            objects, prior = ops.split(packed, widths)
            log_probs = (
                distributions.sampled_normal_log_prob(what_noise, objects.what_scale),
                self._where_distribution.log_prob(where_noise, objects.where_scale),
                distributions.normal_log_prob(objects.what, prior.what_loc, prior.what_scale),
                distributions.normal_log_prob(objects.where, prior.where_loc, prior.where_scale),
            )
            return ObjectScores(
                *[tf.expand_dims(x, -1) for x in log_probs],
                objects.presence,
                objects.presence_logit,
                prior.presence_logit,
            )

        inputs = [ops.merge(x) for x in (packed, noise.what, noise.where)]
        runs = tf.reshape(exists, [-1]) > 0.5
        scores = compaction.call_where(score, runs, inputs, _NOT_PROPAGATED, self._compact)
        return tf.nest.map_structure(lambda x: tf.reshape(x, [-1, exists.shape.as_list()[1]]), scores)

    def _propagation(self, scores, exists, past_logit):
        """`KindOutputs` and the prior's presence logits `[n, N]`."""
        presence = scores.presence
        prior_logit = self._propagation_prior.presence_logit(scores.prior_logit, past_logit)
        presence_log_q = exists * distributions.bernoulli_log_prob(presence, scores.logit)
        presence_log_p = exists * distributions.bernoulli_log_prob(presence, prior_logit)
        total = lambda x: tf.reduce_sum(x, axis=-1)  # noqa: E731
        log_q = LogProbs(presence * scores.log_q_what, presence * scores.log_q_where, total(presence_log_q))
        log_p = LogProbs(presence * scores.log_p_what, presence * scores.log_p_where, total(presence_log_p))
        return KindOutputs(presence, exists * tf.exp(presence_log_q), log_q, log_p), prior_logit

    def _discovery(self, objects, logit, possible, propagated_summary, prior_logit, is_later, noise):
        """`KindOutputs` of discovery."""
        presence = tf.squeeze(objects.presence, axis=-1)
        latents = Latents(objects.what, objects.where, presence, logit)
        # What did not run has no scale to take a logarithm of.
        scales = [
            scale + tf.expand_dims(1.0 - possible, -1) for scale in (objects.what_scale, objects.where_scale)
        ]
        probs = distributions.count_probabilities(distributions.probability(logit))
        log_q = LogProbs(
            presence * distributions.sampled_normal_log_prob(noise.what, scales[0]),
            presence * distributions.sampled_normal_log_prob(noise.where, scales[1]),
            distributions.count_log_prob(probs, tf.reduce_sum(presence, axis=-1)),
        )
        expected = expected_propagations(prior_logit)
        log_p = self._discovery_prior(latents, propagated_summary, expected, is_later)
        return KindOutputs(presence, probs, log_q, log_p)


def _statistics(inferred, widths, slots):
    """What the kept ones of both kinds' objects were drawn from: `SlotObjects` of `[n, N, ...]`."""
    size = sum(widths.discovered)
    both = tf.concat([inferred.propagated[:, :, :size], inferred.discovered], axis=1)
    return ops.split(ops.take_slots(both, slots), widths.discovered)


def _one_step_later(tensor, rows):
    """`[T * R, ...]`: what was there one time-step before, zeros at first."""
    return tf.concat([tf.zeros_like(tensor[:rows]), tensor[:-rows]], axis=0)


def _step_outputs(kept, statistics, logit, propagation, discovery):
    def total(log_probs):
        return tf.reduce_sum(log_probs.what + log_probs.where, axis=-1) + log_probs.presence

    return StepOutputs(
        Latents(kept.what, kept.where, tf.squeeze(kept.presence, axis=-1), logit),
        Posterior(
            statistics.what_loc,
            statistics.what_scale,
            statistics.where_loc,
            statistics.where_scale,
            distributions.probability(logit),
        ),
        tf.squeeze(kept.object_ids, axis=-1),
        propagation,
        discovery,
        log_q=total(propagation.log_q) + total(discovery.log_q),
        log_p=total(propagation.log_p) + total(discovery.log_p),
        discrete_log_q=propagation.log_q.presence + discovery.log_q.presence,
    )
