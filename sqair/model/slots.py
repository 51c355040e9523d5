# SPDX-License-Identifier: GPL-3.0-or-later
"""Object slots: what a slot sees of the one before, which are kept, their ids and logits, what they were at t - 1."""

from typing import Any, NamedTuple

import numpy as np

from sqair.engine.tensors import map_packed
from sqair.graph_mode import tf

ABSENT_LOGIT = -88.0  # its sigmoid underflows to 0 in float32


class PreviousSlot(NamedTuple):
    """What a slot conditions on of slot n - 1 in the same frame."""

    what: Any  # [m, Z]
    where: Any  # [m, 4] logits
    presence: Any  # [m, 1] 0 or 1
    hidden: Any  # [m, D] state of the RNN over slots


def before_first_slot(rows, n_what, presence, hidden):
    """The `PreviousSlot` of `[R, n]` that the first slot sees: no object.

    Args:
        rows: int or scalar tensor R.
        n_what: int Z.
        presence: float: 1 in discovery, where a slot needs the one before, 0 in propagation.
        hidden: `[1, D]`, the learned first state.
    """
    nothing = PreviousSlot(tf.zeros([1, n_what]), tf.zeros([1, 4]), tf.fill([1, 1], presence), hidden)
    return map_packed(lambda x: tf.tile(x, tf.stack([rows, 1])), nothing)


def mask_absent_logit(logit, presence):
    """The logit where `presence` is 1, `ABSENT_LOGIT` where it is 0; all tensors of the same shape."""
    return presence * logit + (presence - 1.0) * -ABSENT_LOGIT


def present_first(presence, n_keep):
    """The order that moves present slots to the front and keeps `n_keep`; stable among present and among absent.

    Every slot has a key of its own, so that no sort needs to be stable.

    Args:
        presence: `[R, S]` float32, 0 or 1.
        n_keep: int, at most S.

    Returns:
        `[R, n_keep]` int32, the slots kept.
    """
    n_slots = presence.shape.as_list()[1]
    keys = presence * n_slots - np.arange(n_slots, dtype=np.float32)
    return tf.nn.top_k(keys, n_keep, sorted=True).indices


def next_ids(last_id, presence):
    """Ids of new objects: each row counts on from its last one.

    Args:
        last_id: `[R, 1]` float32, the last id used in each row, -1 if none.
        presence: `[R, N]` float32, which slots hold a new object.

    Returns:
        Tuple of ids `[R, N]` float32, -1 in empty slots, and the new last id `[R, 1]`.
    """
    running = last_id + tf.cumsum(presence, axis=-1)
    return presence * (running + 1.0) - 1.0, running[:, -1:]


def shift_in_time(tensor, rows, first=None):
    """`[T * R, ...]` at t - 1. `rows`: int or scalar tensor R; `first`: `[R, ...]` before the first frame, or zeros."""
    first = tf.zeros_like(tensor[:rows]) if first is None else first
    return tf.concat([first, tensor[:-rows]], axis=0)


def squeeze_last(tensor):
    """`[..., 1]` to `[...]`."""
    return tf.squeeze(tensor, axis=-1)
