# SPDX-License-Identifier: GPL-3.0-or-later
"""Model: the paper's MLP-VRNN, with perceptrons to read and draw frames; trained on FIVO."""

from sqair.baselines.vrnn import mlp_vrnn
from sqair.vrnn_flags import model_arguments


def load(flags, mean_image):
    """Builds the model in the current graph.

    Args:
        flags: the parsed flags.
        mean_image: `[H, W, C]` float32 array in [0, 1], where the learned mean image starts.

    Returns:
        `sqair.baselines.vrnn.VRNN`.
    """
    return mlp_vrnn(mean_image, **model_arguments(flags))
