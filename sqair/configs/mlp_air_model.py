# SPDX-License-Identifier: GPL-3.0-or-later
"""Model: AIR with fully connected networks, the frames of a video as independent images; MLP-AIR of the paper."""

from sqair.baselines.air import mlp_air
from sqair.common_model_flags import arguments_without_propagation


def load(flags, mean_image):
    """Builds the model in the current graph.

    Args:
        flags: the parsed flags.
        mean_image: `[H, W, C]` float32 array in [0, 1], where the learned background starts.

    Returns:
        `sqair.baselines.air.AIR`.

    Raises:
        UserError: if a flag's value is refused, or would have no effect.
    """
    return mlp_air(mean_image, **arguments_without_propagation(flags))
