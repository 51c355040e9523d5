# SPDX-License-Identifier: GPL-3.0-or-later
"""All randomness of the model, as data: drawn at the top by stateless generators, stored (replay) or absent (mode).

Every kind of noise has a key of its own, so that the same seed and step always give the same numbers and no two
kinds ever share theirs.
"""

from sqair.graph_mode import tf
from sqair.model.structures import FrameNoise, StepNoise

_FIELDS = ("propagation_what", "propagation_where", "propagation_presence")
_FIELDS += ("discovery_what", "discovery_where", "discovery_presence", "resample")
STREAMS = tuple(kind + "_" + field for kind in ("train", "eval") for field in _FIELDS)


def _key(seed, step, stream):
    """`[2]` int64 key of a stream; seeds are spaced so that no two (seed, stream) pairs meet."""
    seed = tf.cast(seed, tf.int64) * len(STREAMS) + STREAMS.index(stream)
    return tf.stack([seed, tf.cast(step, tf.int64)])


def draw(seed, step, kind, seq_len, batch_size, k_particles, n_steps, n_what):
    """The noise of a batch, all of it by one key: for training.

    Args:
        seed: int, or scalar tensor.
        step: int or scalar tensor: the global step.
        kind: "train" or "eval".
        seq_len, batch_size, k_particles, n_steps, n_what: T, B, K, N, Z; ints or scalar tensors.

    Returns:
        `FrameNoise` of `[T, B, K, N, n]`: standard normal for what and where, uniform on [0, 1) for presence
        (`[T, B, K, N]`).
    """
    slots = [seq_len, batch_size, k_particles, n_steps]

    def step_noise(name):
        key = f"{kind}_{name}_"
        return StepNoise(
            what=tf.random.stateless_normal(slots + [n_what], _key(seed, step, key + "what")),
            where=tf.random.stateless_normal(slots + [4], _key(seed, step, key + "where")),
            presence=tf.random.stateless_uniform(slots, _key(seed, step, key + "presence")),
        )

    return FrameNoise(propagation=step_noise("propagation"), discovery=step_noise("discovery"))


def part_of(drawn, index, count):
    """The noise of one of equal parts of a batch's sequences.

    Args:
        drawn: `FrameNoise` of `[T, B, ...]`, of the whole batch: what a sequence gets does not depend on who draws it.
        index, count: ints, which of how many parts, in the order of the sequences.

    Returns:
        `FrameNoise` of `[T, B / count, ...]`.

    Raises:
        ValueError: if the batch is not divisible.
    """
    if count == 1:
        return drawn
    batch_size = drawn.discovery.presence.shape[1].value
    if batch_size % count:
        raise ValueError(f"The noise of {batch_size} sequences has no {count} equal parts.")
    size = batch_size // count
    return tf.nest.map_structure(lambda tensor: tensor[:, index * size : (index + 1) * size], drawn)


def draw_by_sequence(seed, sequences, seq_len, k_particles, n_steps, n_what):
    """The noise of a batch, that of each sequence by a key of its own: for evaluation, in batches of any size.

    Args:
        seed: int, or scalar tensor.
        sequences: `[B]` int64, the sequences' numbers in their data set.
        seq_len, k_particles, n_steps, n_what: as in `draw`.

    Returns:
        `FrameNoise` as of `draw`.
    """

    def of_one(number):
        drawn = draw(seed, number, "eval", seq_len, 1, k_particles, n_steps, n_what)
        return tf.nest.map_structure(lambda x: tf.squeeze(x, axis=1), drawn)

    kinds = StepNoise(tf.float32, tf.float32, tf.float32)
    drawn = tf.map_fn(of_one, sequences, FrameNoise(kinds, kinds), back_prop=False)
    return tf.nest.map_structure(lambda x: tf.transpose(x, [1, 0, *range(2, x.shape.ndims)]), drawn)


def mode(seq_len, batch_size, k_particles, n_steps, n_what):
    """No noise: every Gaussian at its mean, every presence at its more probable value; arguments as in `draw`."""
    slots = [seq_len, batch_size, k_particles, n_steps]
    none = StepNoise(
        what=tf.fill(slots + [n_what], 0.0), where=tf.fill(slots + [4], 0.0), presence=tf.fill(slots, 0.5)
    )
    return FrameNoise(propagation=none, discovery=none)


def resample(importance_weights, seed, sequences):
    """Draws one particle per sequence in proportion to its weight.

    Args:
        importance_weights: `[B, K]` float32, rows sum to one.
        seed, sequences: as in `draw_by_sequence`.

    Returns:
        `[B]` int32 particle indices.
    """
    cumulative = tf.cumsum(importance_weights, axis=-1)
    uniform = tf.map_fn(
        lambda number: tf.random.stateless_uniform([], _key(seed, number, "eval_resample")),
        sequences,
        tf.float32,
        back_prop=False,
    )
    chosen = tf.reduce_sum(tf.cast(cumulative <= uniform[:, None] * cumulative[:, -1:], tf.int32), axis=-1)
    return tf.minimum(chosen, tf.shape(cumulative)[1] - 1)
