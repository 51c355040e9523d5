# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving averages of variables over updates (Polyak & Juditsky 1992), which do not swing as the variables do."""

from sqair.graph_mode import tf

DELAY = 10.0  # after n updates averages are of about the last n / 10, while `decay` allows more


def move_averages(averages, variables, decay, count):
    """Moves averages towards variables: all the way at first, soon by less, in the end by a share of `1 - decay`.

    Args:
        averages: list of variables; what they hold at first is forgotten.
        variables: list of variables of the same shapes.
        decay: float in [0, 1), how much of the averages an update keeps in the end.
        count: scalar variable or tensor, how many updates were averaged before.

    Returns:
        List of ops.
    """
    count = tf.cast(count, tf.float32)
    rate = 1.0 - tf.minimum(decay, count / (count + DELAY))
    pairs = zip(averages, variables)
    return [average.assign_sub(rate * (average - variable.read_value())) for average, variable in pairs]
