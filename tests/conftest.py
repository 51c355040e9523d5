# SPDX-License-Identifier: GPL-3.0-or-later
"""The same conditions for every test: no GPU, no log of TensorFlow's C++ part, a graph of its own."""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import pytest

import sqair  # noqa: F401  first, so that TensorFlow is as quiet as a user has it


@pytest.fixture(autouse=True)
def fresh_graph():
    """Gives each test that uses TensorFlow an empty default graph; yields it (None without TensorFlow)."""
    tf = sys.modules.get("tensorflow")
    if tf is None:
        yield None
    else:
        with tf.Graph().as_default() as graph:
            yield graph
