# SPDX-License-Identifier: GPL-3.0-or-later
"""What `import sqair` offers."""

import os
import subprocess
import sys

import pytest

import sqair

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = [
    "AIR",
    "Generator",
    "SQAIR",
    "SQAIRCell",
    "SequenceBatch",
    "SequenceDataset",
    "SequenceOutputs",
    "Tracker",
    "UserError",
    "VRNN",
]
NAMES += ["conv_sqair", "conv_vrnn", "loss_and_report", "mlp_air", "mlp_sqair", "mlp_vrnn", "open_run"]


def test_the_names_are_these_and_no_others():
    assert sqair.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_under_its_name(name):
    assert getattr(sqair, name).__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module sqair has no attribute nothing"):
        _ = sqair.nothing


def test_the_import_alone_does_not_wait_for_tensorflow():
    code = "import sys, sqair; assert 'tensorflow' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.check_call([sys.executable, "-c", code], cwd=ROOT)


@pytest.mark.slow
@pytest.mark.parametrize("chosen, pool", [(None, True), ("0", False)])
def test_memory_comes_from_the_pool_of_tensorflow_unless_its_user_chose(chosen, pool):
    code = (
        "from sqair.graph_mode import tf\n"
        "options, data = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()\n"
        "with tf.Session() as session:\n"
        "    session.run(tf.random.normal([9]) + 1.0, options=options, run_metadata=data)\n"
        "nodes = [n for d in data.step_stats.dev_stats for n in d.node_stats]\n"
        "print(*sorted({m.allocator_name for n in nodes for m in n.memory}))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPU_ALLOCATOR_USE_BFC"}
    environment.update({"TF_CPU_ALLOCATOR_USE_BFC": chosen} if chosen else {})
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, env=environment, text=True)
    assert printed.strip() and ("bfc" in printed) == pool
