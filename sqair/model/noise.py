# SPDX-License-Identifier: GPL-3.0-or-later
"""All randomness of the model, as data: drawn at the top by stateless generators, stored (replay) or absent (mode).

Every kind of noise has a key of its own, so that the same seed and step always give the same numbers and no two
kinds ever share theirs. A model says which noise it wants by a structure of `Wanted`.
"""

import dataclasses
from typing import Tuple

from sqair.graph_mode import tf
from sqair.model.distributions import sample_categorical
from sqair.model.structures import FrameNoise, StepNoise

_FIELDS = ("propagation_what", "propagation_where", "propagation_presence")
_FIELDS += ("discovery_what", "discovery_where", "discovery_presence", "resample")
STREAMS = tuple(kind + "_" + field for kind in ("train", "eval") for field in _FIELDS)
_SPACING = len(STREAMS)  # of seeds
# Later ones: the first, and so every model trained before, keep their numbers.
STREAMS += tuple(kind + "_" + field for kind in ("train", "eval") for field in ("latent", "ancestors"))
_PAGE = 2**48  # more than any step or sequence


@dataclasses.dataclass(frozen=True)  # a named tuple would be taken for a part of the structure
class Wanted:
    """One kind of noise that a model wants, for each particle in each frame."""

    field: str  # names its key: a stream less the kind in front
    shape: Tuple[int, ...] = ()
    uniform: bool = False  # on [0, 1); else standard normal


def of_objects(n_steps, n_what):
    """The noise of N slots of propagation and of discovery: `FrameNoise` of `Wanted`."""
    return FrameNoise(*(of_slots(kind, n_steps, n_what) for kind in FrameNoise._fields))


def of_slots(kind, n_steps, n_what):
    """Of one of the kinds, "propagation" or "discovery": `StepNoise` of `Wanted`."""
    return StepNoise(
        what=Wanted(f"{kind}_what", (n_steps, n_what)),
        where=Wanted(f"{kind}_where", (n_steps, 4)),
        presence=Wanted(f"{kind}_presence", (n_steps,), uniform=True),
    )


def _key(seed, step, stream):
    """`[2]` int64 key of a stream; seeds are spaced so that no two (seed, stream) pairs meet."""
    page, place = divmod(STREAMS.index(stream), _SPACING)
    seed = tf.cast(seed, tf.int64) * _SPACING + place
    return tf.stack([seed, tf.cast(step, tf.int64) + page * _PAGE])


def draw(seed, step, kind, seq_len, batch_size, k_particles, wanted):
    """The noise of a batch, all of it by one key: for training.

    Args:
        seed: int, or scalar tensor.
        step: int or scalar tensor: the global step.
        kind: "train" or "eval".
        seq_len, batch_size, k_particles: T, B, K; ints or scalar tensors.
        wanted: structure of `Wanted`, as a model has it for `noise`.

    Returns:
        The structure, of float32 `[T, B, K, *shape]`.
    """

    def drawn(one):
        random = tf.random.stateless_uniform if one.uniform else tf.random.stateless_normal
        shape = [seq_len, batch_size, k_particles, *one.shape]
        return random(shape, _key(seed, step, f"{kind}_{one.field}"))

    return tf.nest.map_structure(drawn, wanted)


def part_of(drawn, index, count):
    """The noise of one of equal parts of a batch's sequences.

    Args:
        drawn: structure of `[T, B, ...]`, of the whole batch: what a sequence gets does not depend on who draws it.
        index, count: ints, which of how many parts, in the order of the sequences.

    Returns:
        The structure, of `[T, B / count, ...]`.

    Raises:
        ValueError: if the batch is not divisible.
    """
    if count == 1:
        return drawn
    batch_size = tf.nest.flatten(drawn)[0].shape[1].value
    if batch_size % count:
        raise ValueError(f"The noise of {batch_size} sequences has no {count} equal parts.")
    size = batch_size // count
    return tf.nest.map_structure(lambda tensor: tensor[:, index * size : (index + 1) * size], drawn)


def draw_by_sequence(seed, sequences, seq_len, k_particles, wanted):
    """The noise of a batch, that of each sequence by a key of its own: for evaluation, in batches of any size.

    Args:
        seed: int, or scalar tensor.
        sequences: `[B]` int64, the sequences' numbers in their data set.
        seq_len, k_particles, wanted: as in `draw`.

    Returns:
        As of `draw`.
    """

    def of_one(number):
        drawn = draw(seed, number, "eval", seq_len, 1, k_particles, wanted)
        return tf.nest.map_structure(lambda x: tf.squeeze(x, axis=1), drawn)

    types = tf.nest.map_structure(lambda _: tf.float32, wanted)
    drawn = tf.map_fn(of_one, sequences, types, back_prop=False)
    return tf.nest.map_structure(lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.ndims)]), drawn)


def mode(seq_len, batch_size, k_particles, wanted):
    """No noise: every Gaussian at its mean, every presence at its more probable value; arguments as in `draw`."""
    none = lambda one: tf.fill(  # noqa: E731
        [seq_len, batch_size, k_particles, *one.shape], 0.5 if one.uniform else 0.0
    )
    return tf.nest.map_structure(none, wanted)


def resample(importance_weights, seed, sequences):
    """Draws one particle per sequence, or per frame of it, in proportion to its weight.

    Args:
        importance_weights: `[B, K]` float32, rows sum to one; `[T, B, K]` where frames have weights of their own.
        seed, sequences: as in `draw_by_sequence`.

    Returns:
        `[B]` or `[T, B]` int32 particle indices.
    """
    frames = [tf.shape(importance_weights)[0]] if importance_weights.shape.ndims == 3 else []
    uniform = tf.map_fn(
        lambda number: tf.random.stateless_uniform(frames, _key(seed, number, "eval_resample")),
        sequences,
        tf.float32,
        back_prop=False,
    )
    uniform = tf.expand_dims(tf.transpose(uniform), -1)
    return tf.squeeze(sample_categorical(uniform, importance_weights), axis=-1)
