# SPDX-License-Identifier: GPL-3.0-or-later
"""Where variables start: a function of the graph's seed and the variable's name, whatever else the graph holds."""

import contextlib
import zlib

from sqair.graph_mode import tf


@contextlib.contextmanager
def keyed_by_name():
    """Variables that `tf.get_variable` makes in this context start from random numbers of their own name.

    TensorFlow numbers its random operations as they are made, so that one operation more changes the initial values of
    all variables after it. The graph's seed (`tf.set_random_seed`) still chooses among all initial values.
    """
    with tf.variable_scope(tf.get_variable_scope(), custom_getter=_get_keyed):
        yield


def _get_keyed(getter, name, *args, initializer=None, **kwargs):
    """As `tf.get_variable`, whose initialiser is given a seed made of the variable's name."""
    if initializer is None and tf.as_dtype(kwargs.get("dtype") or tf.float32).is_floating:
        initializer = tf.glorot_uniform_initializer()  # TensorFlow's default
    config = initializer.get_config() if hasattr(initializer, "get_config") else {}
    if "seed" in config and config["seed"] is None:
        initializer = type(initializer).from_config(dict(config, seed=zlib.crc32(name.encode()) & 0x7FFFFFFF))
    return getter(name, *args, initializer=initializer, **kwargs)
