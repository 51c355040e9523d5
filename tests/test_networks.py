# SPDX-License-Identifier: GPL-3.0-or-later
"""The small networks: recurrent cores against Sonnet's, the multilayer perceptron, where they start."""

import numpy as np
import pytest
import sonnet as snt
import tensorflow.compat.v1 as tf
from tf_run import run

from sqair.engine import layers
from sqair.errors import UserError
from sqair.model import networks, spatial_transformer


def random_values(variables, seed=0):
    rng = np.random.RandomState(seed)
    return [0.5 * rng.normal(size=v.shape.as_list()).astype(np.float32) for v in variables]


# Recurrent cores

CORES = [("VanillaRNN", snt.VanillaRNN), ("GRU", snt.GRU)]


def variables_of(core, inputs, state):
    """Calls a core; its output, next state, and variables by their names within it."""
    outputs = core(inputs, state)
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
    for core in (layers.make_core(kind, 6, [4], "transition", "ours"), sonnet_core(6)):
        (_, state), variables = variables_of(core, inputs[0], start)
        output, state = core(inputs[1], state)
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
    for core in (layers.make_core(kind, 400, [50], "transition", "ours"), sonnet_core(400)):
        _, variables = variables_of(core, tf.zeros([1, 50]), tf.zeros([1, 400]))
        spreads.append({name: np.std(value) for name, value in run(variables).items()})
    for name, expected in spreads[1].items():
        np.testing.assert_allclose(spreads[0][name], expected, rtol=0.15, err_msg=name)


@pytest.mark.parametrize("kind", ["LSTM", "gru", ""])
def test_unknown_cores_are_refused_with_the_flag_and_the_known_ones(kind):
    with pytest.raises(UserError, match=r"--time_transition={} .*GRU, VanillaRNN".format(kind)):
        layers.make_core(kind, 6, [4], "time_transition", "core")


@pytest.mark.parametrize("kind", ["VanillaRNN", "GRU"])
@pytest.mark.parametrize("early_state", [False, True])
def test_cores_take_their_input_in_parts(kind, early_state):
    rng = np.random.RandomState(0)
    parts = [tf.constant(rng.normal(size=(5, n)), tf.float32) for n in (2, 3, 4)]
    state = tf.constant(rng.normal(size=(5, 6)), tf.float32)
    core = layers.make_core(kind, 6, [2, 3, 4], "transition", "core")
    whole, _ = core(tf.concat(parts, 1), state, parts=(0, 1, 2))
    share = core.share((0, 2))(tf.concat([parts[0], parts[2]], 1))
    state_share = core.state_share(state) if early_state else None
    in_parts, _ = core(parts[1], state, share, (1,), state_share)
    actual, expected = run([in_parts, whole])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


# Multilayer perceptron and statistics


def test_layers_take_their_input_in_parts():
    rng = np.random.RandomState(0)
    parts = [tf.constant(rng.normal(size=(5, n)), tf.float32) for n in (2, 3)]
    mlp = layers.MLP([7], 4, widths=[2, 3])
    whole = mlp(tf.concat(parts, 1), parts=(0, 1))
    actual, expected = run([mlp(parts[0], mlp.share((1,))(parts[1]), (0,)), whole])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_layers_side_by_side():
    x = tf.constant(np.random.RandomState(0).normal(size=(5, 3)), tf.float32)
    pair = (
        layers.Linear(2, widths=[3], name="a"),
        layers.Linear(4, tf.ones_initializer(), [3], name="b"),
    )
    shares = [layer.share() for layer in pair] + [pair[1].share(bias=False)]
    expected = [layer(x) for layer in pair] + [pair[1](x) - 1.0]
    actual, expected = run([layers.SideBySide(*shares)(x), expected])
    for a, e in zip(actual, expected):
        np.testing.assert_allclose(a, e, atol=1e-6)


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


def test_positive_scale():
    raw = np.array([-200.0, -1.0, 0.0, 3.0])
    actual = run(layers.positive_scale(tf.constant(raw, tf.float32)))
    np.testing.assert_allclose(actual, np.logaddexp(0, raw) + 0.01, rtol=1e-5)


def test_location_statistics_start_at_the_given_offset():
    loc, raw_scale = networks.WhereStatistics(8, -3.0)(tf.zeros([2, 5]))
    loc, raw_scale = run([loc, raw_scale])
    np.testing.assert_array_equal(loc, np.zeros((2, 4)))
    np.testing.assert_array_equal(raw_scale, np.full((2, 4), -3))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("masked", [True, False])
def test_glimpse_encoder_masks_what_it_reads(channels, masked):
    """A mask of zeros is as good as an empty image, a mask of ones as none; channels share a mask."""
    rng = np.random.RandomState(0)
    images = tf.constant(rng.uniform(size=(2, 6, 8, channels)), tf.float32)
    encoder = networks.GlimpseEncoder((6, 8, channels), 4, 16, 3, masked)
    padded, index, where = spatial_transformer.pad_images(images), tf.constant([1, 0, 1]), tf.zeros([3, 4])
    plain = encoder(padded, index, where)
    assert plain.loc.shape.as_list() == plain.scale.shape.as_list() == [3, 3]
    if not masked:
        mask = encoder.mask(encoder.mask_share(tf.ones([3, 16])))
        assert not [v for v in tf.global_variables() if "mask" in v.op.name]
        with_mask = encoder(padded, index, where, mask)
        for actual, expected in zip(*run([with_mask, plain])):
            np.testing.assert_array_equal(actual, expected)
        return
    mask = encoder.mask(encoder.mask_share(tf.constant(rng.normal(size=(3, 16)), tf.float32)))
    ones = encoder(padded, index, where, tf.ones_like(mask))
    zeros = encoder(padded, index, where, tf.zeros_like(mask))
    empty = encoder(tf.zeros_like(padded), index, where)
    mask, plain, ones, zeros, empty = run([mask, plain, ones, zeros, empty])
    assert mask.shape == (3, 16 * channels)
    assert np.all((mask > 0) & (mask < 1))
    by_channel = mask.reshape(3, 16, channels)
    np.testing.assert_array_equal(by_channel, np.repeat(by_channel[..., :1], channels, -1))
    for a, b in ((plain, ones), (zeros, empty)):
        np.testing.assert_allclose(a.loc, b.loc, atol=1e-6)
        np.testing.assert_allclose(a.scale, b.scale, atol=1e-6)
    assert np.all(plain.scale > 0.01)
    assert np.any(np.abs(plain.loc[0] - plain.loc[1]) > 1e-4)
    np.testing.assert_allclose(plain.loc[0], plain.loc[2], atol=1e-6)
