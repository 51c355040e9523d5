# SPDX-License-Identifier: GPL-3.0-or-later
"""Convolutional networks against loops over pixels, of odd and even sizes, grey and coloured; and in the model."""

import numpy as np
import pytest
import reference_conv
from mutated_module import mutated

from sqair.engine.initial_values import keyed_by_name
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model import conv_networks, noise
from sqair.model.conv_networks import conv_sqair
from sqair.model.sqair import SQAIR, mlp_sqair

IMAGES = [(20, 20, 1), (9, 13, 3), (3, 3, 1), (1, 6, 1), (50, 31, 1)]
GLIMPSES = [(20, 1, [10, 20]), (7, 3, [7]), (5, 1, [5]), (2, 1, [2]), (13, 1, [7, 13])]
D, Z = 6, 5


def evaluate(make_module, inputs):
    """What a module makes of an array, and its variables by their names below it, random."""
    with tf.Graph().as_default(), keyed_by_name(), tf.Session(config=session_config(1)) as session:
        fed = tf.placeholder(tf.float32, [None, *inputs.shape[1:]])
        outputs = make_module()(fed)
        rng = np.random.RandomState(0)
        values = {
            v: 0.3 * rng.normal(size=v.shape.as_list()) / np.sqrt(np.prod(v.shape.as_list()[:-1]) / 9 + 1)
            for v in tf.global_variables()
        }
        feed = {variable.initializer.inputs[1]: value for variable, value in values.items()}
        session.run([v.initializer for v in values], feed)
        names = {v.op.name.split("/", 1)[1]: value for v, value in values.items()}
        return session.run(outputs, {fed: inputs}), names


def check_encoder(shape, module=conv_networks):
    images = np.random.RandomState(1).uniform(-1, 1, size=(3, *shape))
    found, p = evaluate(lambda: module.ConvEncoder(shape, D), images)
    wanted = np.stack([reference_conv.encoder(p, image) for image in images])
    assert found.shape == (3, D) and np.abs(wanted).max() > 0.05 and np.ptp(wanted, axis=0).max() > 1e-3
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def check_decoder(size, channels, sides, module=conv_networks):
    what = np.random.RandomState(2).normal(size=(3, Z))
    found, p = evaluate(lambda: module.SubPixelDecoder(Z, size, channels), what)
    wanted = np.stack([reference_conv.decoder(p, one, sides) for one in what])
    assert found.shape == wanted.shape == (3, size, size, channels) and np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", IMAGES)
def test_an_encoder_against_loops(shape):
    check_encoder(shape)


@pytest.mark.parametrize("size, channels, sides", GLIMPSES)
def test_a_decoder_against_loops(size, channels, sides):
    check_decoder(size, channels, sides)


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("tf.nn.bias_add(outputs, self._bias)", "outputs"),
        ("strides = [1, self._stride, self._stride, 1]", "strides = [1, 1, self._stride, 1]"),
        ("outputs = tf.nn.elu(layer(outputs))", "outputs = layer(outputs)"),
        ("tf.nn.conv2d(images,", "tf.nn.conv2d(images[:, ::-1],"),
        ("tf.nn.depth_to_space(layer(outputs if i == 0 else tf.nn.elu(outputs)), 2)",
         "tf.nn.depth_to_space(layer(outputs), 2)"),
        ("outputs[:, :side, :side]", "outputs[:, -side:, :side]"),
        ('activation=tf.nn.elu, name="input"', 'name="input"'),
    ],
)  # fmt: skip
def test_mistakes_do_not_pass(right, wrong):
    module = mutated(conv_networks, right, wrong)
    with pytest.raises((AssertionError, ValueError)):
        check_encoder((9, 13, 3), module)
        check_decoder(13, 1, [7, 13], module)


def test_of_no_image_there_are_no_features_and_no_gradient():
    """Where nothing exists, nothing is computed: batches may be empty."""
    images = tf.placeholder(tf.float32, [None, 9, 7, 3])
    features = conv_networks.ConvEncoder((9, 7, 3), D)(images)
    glimpses = conv_networks.SubPixelDecoder(D, 7, 1)(features)
    gradients = tf.gradients(tf.reduce_sum(glimpses**2), tf.trainable_variables())
    with tf.Session(config=session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        *found, to_variables = session.run([features, glimpses, gradients], {images: np.zeros([0, 9, 7, 3])})
    assert [x.shape for x in found] == [(0, D), (0, 7, 7, 1)]
    assert not any(gradient.any() for gradient in to_variables)


def test_half_is_rounded_up():
    assert list(map(conv_networks.half, (1, 2, 3, 20, 25))) == [1, 1, 2, 10, 13]


def parameters(make, shape, **sizes):
    """How many a model has, once it was called."""
    with tf.Graph().as_default():
        model = make(np.zeros(shape, np.float32), **sizes)
        assert isinstance(model, SQAIR)
        model(tf.zeros([1, 1, *shape]), noise.mode(1, 1, 1, model.noise))
        return sum(int(np.prod(v.shape.as_list())) for v in tf.trainable_variables())


def test_the_convolutional_model_is_the_smaller_one():
    conv, mlp = (parameters(make, (50, 50, 1)) for make in (conv_sqair, mlp_sqair))
    assert (conv, mlp) == (2448886, 2951522)


class Model:
    """A small coloured model of odd sizes in a graph, with the gradients of all log-weights together."""

    def __init__(self):
        shape, t, b, k = (11, 14, 3), 2, 2, 2
        with tf.Graph().as_default(), keyed_by_name():
            tf.set_random_seed(0)
            model = conv_sqair(
                np.full(shape, 0.2, np.float32),
                n_units=1,
                n_what=3,
                glimpse_size=7,
                n_steps_per_image=2,
                output_std=1.0,
            )
            y, x, c = np.ogrid[:11, :14, :3]
            phases = np.arange(t * b).reshape(t, b, 1, 1, 1)
            images = tf.constant(0.5 + 0.4 * np.sin(0.3 * y + 0.2 * x + c + phases), tf.float32)  # smooth
            drawn = tf.nest.map_structure(tf.identity, noise.draw(1, 0, "train", t, b, k, model.noise))
            rounded = [step._replace(presence=tf.round(step.presence)) for step in drawn]  # fixes presence
            self.outputs = model(images, type(drawn)(*rounded))
            self.variables = tf.trainable_variables()
            self.gradients = tf.gradients(tf.reduce_sum(self.outputs.log_weights), self.variables)
            self.session = tf.Session(config=session_config(1))
            self.session.run(tf.global_variables_initializer())

    def total_at(self, values):
        self.session.run(
            [v.initializer for v in values], {v.initializer.inputs[1]: value for v, value in values.items()}
        )
        return self.session.run(self.outputs.log_weights).astype(np.float64).sum()


def test_gradients_through_the_loop_over_time_against_differences():
    """Of convolutions: each of the three networks is moved by itself."""
    model = Model()
    assert None not in model.gradients
    outputs, values, gradients = model.session.run([model.outputs, model.variables, model.gradients])
    assert outputs.glimpses.shape == (2, 4, 2, 7, 7, 3) and outputs.canvas.shape == (2, 4, 11, 14, 3)
    assert outputs.steps.propagation.presence.sum() > 0
    rng = np.random.RandomState(3)
    for network in ("image_encoder", "glimpse_encoder", "glimpse_decoder"):
        moved = [i for i, v in enumerate(model.variables) if v.op.name.startswith(network + "/convolution")]
        assert len(moved) >= 2
        directions = [gradients[i] + np.std(gradients[i]) * rng.normal(size=values[i].shape) for i in moved]
        slope = sum(np.sum(gradients[i] * direction) for i, direction in zip(moved, directions))
        step = 0.1 / slope  # nats
        ahead, behind, back = [
            {model.variables[i]: values[i] + sign * step * d for i, d in zip(moved, directions)}
            for sign in (1, -1, 0)
        ]
        difference = model.total_at(ahead) - model.total_at(behind)
        model.total_at(back)
        np.testing.assert_allclose(difference, 0.2, rtol=0.03, err_msg=network)
    model.session.close()
