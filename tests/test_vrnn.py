# SPDX-License-Identifier: GPL-3.0-or-later
"""VRNN against a slow oracle in float64: all outputs, gradients; its shapes, sizes and what it refuses."""

import functools

import numpy as np
import pytest
import reference_vrnn as reference
from mutated_module import mutated
from tf_run import run

from sqair.baselines import vrnn
from sqair.baselines.image_networks import MLPImageDecoder
from sqair.engine.layers import MLP
from sqair.graph_mode import tf
from sqair.model.noise import draw

T, B, K, Z, D = 4, 2, 3, 2, 4
IMAGE = 9, 6, 1
KINDS = "mlp", "conv"


def make(kind, image_shape=IMAGE, module=vrnn, **arguments):
    mean_image = np.random.RandomState(5).uniform(size=image_shape).astype(np.float32)
    sizes = dict(hidden_size=D, n_layers=2, n_latent=Z)
    return getattr(module, f"{kind}_vrnn")(mean_image, **dict(sizes, **arguments))


@functools.lru_cache()
def inputs(image_shape=IMAGE):
    rng = np.random.RandomState(0)
    images = rng.uniform(size=(T, B) + image_shape)
    return images, rng.normal(size=(T, B, K, Z)), rng.uniform(size=(T, B, K))


def call(model, images, noise, uniforms):
    images, noise, uniforms = [tf.constant(x, tf.float32) for x in (images, noise, uniforms)]
    return model(images, vrnn.VRNNNoise(noise, uniforms))


def parameters():
    """Random values of all variables: what to feed, and by the oracle's names."""
    rng = np.random.RandomState(1)
    feed = {}
    for variable in tf.trainable_variables():
        shape = variable.shape.as_list()
        spread = 0.3 if len(shape) < 2 else np.prod(shape[:-1]) ** -0.5
        feed[variable] = (spread * rng.normal(size=shape)).astype(np.float32)
    named = {variable.op.name: value.astype(np.float64) for variable, value in feed.items()}
    return feed, {name.split("/", 1)[1] if name.startswith("vrnn/") else name: x for name, x in named.items()}


def by_the_oracle(params, below, image_shape=IMAGE, parents=None):
    images, noise, uniforms = inputs(image_shape)
    found = []
    for b in range(B):
        own = None if parents is None else parents[:, b]
        found.append(reference.run(params, images[:, b], noise[:, b], uniforms[:, b], below, own))
    return {name: np.stack([one[name] for one in found], 0 if name == "weights" else 1) for name in found[0]}


def check_outputs(kind, below=0.4, image_shape=IMAGE, streams=2, module=vrnn):
    model = make(kind, image_shape, module, resample_below=below, streams=streams)
    outputs = call(model, *inputs(image_shape))
    feed, params = parameters()
    log_weights = tf.reshape(outputs.log_weights, [T, B, K])
    bound, weights = model.bound.so_far(log_weights), model.bound.importance_weights(log_weights)
    outputs, bound, weights = run([outputs._replace(glimpses=tf.zeros([])), bound, weights], feed)
    expected = by_the_oracle(params, below, image_shape)
    for name, actual in (
        ("latent", outputs.steps.latents),
        ("canvas", outputs.canvas),
        ("log_likelihood", outputs.log_likelihood),
        ("log_q", outputs.steps.log_q),
        ("log_p", outputs.steps.log_p),
    ):
        actual = actual.reshape(expected[name].shape)
        np.testing.assert_allclose(actual, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(bound, expected["log_evidence"], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(weights, expected["weights"], rtol=1e-2, atol=1e-3)
    assert not np.any(outputs.steps.discrete_log_q)
    return expected["resampled"]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_oracle(kind):
    assert np.any(check_outputs(kind))


@pytest.mark.parametrize(
    "kind, below, image_shape, streams", [("mlp", 0.0, (5, 8, 3), 1), ("conv", 2.0, (8, 7, 3), 1)]
)
def test_so_they_are_in_colour_without_resampling_and_with_resampling_in_every_frame(
    kind, below, image_shape, streams
):
    assert np.all(check_outputs(kind, below, image_shape, streams) == (below > 1))


@pytest.mark.parametrize("kind", ["mlp", pytest.param("conv", marks=pytest.mark.slow)])
def test_gradients_are_those_of_the_oracle(kind):
    """Along a random direction in each variable, while the same particles are chosen.

    The convolutional model differs in two networks alone.
    """
    model = make(kind, resample_below=0.4)
    log_weights = tf.reshape(call(model, *inputs()).log_weights, [T, B, K])
    feed, params = parameters()
    variables = [v for v in feed if kind == "mlp" or v.op.name.startswith("image_")]
    gradients = tf.gradients(model.bound.loss(log_weights, None, "vimco"), variables)
    assert None not in gradients
    gradients = run(gradients, feed)
    parents = by_the_oracle(params, 0.4)["parents"]
    rng = np.random.RandomState(2)

    def loss(params):
        return -np.mean(by_the_oracle(params, 0.4, parents=parents)["log_evidence"][-1]) / T

    names = dict(zip([v.op.name for v in variables], gradients))
    for name, gradient in names.items():
        own = name.split("/", 1)[1] if name.startswith("vrnn/") else name
        direction = rng.normal(size=gradient.shape)
        values = [loss(dict(params, **{own: params[own] + step * direction})) for step in (1e-5, -1e-5)]
        size = np.linalg.norm(gradient) * np.linalg.norm(direction) + 1e-3
        np.testing.assert_allclose(
            np.sum(gradient * direction) / size,
            (values[0] - values[1]) / 2e-5 / size,
            atol=2e-3,
            err_msg=name,
        )


@pytest.mark.slow
def test_the_first_frame_does_not_see_the_second():
    images, noise, uniforms = inputs()
    model = make("mlp")
    first = call(model, images, noise, uniforms).log_weights[:1]
    alone = call(model, images[:1], noise[:1], uniforms[:1]).log_weights
    np.testing.assert_allclose(*run([first, alone]), rtol=1e-5)


@pytest.mark.slow
def test_sizes_may_be_unknown_and_one_particle_will_do():
    model = make("conv")
    images = tf.placeholder(tf.float32, [None, None, *IMAGE])
    length, batch_size = tf.shape(images)[0], tf.shape(images)[1]
    for k in (1, 3):
        outputs = model(images, draw(0, 0, "eval", length, batch_size, k, model.noise))
        for t, b in ((1, 1), (3, 2)):
            found = run(outputs._replace(glimpses=tf.zeros([])), {images: np.zeros((t, b) + IMAGE)})
            assert found.canvas.shape == (t, b * k, *IMAGE) and found.log_weights.shape == (t, b * k)
            assert found.steps.latents.shape == (t, b * k, Z)


@pytest.mark.slow
def test_the_sizes_are_those_of_the_paper():
    for kind in KINDS:
        with tf.Graph().as_default():
            model = getattr(vrnn, f"{kind}_vrnn")(np.zeros([50, 50, 1], np.float32))
            outputs = model(tf.zeros([2, 1, 50, 50, 1]), draw(0, 0, "train", 2, 1, 2, model.noise))
            assert outputs.steps.latents.shape.as_list() == [None, 2, 165]
            assert outputs.canvas.shape.as_list() == [None, 2, 50, 50, 1]
            sizes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
            hidden = [name for name in sizes if "posterior/hidden" in name and name.endswith("/w")]
            assert len(hidden) == 3 and all(sizes[name][1] == 512 for name in hidden)


def test_it_starts_at_the_mean_image():
    model = make("mlp")
    images, noise, uniforms = inputs()
    outputs = call(model, images, noise, uniforms)
    variables = {v.op.name: v for v in tf.trainable_variables()}
    last = {v: np.zeros(v.shape) for name, v in variables.items() if "decoder/mlp/output" in name}
    canvas = run(outputs.canvas, last)
    np.testing.assert_allclose(canvas[2, 3], np.random.RandomState(5).uniform(size=IMAGE), rtol=1e-5)


@pytest.mark.parametrize(
    "wrong, named", [(0, "images"), (1, "noise of the latent"), (2, "noise of the ancestors")]
)
def test_what_does_not_fit_is_refused(wrong, named):
    values = list(inputs())
    values[wrong] = values[wrong][:, :, :-1] if wrong == 0 else values[wrong][:-1]
    with pytest.raises(ValueError, match=named):
        call(make("mlp"), *values)


def test_features_of_another_size_are_refused():
    decoder = MLPImageDecoder(D, 1, IMAGE)
    model = vrnn.VRNN(np.zeros(IMAGE, np.float32), MLP([D + 1]), decoder, D, n_latent=Z)
    with pytest.raises(ValueError, match="what image_encoder returns must have shape"):
        call(model, *inputs())


def test_with_debug_what_is_not_finite_fails_by_its_name():
    images, noise, uniforms = inputs()
    outputs = call(make("mlp", debug=True), np.where(images > 0.9, np.nan, images), noise, uniforms)
    with pytest.raises(tf.errors.InvalidArgumentError, match="model.log_likelihood is not finite"):
        run(outputs.log_likelihood)


def test_without_resampling_the_bound_is_iwae():
    """Of the same noise, with the bound that sums over time before particles are averaged."""
    model = make("mlp", resample_below=0.0)
    outputs = call(model, *inputs())
    bound = model.bound.so_far(tf.reshape(outputs.log_weights, [T, B, K]))
    feed, params = parameters()
    expected = by_the_oracle(params, 0.0)
    np.testing.assert_allclose(run(bound, feed), expected["log_evidence"], rtol=1e-3, atol=1e-3)
    assert model.bound.joins  # so that particles can be evaluated in parts


MISTAKES = {
    "the LSTM sees the frame itself": ("image=image), image_tm1=image_tm1", "image=image), image_tm1=image"),
    "the last frame is the first one's": ("features[:-batch_size]], axis", "features[batch_size:]], axis"),
    "the last latents are forgotten": (
        "VRNNState(core, features), log",
        "VRNNState(core, 0 * features), log",
    ),
    "prior and posterior change places": (
        "log_likelihood + log_p - log_q, k",
        "log_likelihood + log_q - log_p, k",
    ),
    "noise is not scaled": ("loc + scale * noise", "loc + noise"),
    "the posterior is the prior": (
        "loc, scale = _gaussian(self._posterior",
        "prior_loc, prior_scale = loc, scale = _gaussian(self._posterior",
    ),
    "another deviation": ("-0.5 / OUTPUT_STD**2", "-0.5 / OUTPUT_STD"),
    "no mean image": ("output=early.output) + self._mean_image", "output=early.output) + 0.0"),
    "outputs are not of histories": (
        "fivo.follow(tuple(outputs._replace(scores=scores)), lineage)",
        "tuple(outputs._replace(scores=scores))",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("right, wrong", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_noticed(right, wrong):
    with pytest.raises(AssertionError):
        check_outputs("mlp", module=mutated(vrnn, right, wrong))
