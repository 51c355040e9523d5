# SPDX-License-Identifier: GPL-3.0-or-later
"""Model: SQAIR with convolutional encoders and a sub-pixel decoder; CONV-SQAIR of the paper."""

from sqair.common_model_flags import model_arguments
from sqair.model.conv_networks import conv_sqair


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
    return conv_sqair(mean_image, **model_arguments(flags))
