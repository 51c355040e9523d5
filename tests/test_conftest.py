# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test can rely on."""

import os
import signal
import subprocess
import sys

import pytest

from sqair.graph_mode import tf

TESTS = os.path.dirname(os.path.abspath(__file__))
PROGRAM = """
import subprocess, sys, conftest
ask = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
subprocess.check_call([sys.executable, "-c", ask])
"""


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_programs_can_be_interrupted_even_if_the_tests_run_in_the_background(handler):
    answer = subprocess.check_output(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, os.path.dirname(TESTS)])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
        universal_newlines=True,
    )
    assert answer == "True\n"


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_processes_that_share_the_tests_keep_to_one_core_each():
    assert len(os.sched_getaffinity(0)) == 1


def test_the_default_graph_is_empty():
    assert not tf.get_default_graph().get_operations()
