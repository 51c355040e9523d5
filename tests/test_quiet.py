# SPDX-License-Identifier: GPL-3.0-or-later
import logging
import os
import subprocess
import sys

import pytest

from sqair import _quiet

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_quietened_neither_import_nor_first_session_prints_anything():
    code = (
        "from sqair import _quiet\n_quiet.quieten()\n"
        "from sqair.graph_mode import snt, tf\n"
        "with tf.Session() as session:\n"
        "    x = snt.Linear(2)(tf.ones([1, 3]))\n"
        "    session.run(tf.global_variables_initializer())\n"
        "    session.run([x, tf.gradients(x, tf.trainable_variables())])\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_package_leaves_logging_to_whoever_imports_it():
    code = (
        "import os, logging, sqair; from sqair import cli\n"
        "assert 'TF_CPP_MIN_LOG_LEVEL' not in os.environ and not logging.getLogger('tensorflow').filters\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    subprocess.check_call([sys.executable, "-c", code], cwd=ROOT, env=environment)


@pytest.mark.parametrize(
    "message, place, shown",
    [
        ("From %s: %s is deprecated", "/lib/site-packages/sonnet/python/modules/base.py:177", False),
        ("From %s: %s is deprecated", "/lib/site-packages/tensorflow_core/python/ops/x.py:1", False),
        ("From %s: %s is deprecated", "/home/me/sqair/sqair/model.py:12", True),
        ("The gradient of %s is %s", "/sonnet/", True),
    ],
)
def test_deprecations_between_third_parties_are_dropped_and_nothing_else(message, place, shown):
    record = logging.LogRecord("tensorflow", logging.WARNING, "f", 1, message, (place, "tf.something"), None)
    assert _quiet.is_ours(record) == shown
