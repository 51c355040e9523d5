# SPDX-License-Identifier: GPL-3.0-or-later
"""Every named tuple that passes between modules, with the shapes of its fields.

Symbols: `T` time-steps, `B` sequences, `K` particles, `R = B * K` rows (row `b * K + k`), `N` object
slots per frame, `M` annotated objects, `Z` what-size, `D` hidden size, `H x W x C` image, `g` glimpse side.
"""

from typing import Any, NamedTuple


class StepNoise(NamedTuple):
    """The noise of one time-step for all slots of one kind (propagation or discovery)."""

    what: Any  # [R, N, Z] standard normal
    where: Any  # [R, N, 4] standard normal
    presence: Any  # [R, N] uniform on [0, 1): presence = noise < probability


class FrameNoise(NamedTuple):
    """All noise of one time-step; `[T, B, K, ...]` per field for a whole sequence."""

    propagation: StepNoise
    discovery: StepNoise


class FrameInputs(NamedTuple):
    """What one time-step of the model reads."""

    image: Any  # [B, P, Q, C] float32 in [0, 1], padded by `spatial_transformer.pad_images`
    image_encoding: Any  # [B, D] the image encoder's output
    noise: FrameNoise  # [B, K, N, ...]


class Latents(NamedTuple):
    """The object slots of one frame, `z = (what, where, presence)` (section 3 of the paper)."""

    what: Any  # [R, N, Z] appearance code
    where: Any  # [R, N, 4] logits (sx, sy, tx, ty)
    presence: Any  # [R, N] 0 or 1
    presence_logit: Any  # [R, N] the posterior's logit of presence


class Posterior(NamedTuple):
    """Statistics of the approximate posterior that the latents were drawn from."""

    what_loc: Any  # [R, N, Z]
    what_scale: Any  # [R, N, Z]
    where_loc: Any  # [R, N, 4]
    where_scale: Any  # [R, N, 4]; for propagation before the 4x4 mixing matrix
    presence_prob: Any  # [R, N]


class LogProbs(NamedTuple):
    """Log-probabilities in nats of one kind's latents under one distribution, masked by presence."""

    what: Any  # [R, N]
    where: Any  # [R, N]
    presence: Any  # [R] of the number of discoveries, or of all propagations together


class SampledObjects(NamedTuple):
    """Objects that propagation, or discovery, sampled in one frame, and what from; before any is dropped."""

    what: Any  # [R, N, Z]
    where: Any  # [R, N, 4] logits
    presence: Any  # [R, N, 1] 0 or 1
    presence_logit: Any  # [R, N, 1], meaningless where nothing could be present
    what_loc: Any  # [R, N, Z]
    what_scale: Any  # [R, N, Z]
    where_loc: Any  # [R, N, 4]
    where_scale: Any  # [R, N, 4]; for propagation before the 4x4 mixing matrix


class SQAIRState(NamedTuple):
    """What one time-step hands to the next."""

    what: Any  # [R, N, Z]
    where: Any  # [R, N, 4]
    presence: Any  # [R, N, 1]
    temporal_state: Any  # [R, N, D] of each object
    prior_state: Any  # [R, N, D] of each object, before this frame
    object_ids: Any  # [R, N, 1] float32, -1 in absent slots
    last_id: Any  # [R, 1] float32, the last id used in each row, -1 if none


class GenerativeState(NamedTuple):
    """What one time-step of generation hands to the next."""

    objects: SQAIRState
    presence_logit: (
        Any  # [R, N, 1] that presence was drawn with, absent slots too: random-walk priors go on from it
    )
    is_later: Any  # [R, 1] 0 before the first frame, else 1


class KeptObjects(NamedTuple):
    """The objects of one frame, present ones first."""

    what: Any  # [R, N, Z]
    where: Any  # [R, N, 4] logits
    presence: Any  # [R, N, 1] 0 or 1
    object_ids: Any  # [R, N, 1] float32, -1 in absent slots
    slots: Any  # [R, N, 1] float32, which of the 2 N slots (propagated, then discovered) they come from


class PropagationStatistics(NamedTuple):
    """What the propagation prior says of objects."""

    presence_logit: Any  # [..., 1]
    where_loc: Any  # [..., 4]
    what_loc: Any  # [..., Z]
    where_scale: Any  # [..., 4]
    what_scale: Any  # [..., Z]


class PropagatedObjects(NamedTuple):
    """Propagated objects with what the prior says of them."""

    sampled: SampledObjects
    prior: PropagationStatistics  # [R, N, n]


class CellOutputs(NamedTuple):
    """What one time-step infers; `[T, R, ...]` for a sequence. Probabilities are computed for all frames at once."""

    kept: KeptObjects
    propagated: PropagatedObjects
    discovered: SampledObjects
    propagated_summary: Any  # [R, D] encoding of the propagated objects


class PhaseOutputs(NamedTuple):
    """What one time-step says of propagation, or of discovery, before surplus objects are dropped."""

    presence: Any  # [R, N]
    prob: Any  # propagation [R, N]: probability of the presence drawn; discovery [R, N + 1]: of each count
    log_q: LogProbs
    log_p: LogProbs


class StepOutputs(NamedTuple):
    """Objects and probabilities of one time-step; `[T, R, ...]` for a sequence."""

    latents: Latents
    posterior: Posterior
    object_ids: Any  # [R, N] float32, -1 in absent slots
    propagation: PhaseOutputs
    discovery: PhaseOutputs
    log_q: Any  # [R] nats
    log_p: Any  # [R] nats, prior of the latents
    discrete_log_q: Any  # [R] nats, the part of log_q that was not reparametrised


class LatentOutputs(NamedTuple):
    """What takes the place of `StepOutputs` in a model that knows no objects; `[T, R, ...]` for a sequence."""

    latents: Any  # [R, Z]
    log_q: Any  # [R] nats
    log_p: Any  # [R] nats, prior of the latents
    discrete_log_q: Any  # [R] nats, the part of log_q that was not reparametrised: zeros


class SequenceOutputs(NamedTuple):
    """The result of a model on a batch of videos."""

    steps: Any  # [T, R, ...] `StepOutputs`; `LatentOutputs` of a model without objects
    canvas: Any  # [T, R, H, W, C] mean of the image model
    glimpses: Any  # [T, R, N, g, g, C]; None without objects
    log_likelihood: Any  # [T, R] nats, summed over pixels
    log_weights: (
        Any  # [T, R] nats: log p(x, z) - log q(z | x), frame by frame; see `sequence_bounds` for others
    )


class GeneratedSequence(NamedTuple):
    """Videos from the prior."""

    what: Any  # [T, R, N, Z], 0 in absent slots
    where: Any  # [T, R, N, 4] logits, 0 in absent slots
    presence: Any  # [T, R, N] 0 or 1
    object_ids: Any  # [T, R, N] float32, -1 in absent slots
    canvas: Any  # [T, R, H, W, C] mean of the image model
    glimpses: Any  # [T, R, N, g, g, C]
