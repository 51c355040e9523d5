# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a graph is computed: on the first visible GPU if there is one, else on the CPU."""

import contextlib

from sqair.graph_mode import tf

GPU, CPU = "/gpu:0", "/cpu:0"


def has_gpu():
    """Whether TensorFlow sees a GPU that it can use."""
    return bool(tf.config.experimental.list_physical_devices("GPU"))


def accelerator():
    """A context whose variables, loops and other operations are placed on the GPU; it changes nothing without one.

    A session needs `allow_soft_placement`: what has no kernel there stays on the CPU.
    """
    return tf.device(GPU) if has_gpu() else contextlib.nullcontext()


def host():
    """A context whose operations are placed on the CPU: for input."""
    return tf.device(CPU)
