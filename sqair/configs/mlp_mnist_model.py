# SPDX-License-Identifier: GPL-3.0-or-later
"""Model: SQAIR with fully connected networks, as trained on moving MNIST by the paper."""

from sqair.common_model_flags import model_arguments
from sqair.model.sqair import mlp_sqair


def load(flags, mean_image):
    """Builds the model in the current graph.

    Args:
        flags: the parsed flags.
        mean_image: `[H, W, C]` float32 array in [0, 1], where the learned background starts.

    Returns:
        `sqair.model.sqair.SQAIR`.

    Raises:
        UserError: if a flag's value is refused.
    """
    return mlp_sqair(mean_image, **model_arguments(flags))
