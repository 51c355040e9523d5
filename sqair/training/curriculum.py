# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes while a model trains: sequence length and learning rate, as functions of the step."""

import math

from sqair.graph_mode import tf

RATE_DIVISOR = 3.0
LAST_RATE = 0.01  # share of the rate that a cosine ends at


def sequence_length(step, seq_len, stage_itr, data_seq_len):
    """The number of frames to train on, `T = min(seq_len + step // stage_itr, data_seq_len)`.

    Args:
        step: scalar int64, updates done so far.
        seq_len: int, frames at first; 0 means all of them from the start.
        stage_itr: int, updates after which one frame more is shown; 0 keeps the length fixed.
        data_seq_len: int, frames of the data's sequences.

    Returns:
        Scalar int32.
    """
    if seq_len == 0 or seq_len >= data_seq_len:
        return tf.constant(data_seq_len, tf.int32)
    if stage_itr == 0:
        return tf.constant(seq_len, tf.int32)
    return tf.cast(tf.minimum(seq_len + step // stage_itr, data_seq_len), tf.int32)


def learning_rate(step, settings):
    """The rate of the next update: a linear rise, then steps or half a cosine.

    Args:
        step: scalar int64, updates done so far.
        settings: has `learning_rate`, `schedule`, `train_itr`, `warmup_itr`, `decay` and `decay_from`, see
            `sqair.training.settings.Settings`.

    Returns:
        Scalar float32.
    """
    if settings.decay == "cosine":
        rate = cosine(step, settings.learning_rate, settings.decay_from, settings.train_itr)
    else:
        rate = by_steps(step, settings.learning_rate, settings.schedule, settings.train_itr)
    if not settings.warmup_itr:
        return rate
    return rate * tf.minimum(tf.cast(step + 1, tf.float32) / settings.warmup_itr, 1.0)


def cosine(step, base, decay_from, train_itr):
    """The rate `base` until `decay_from`, then half a cosine down to a hundredth of it at `train_itr`."""
    progress = tf.cast(step - decay_from, tf.float32) / float(train_itr - decay_from)
    falling = 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))
    return base * (LAST_RATE + (1.0 - LAST_RATE) * falling)


def by_steps(step, base, schedule, train_itr):
    """A rate that is divided by 3 at the end of each part of the schedule but the last.

    Args:
        step: scalar int64, updates done so far.
        base: float, the rate at first.
        schedule: sequence of positive numbers, the lengths of the parts in proportion; they fill `train_itr`
            together. (4, 6, 10) divides the rate at 4/20 and again at 10/20. Empty: the rate is constant.
        train_itr: int, updates of the whole training.

    Returns:
        Scalar float32.
    """
    ends = schedule_ends(schedule, train_itr)
    rates = tf.constant([base / RATE_DIVISOR**i for i in range(len(ends) + 1)], tf.float32)
    if not ends:
        return rates[0]
    parts_done = tf.reduce_sum(tf.cast(step >= tf.constant(ends, tf.int64), tf.int32))
    return tf.gather(rates, parts_done)


def schedule_ends(schedule, train_itr):
    """The steps at which the learning rate is divided: list of int, one fewer than the schedule has parts."""
    total = float(sum(schedule))
    return [int(round(train_itr * sum(schedule[: i + 1]) / total)) for i in range(len(schedule) - 1)]
