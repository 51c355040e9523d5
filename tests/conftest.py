# SPDX-License-Identifier: GPL-3.0-or-later
"""The same conditions for every test: no GPU, no log of TensorFlow's C++ part, a graph and a core of its own."""

import os
import signal
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import pytest

import sqair  # noqa: F401  first, so that TensorFlow is as quiet as a user has it


def pass_on_interruptions():
    """Lets programs that tests start be interrupted even if these tests run in the background.

    There SIGINT is ignored, and what is ignored stays so in programs that are started. What has a handler does not:
    one that does nothing is as good for the tests themselves.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)


def keep_to_one_core():
    """Gives each of several processes that share the tests, and the programs it starts, one core."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")  # gw0, gw1, ...
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})


pass_on_interruptions()
keep_to_one_core()


@pytest.fixture(autouse=True)
def fresh_graph():
    """Gives each test that uses TensorFlow an empty default graph; yields it (None without TensorFlow)."""
    tf = sys.modules.get("tensorflow")
    if tf is None:
        yield None
    else:
        with tf.Graph().as_default() as graph:
            yield graph
