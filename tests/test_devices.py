# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement, as far as it shows without a GPU: one is feigned, and what would run on it runs on the CPU instead."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from orderedattrdict import AttrDict
from stub_model import H, StubDataset, W

from sqair import common_model_flags
from sqair.data.pipeline import SequenceBatch
from sqair.engine import devices, initial_values
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import TF2, tf
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise
from sqair.training import graph as training_graph
from sqair.training import objective
from sqair.training.settings import Settings

TESTS = os.path.dirname(os.path.abspath(__file__))
SETTINGS = Settings(batch_size=4, k_particles=2, seq_len=2, train_itr=8, learning_rate=0.01, num_threads=1)
DYNAMIC = {"Where", "Unique", "UniqueV2", "DynamicPartition", "DynamicStitch", "BooleanMask", "ListDiff"}
LOOP = {"Enter", "Exit", "Merge", "Switch", "NextIteration", "LoopCond"}


@pytest.fixture
def feign_gpu(monkeypatch):
    """Lets TensorFlow say that it sees a GPU, from the call on."""
    found = ["/physical_device:GPU:0"]
    return lambda: monkeypatch.setattr(tf.config.experimental, "list_physical_devices", lambda kind: found)


def small_model(compact=False):
    return mlp_sqair(
        np.full([H, W, 1], 0.5, np.float32), n_units=1, n_what=3, glimpse_size=4, compact=compact
    )


def first_update(compact=False):
    """The numbers of an update, and the operations of its graph."""
    graph = training_graph.TrainingGraph(functools.partial(small_model, compact), StubDataset(8), SETTINGS)
    numbers, operations = graph.update(with_numbers=True), graph.graph.get_operations()
    graph.close()
    return numbers, operations


def test_there_is_no_gpu_where_tests_run_and_nothing_is_placed():
    assert not devices.has_gpu()
    with devices.accelerator():
        assert tf.constant(1.0).device == ""


def test_variables_and_the_loop_are_placed_on_the_gpu_and_input_on_the_cpu(feign_gpu):
    """An update runs all the same: the session puts on the CPU what has nowhere else to go. No shape is dynamic."""
    feign_gpu()
    _, operations = first_update()
    of_type = {}
    for operation in operations:
        of_type.setdefault(operation.type, set()).add(operation.device.lower())
    assert of_type["VariableV2"] == of_type["VarHandleOp"] == {"/device:gpu:0"}
    for kind in LOOP & set(of_type) | {"MatMul", "ApplyRMSProp"}:
        assert of_type[kind] == {"/device:gpu:0"}, kind
    assert of_type["IteratorV2"] == of_type["IteratorGetNext"] == {"/device:cpu:0"}
    assert not DYNAMIC & set(of_type)


@pytest.mark.slow
def test_placement_changes_no_number_and_computing_what_exists_needs_dynamic_shapes(feign_gpu):
    expected, operations = first_update(compact=True)
    assert "Where" in {operation.type for operation in operations}
    expected_of_all, _ = first_update()
    feign_gpu()
    assert first_update(compact=True)[0] == expected and first_update()[0] == expected_of_all


def test_all_slots_are_computed_by_default_where_there_is_a_gpu_unless_a_flag_says_otherwise(feign_gpu):
    own = flags.FLAGS.flags_by_module_dict()[common_model_flags.__name__]
    values = {flag.name: flag.default for flag in own}

    def compact(**given):
        return common_model_flags.model_arguments(AttrDict({**values, "debug": False, **given}))["compact"]

    assert compact() and compact(compact=True) and not compact(compact=False)
    feign_gpu()
    assert not compact() and compact(compact=True) and not compact(compact=False)


def run_traced():
    """The model, all slots of it, on two frames: loss and gradients, and how many operations that XLA compiled ran.

    Images and noise are fed, as XLA draws other numbers.
    """
    rng, feed = np.random.RandomState(0), {}

    def fed(*shape):
        tensor = tf.placeholder(tf.float32, shape)
        feed[tensor] = rng.uniform(size=shape)
        return tensor

    with tf.Graph().as_default():
        tf.set_random_seed(0)
        batch = SequenceBatch(fed(2, 4, H, W, 1), None, tf.ones([2, 4, 1]), None, None)
        with initial_values.keyed_by_name():
            model = small_model()
            slots = (2, 4, 2, model.n_steps)
            sample = FrameNoise(*[StepNoise(fed(*slots, 3), fed(*slots, 4), fed(*slots)) for _ in range(2)])
            loss = objective.loss_and_report(model, batch, 2, sample).loss
        fetches = [loss, *tf.gradients(loss, tf.trainable_variables())]
        options, data = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), tf.RunMetadata()
        with tf.Session(config=session_config(1)) as session:
            session.run(tf.global_variables_initializer())
            values = session.run(fetches, feed, options=options, run_metadata=data)
    names = [node.node_name for device in data.step_stats.dev_stats for node in device.node_stats]
    return [value.tolist() for value in values], sum("xla_run" in name for name in names)


@pytest.mark.slow
@pytest.mark.skipif(not TF2, reason="TensorFlow 1.15 does not compile the loop for CPUs")
def test_xla_compiles_the_graph_of_all_slots():
    code = "import json, test_devices\nprint(json.dumps(test_devices.run_traced()))"
    environment = {**os.environ, "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit"}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=TESTS, env=environment, text=True)
    (values, compiled), (expected, none) = json.loads(printed.splitlines()[-1]), run_traced()
    assert compiled > 0 == none
    for value, wanted in zip(values, expected):
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-3)
