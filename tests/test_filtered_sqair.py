# SPDX-License-Identifier: GPL-3.0-or-later
"""SQAIR by FIVO: without resampling it is IWAE; with it, every history is what SQAIR makes of that history's noise."""

import numpy as np
import pytest
from stub_model import StubModel
from tf_run import run

from sqair.baselines import filtered_sqair, fivo
from sqair.engine.unroll import STREAMS, unroll
from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.model.noise import draw
from sqair.model.sqair import mlp_sqair

T, B, K, N = 4, 2, 5, 2
IMAGE = 12, 10, 1


def make(**arguments):
    tf.set_random_seed(1)  # two runs start from the same variables
    sizes = dict(n_steps_per_image=N, n_what=3, n_units=1, glimpse_size=4, prop_step_bias=1.0)
    return mlp_sqair(np.full(IMAGE, 0.2, np.float32), **dict(sizes, **arguments))


def inputs(model):
    images = np.random.RandomState(0).uniform(size=(T, B) + IMAGE).astype(np.float32)
    return tf.constant(images), run(draw(3, 0, "eval", T, B, K, model.noise))


def by_particle(x):
    return tf.reshape(x, [-1, B, K])


def constants(structure):
    return tf.nest.map_structure(tf.constant, structure)


def test_without_resampling_it_is_the_model_and_its_bound():
    model = make(prop_prior_type="guided")
    filtering = filtered_sqair.FilteredSQAIR(model, resample_below=0.0)
    images, noise = inputs(filtering)
    filtered, plain = filtering(images, constants(noise)), model(images, constants(noise.objects))
    bounds = [m.bound.so_far(by_particle(x.log_weights)) for m, x in ((filtering, filtered), (model, plain))]
    weights = [
        m.bound.importance_weights(by_particle(x.log_weights))
        for m, x in ((filtering, filtered), (model, plain))
    ]
    bounds, weights, filtered, plain = run([bounds, weights, filtered, plain])
    np.testing.assert_allclose(*bounds, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(*weights, rtol=1e-2, atol=1e-4)
    assert plain.steps.latents.presence.any() and not plain.steps.latents.presence.all()
    pairs = zip(
        tf.nest.flatten(filtered._replace(log_weights=0)), tf.nest.flatten(plain._replace(log_weights=0))
    )
    for actual, expected in pairs:
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, below",
    [
        (dict(compact=False, prop_prior_type="rw"), 0.5),
        pytest.param({}, 2.0, marks=pytest.mark.slow),
    ],
    ids=["rw dense", "rnn"],
)
def test_a_history_is_what_the_model_makes_of_its_noise(arguments, below, monkeypatch):
    """States, scores and what is drawn are resampled together, or a history would be none."""
    model, parents = make(**arguments), []
    filtering = filtered_sqair.FilteredSQAIR(model, below)
    images, noise = inputs(filtering)
    lineages = fivo.lineages
    monkeypatch.setattr(fivo, "lineages", lambda x: lineages(parents.append(x) or x))
    filtered = filtering(images, constants(noise))
    lineage = lineages(parents[0])
    filtered, parents, lineage = run([filtered, parents[0], lineage])
    t, b = np.ogrid[:T, :B]
    history = tf.nest.map_structure(lambda x: x[t[..., None], b[..., None], lineage], noise.objects)
    plain = run(model(images, constants(history)))
    pairs = zip(
        tf.nest.flatten(filtered._replace(log_weights=0)), tf.nest.flatten(plain._replace(log_weights=0))
    )
    for actual, expected in pairs:
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    resampled = np.any(parents != np.arange(K), axis=-1)
    assert resampled.any() and np.unique(lineage[0]).size < K
    if below < 1:
        return
    found = filtered.log_weights.reshape(T, B, K)[t[..., None], b[..., None], lineage]
    np.testing.assert_allclose(found, plain.log_weights.reshape(T, B, K), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("compact, streams", [(True, STREAMS), (False, 1)])
def test_it_takes_the_streams_of_its_model(compact, streams, monkeypatch):
    filtering, seen = filtered_sqair.FilteredSQAIR(make(compact=compact)), []
    monkeypatch.setattr(filtered_sqair, "unroll", lambda *x: seen.append(x[3]) or unroll(*x))
    images, noise = inputs(filtering)
    filtering(images[:1], tf.nest.map_structure(lambda x: tf.constant(x[:1]), noise))
    assert seen == [streams]


def test_a_sqair_is_filtered_and_nothing_else():
    model = make()
    found = filtered_sqair.filtered(model, "fivo")
    assert (
        isinstance(found, filtered_sqair.FilteredSQAIR) and found.n_steps == N and found.bound.name == "fivo"
    )
    for other, bound in ((StubModel(), "fivo"), (model, "iwae")):
        with pytest.raises(
            UserError, match=f"`bound={bound}` is refused: this model is evaluated by .* alone"
        ):
            filtered_sqair.filtered(other, bound)
