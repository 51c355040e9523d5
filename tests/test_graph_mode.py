# SPDX-License-Identifier: GPL-3.0-or-later
"""The door to TensorFlow and Sonnet: the same graphs behind it, and nothing put up where nothing is needed."""

import json
import os
import subprocess
import sys

import pytest

from sqair.graph_mode import TF2, first_line, snt, tf

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STAND_INS = ("tensorflow.contrib.eager", "tensorflow_probability", "sonnet.protos.module_pb2")


def report(expression, first="pass"):
    """The value of an expression, as JSON has it, in a fresh interpreter after the door was passed."""
    code = f"{first}\nimport json, sys\nfrom sqair import graph_mode\nprint(json.dumps({expression}))"
    return json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True))


def test_tensors_have_no_values_before_a_session_runs():
    assert not tf.executing_eagerly()
    assert isinstance(tf.constant(1.0) + 1.0, tf.Tensor) and not hasattr(tf.constant(1.0), "_numpy")
    assert tf.zeros([2, 3]).shape[0].value == 2


def test_variables_are_references():
    variable = tf.get_variable("x", [2])
    assert variable.op.type == "VariableV2"


def test_loops_are_of_version_1():
    tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
    types = {operation.type for operation in tf.get_default_graph().get_operations()}
    assert "Enter" in types and not types & {"While", "StatelessWhile"}


def test_modules_of_sonnet_work():
    linear = snt.Linear(2)
    gradients = tf.gradients(linear(tf.ones([1, 3])), tf.trainable_variables())
    assert [variable.op.name for variable in tf.trainable_variables()] == ["linear/w", "linear/b"]
    assert [gradient.shape.as_list() for gradient in gradients] == [[3, 2], [2]]
    state = tf.zeros([1, 4])
    assert snt.VanillaRNN(4)(tf.ones([1, 3]), state)[1].shape.as_list() == [1, 4]
    assert snt.BatchFlatten()(tf.ones([2, 3, 4])).shape.as_list() == [2, 12]


def test_an_error_s_first_line_is_what_went_wrong():
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError) as caught:
        session.run(tf.check_numerics(tf.math.log(tf.zeros([])), "the loss"))
    assert first_line(caught.value).startswith("the loss : Tensor had ")


@pytest.mark.skipif(TF2, reason="TensorFlow 2.x: there are stand-ins")
def test_under_tensorflow_1_nothing_stands_in_for_anything():
    before = "import tensorflow\nfrom tensorflow.python.util import nest\nkept = dict(vars(nest))"
    assert report("[n for n in vars(nest) if vars(nest)[n] is not kept.get(n)]", before) == []
    found = report(f"[getattr(sys.modules.get(n), '__file__', '') for n in {STAND_INS}]")
    assert all("site-packages" in name for name in found)


@pytest.mark.skipif(not TF2, reason="TensorFlow 1.x: nothing is put up")
def test_what_stood_in_while_sonnet_was_imported_is_gone_afterwards():
    """A program may have the real ones, or look for them to learn which TensorFlow it is."""
    assert report(f"[n for n in {STAND_INS} if n in sys.modules]") == []
    kept = "import sys, types; mine = sys.modules['tensorflow_probability'] = types.ModuleType('mine')"
    assert report("sys.modules['tensorflow_probability'] is mine", kept)
