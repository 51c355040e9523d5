# SPDX-License-Identifier: GPL-3.0-or-later
"""Recurrent cores against Sonnet's, linear layers, the multilayer perceptron, where they start."""

import numpy as np
import pytest
from tf_run import run

from sqair.engine import layers
from sqair.errors import UserError
from sqair.graph_mode import snt, tf


def random_values(variables, seed=0):
    rng = np.random.RandomState(seed)
    return [0.5 * rng.normal(size=v.shape.as_list()).astype(np.float32) for v in variables]


# Recurrent cores

CORES = [("VanillaRNN", snt.VanillaRNN), ("GRU", snt.GRU)]


def call(core, inputs, state):
    """Ours take inputs by name."""
    return core(inputs, state) if type(core).__module__.startswith("sonnet") else core(state, x=inputs)


def variables_of(core, inputs, state):
    """Calls a core; its output, next state, and variables by their names within it."""
    outputs = call(core, inputs, state)
    prefix = core.scope_name + "/"
    own = [v for v in tf.trainable_variables() if v.op.name.startswith(prefix)]
    return outputs, {v.op.name[len(prefix) :]: v for v in own}


@pytest.mark.parametrize("kind, sonnet_core", CORES)
def test_cores_are_those_of_sonnet(kind, sonnet_core):
    """Two steps with the same variables: the same names and shapes, outputs and gradients."""
    rng = np.random.RandomState(0)
    inputs = tf.constant(rng.normal(size=(2, 5, 4)), tf.float32)
    start = tf.constant(rng.normal(size=(5, 6)), tf.float32)
    results, feed, shapes = [], {}, []
    for core in (layers.make_core(kind, 6, dict(x=4), "transition", name="ours"), sonnet_core(6)):
        (_, state), variables = variables_of(core, inputs[0], start)
        output, state = call(core, inputs[1], state)
        names = sorted(variables)
        shapes.append([(name, variables[name].shape) for name in names])
        loss = tf.reduce_sum(tf.sin(output)) + tf.reduce_sum(tf.square(state))
        results.append(
            [output, state] + tf.gradients(loss, [variables[name] for name in names] + [inputs, start])
        )
        feed.update(
            zip([variables[name] for name in names], random_values([variables[name] for name in names]))
        )
        assert core.state_size == core.output_size == tf.TensorShape([6])
    assert shapes[0] == shapes[1]
    for actual, expected in zip(*run(results, feed)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind, sonnet_core", CORES)
def test_cores_start_like_those_of_sonnet(kind, sonnet_core):
    """Variables are as spread as Sonnet's: fan-ins are those of the parts, not of a joined product."""
    spreads = []
    for core in (layers.make_core(kind, 400, dict(x=50), "transition", name="ours"), sonnet_core(400)):
        _, variables = variables_of(core, tf.zeros([1, 50]), tf.zeros([1, 400]))
        spreads.append({name: np.std(value) for name, value in run(variables).items()})
    for name, expected in spreads[1].items():
        np.testing.assert_allclose(spreads[0][name], expected, rtol=0.15, err_msg=name)


def test_lstm_is_that_of_sonnet():
    """Two steps with the same variables, which start alike: the same names and shapes, outputs and gradients."""
    rng = np.random.RandomState(0)
    inputs = tf.constant(rng.normal(size=(2, 5, 4)), tf.float32)
    start = [tf.constant(rng.normal(size=(5, 60)), tf.float32) for _ in range(2)]
    results, feed, starts = [], {}, []
    for core in (layers.LSTM(60, dict(x=4), name="ours"), snt.LSTM(60)):
        state = layers.LSTMState(*start)
        (_, state), variables = variables_of(core, inputs[0], state)
        output, state = call(core, inputs[1], state)
        starts.append({name: (v.shape, tf.math.reduce_std(v)) for name, v in variables.items()})
        loss = tf.reduce_sum(tf.sin(output)) + tf.reduce_sum(tf.square(state.cell))
        ordered = [variables[name] for name in sorted(variables)]
        results.append([output, *state] + tf.gradients(loss, ordered + [inputs, *start]))
        feed.update(zip(ordered, random_values(ordered)))
    for actual, expected in zip(*run(results, feed)):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert {n: shape for n, (shape, _) in starts[0].items()} == {n: s for n, (s, _) in starts[1].items()}
    ours, theirs = run([{name: std for name, (_, std) in spreads.items()} for spreads in starts])
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0.2, err_msg=name)
    core = layers.LSTM(6, dict(x=4))
    assert core.state_size == layers.LSTMState(tf.TensorShape([6]), tf.TensorShape([6]))
    assert not np.any(run(core.initial_state(2)).cell)


@pytest.mark.parametrize("kind", ["LSTM", "gru", ""])
def test_unknown_cores_are_refused_with_the_flag_and_the_known_ones(kind):
    with pytest.raises(UserError, match=r"^`time_transition={}` .*GRU, VanillaRNN".format(kind)):
        layers.make_core(kind, 6, dict(x=4), "time_transition")


# Linear layers and the multilayer perceptron


@pytest.mark.parametrize("output_size", [None, 3])
def test_multilayer_perceptron(output_size):
    x = np.random.RandomState(1).normal(size=(4, 5)).astype(np.float32)
    outputs = layers.MLP([7, 6], output_size, output_bias=2.0)(tf.constant(x))
    variables = tf.global_variables()
    values = random_values(variables)
    expected, n_layers = x, len(values) // 2
    assert n_layers == (2 if output_size is None else 3)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        starts = session.run([v for v in variables if v.op.name.endswith("/b")])
        actual = session.run(outputs, dict(zip(variables, values)))
    values = {v.op.name.split("/", 1)[1]: value for v, value in zip(variables, values)}
    for layer in ("hidden_0", "hidden_1", "output")[:n_layers]:
        expected = expected.dot(values[layer + "/w"]) + values[layer + "/b"]
        if layer != "output":
            expected = np.where(expected > 0, expected, np.expm1(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert not np.any(np.concatenate(starts[:2]))
    assert output_size is None or np.all(starts[2] == 2)


@pytest.mark.parametrize("named", [True, False])
def test_linear(named):
    rng = np.random.RandomState(0)
    a, b = [rng.normal(size=(5, n)).astype(np.float32) for n in (2, 3)]
    if named:
        layer = layers.Linear(4, dict(a=2, b=3), tf.ones_initializer())
        outputs = layer(b=tf.constant(b), a=tf.constant(a))  # by name, in any order
    else:
        layer = layers.Linear(4, bias_initializer=tf.ones_initializer())
        outputs = layer(tf.constant(np.concatenate([a, b], 1)))
    weights, bias = tf.trainable_variables()
    value = rng.normal(size=(5, 4)).astype(np.float32)
    expected = np.concatenate([a, b], 1).dot(value) + 1
    np.testing.assert_allclose(run(outputs, {weights: value}), expected, rtol=1e-5)
    assert (weights.op.name, bias.op.name) == ("linear/w", "linear/b")


def test_linear_starts_as_that_of_sonnet():
    layers.Linear(300, dict(x=400))
    spread = np.std(run(tf.trainable_variables())[0])
    np.testing.assert_allclose(spread, 0.88 / 20, rtol=0.05)  # 0.88: of a normal truncated at 2


def test_a_fixed_scalar_is_stored_and_not_trained():
    value = layers.fixed_scalar("root", 0.5)
    assert [v.op.name for v in tf.global_variables()] == ["root"]
    assert not tf.trainable_variables()
    assert run(value) == 0.5
