# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole model: lengths, batches and particles, compact and dense, ids, sizes, the list of variables."""

import collections
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tf_run import run

from sqair.data.pipeline import SequenceBatch
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.model import noise
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise
from sqair.training import objective
from sqair.verification.reference_names import reference_to_ours

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")
SHAPE, K, N, Z, G = (10, 12, 1), 2, 2, 4, 5
SIZES = dict(n_steps_per_image=N, n_what=Z, n_units=1, glimpse_size=G, output_std=1.0)
BIASES = dict(disc_step_bias=0.5, prop_step_bias=1.0, transform_var_bias=-1.0)


class Models:
    """A compact model and a dense one in a graph with unknown T and B, with the same random parameters."""

    def __init__(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.images = tf.placeholder(tf.float32, (None, None) + SHAPE)
            self.presence = tf.placeholder(tf.float32, [None, None, 2])
            fields = [tf.placeholder(tf.float32, [None, None, K, N] + last) for last in ([Z], [4], []) * 2]
            self.noise = FrameNoise(StepNoise(*fields[:3]), StepNoise(*fields[3:]))
            batch = SequenceBatch(self.images, None, self.presence, None, None)
            self.results, self.gradients = [], []
            variables = []
            for compact in (True, False):
                model = mlp_sqair(np.full(SHAPE, 0.1, np.float32), compact=compact, **SIZES, **BIASES)
                self.results.append(objective.loss_and_report(model, batch, K, self.noise))
                variables.append([v for v in tf.trainable_variables() if v not in sum(variables, [])])
            self.variables, others = variables
            for result, of_model in zip(self.results, variables):
                gradients = tf.gradients(result.loss, of_model)
                self.gradients.append([tf.convert_to_tensor(g) for g in gradients])
            self.session = tf.Session(config=session_config(1))
            self.session.run(tf.global_variables_initializer())
            rng = np.random.RandomState(0)
            feed = {}
            for v, other, value in zip(self.variables, others, self.session.run(self.variables)):
                value = value + 0.1 * rng.normal(size=value.shape)
                feed.update({v.initial_value: value, other.initial_value: value})
            self.session.run([v.initializer for v in self.variables + others], feed)

    def __call__(self, fetches, inputs):
        images, presence, drawn = inputs
        feed = {self.images: images, self.presence: presence}
        feed.update(zip(tf.nest.flatten(self.noise), tf.nest.flatten(drawn)))
        return self.session.run(fetches, feed)


@pytest.fixture(scope="module")
def models():
    built = Models()
    yield built
    built.session.close()


@pytest.fixture(scope="module")
def inputs():
    """Images, true presence and noise of 7 frames and 3 sequences."""
    rng = np.random.RandomState(2)
    slots = (7, 3, K, N)

    def draw():
        return StepNoise(
            rng.normal(size=slots + (Z,)), rng.normal(size=slots + (4,)), rng.uniform(size=slots)
        )

    return rng.uniform(size=(7, 3) + SHAPE), rng.randint(2, size=(7, 3, 2)), FrameNoise(draw(), draw())


@pytest.fixture(scope="module")
def outputs(models, inputs):
    """Of the compact model on everything."""
    return models(models.results[0].outputs, inputs)


def cut(inputs, *index):
    return tf.nest.map_structure(lambda x: x[index], inputs)


def assert_close(actual, expected, tolerance):
    """Relative to each array's largest magnitude. Rounding differs with the rows of a product and with the machine."""
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        assert a.shape == e.shape
        assert np.max(np.abs(a - e), initial=0) <= tolerance * max(np.max(np.abs(e), initial=0), 1e-3)


# Shapes and independence


def test_this_case_is_not_trivial(outputs):
    """Some objects are there and some are not, some vanish, some are propagated, some are dropped."""
    steps = outputs.steps
    presence, kept = steps.latents.presence, steps.propagation.presence
    assert 0.2 < presence.mean() < 0.9
    assert kept[1:].sum() < presence[:-1].sum()
    assert kept.sum() > 10
    assert (kept.sum(-1) + steps.discovery.presence.sum(-1)).max() > N


@pytest.mark.parametrize("seq_len", [1, 3, 7])
def test_one_graph_takes_any_length(models, inputs, outputs, seq_len):
    """And what comes later does not change what came before."""
    actual = models(models.results[0].outputs, cut(inputs, slice(seq_len)))
    rows = 3 * K
    assert actual.canvas.shape == (seq_len, rows) + SHAPE
    assert actual.glimpses.shape == (seq_len, rows, N, G, G, 1)
    assert actual.log_weights.shape == actual.log_likelihood.shape == (seq_len, rows)
    assert actual.steps.latents.what.shape == (seq_len, rows, N, Z)
    assert actual.steps.latents.where.shape == (seq_len, rows, N, 4)
    assert actual.steps.object_ids.shape == (seq_len, rows, N)
    assert actual.steps.discovery.prob.shape == (seq_len, rows, N + 1)
    assert_close(actual, tf.nest.map_structure(lambda x: x[:seq_len], outputs), 1e-4)


def test_sequences_do_not_see_each_other(models, inputs, outputs):
    """One graph takes any batch size, too; rows are in the order b * K + k."""
    for b in range(3):
        actual = models(models.results[0].outputs, cut(inputs, slice(None), slice(b, b + 1)))
        expected = tf.nest.map_structure(lambda x, b=b: x[:, b * K : (b + 1) * K], outputs)
        assert_close(actual, expected, 1e-4)


def test_particles_differ_by_their_noise_alone(models, inputs, outputs):
    images, presence, drawn = inputs
    swapped = tf.nest.map_structure(lambda x: x[:, :, ::-1], drawn)
    actual = models(models.results[0].outputs, (images, presence, swapped))
    rows = [b * K + k for b in range(3) for k in (1, 0)]
    assert_close(actual, tf.nest.map_structure(lambda x: x[:, rows], outputs), 1e-4)


def test_compact_and_dense_models_are_the_same(models, inputs):
    (compact, dense), (gradients, dense_gradients) = models((models.results, models.gradients), inputs)
    assert_close(dense.outputs, compact.outputs, 1e-4)
    assert_close(dense.loss, compact.loss, 1e-5)
    assert_close(dict(dense.scalars), dict(compact.scalars), 1e-4)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    assert norm > 1
    for variable, actual, expected in zip(models.variables, dense_gradients, gradients):
        scale = max(np.linalg.norm(expected), 1e-2 * norm)  # sums of many terms may cancel
        assert np.linalg.norm(actual - expected) < 1e-4 * scale, variable.op.name


def test_two_halves_of_a_batch_are_the_same_as_one_whole(inputs):
    """A batch of known even size is unrolled in two parts, one of unknown size in one."""
    images, _, drawn = cut(inputs, slice(None), [0, 1, 2, 0])
    model = mlp_sqair(np.full(SHAPE, 0.1, np.float32), **SIZES, **BIASES)
    results = []
    for batch_size in (4, None):
        shapes = [[None, batch_size] + list(x.shape[2:]) for x in tf.nest.flatten((images, drawn))]
        fed = [
            tf.placeholder_with_default(x.astype(np.float32), shape)
            for x, shape in zip(tf.nest.flatten((images, drawn)), shapes)
        ]
        outputs = model(*tf.nest.pack_sequence_as((images, drawn), fed))
        loss = tf.reduce_sum(outputs.log_weights)
        results.append((outputs, tf.gradients(loss, tf.trainable_variables())))
    (outputs, gradients), (expected, expected_gradients) = run(results)
    assert_close(outputs, expected, 1e-4)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in expected_gradients))
    for actual, gradient in zip(gradients, expected_gradients):
        assert np.linalg.norm(actual - gradient) < 1e-4 * max(np.linalg.norm(gradient), 1e-2 * norm)


def test_every_variable_has_a_gradient(models, inputs):
    for variable, gradient in zip(models.variables, models(models.gradients[0], inputs)):
        assert np.all(np.isfinite(gradient)), variable.op.name
        assert np.any(gradient), variable.op.name


# What the outputs say


def test_present_objects_come_first_and_have_ids(outputs):
    presence, ids = outputs.steps.latents.presence, outputs.steps.object_ids
    assert set(np.unique(presence)) == {0, 1}
    assert np.all(np.diff(presence, axis=-1) <= 0)
    np.testing.assert_array_equal(ids >= 0, presence == 1)
    assert np.all(ids[presence == 0] == -1)
    np.testing.assert_array_equal(ids, np.round(ids))


def test_ids_are_unique_in_a_row_and_stable_over_time(outputs):
    """Objects that stay keep id and order, new ones count on from every id that was ever given in the row."""
    steps, most = outputs.steps, 0
    for row in range(3 * K):
        given, before = 0, []
        for t in range(7):
            now = [i for i in steps.object_ids[t, row] if i >= 0]
            assert len(set(now)) == len(now)
            # the slots that propagation kept, by the ids they had
            stay = [i for i, kept in zip(before, steps.propagation.presence[t, row]) if kept]
            new = [given + n for n in range(int(steps.discovery.presence[t, row].sum()))]
            assert now == (stay + new)[:N]
            given, before = given + len(new), now
        most = max(most, given)
    assert most > N + 1


def test_nothing_propagates_into_the_first_frame(outputs):
    first = tf.nest.map_structure(lambda x: x[0], outputs.steps.propagation)
    for value in tf.nest.flatten(first):
        assert not value.any()


def test_log_weights_are_likelihood_and_prior_less_posterior(outputs):
    steps = outputs.steps
    np.testing.assert_allclose(
        outputs.log_weights, outputs.log_likelihood + steps.log_p - steps.log_q, rtol=1e-5
    )
    for kind in (steps.propagation, steps.discovery):
        for log_probs in (kind.log_q, kind.log_p):
            assert not log_probs.what[kind.presence == 0].any()
            assert not log_probs.where[kind.presence == 0].any()
    for total, name in ((steps.log_q, "log_q"), (steps.log_p, "log_p")):
        parts = [getattr(kind, name) for kind in (steps.propagation, steps.discovery)]
        expected = sum((p.what + p.where).sum(-1) + p.presence for p in parts)
        np.testing.assert_allclose(total, expected, rtol=1e-4)
    discrete = steps.propagation.log_q.presence + steps.discovery.log_q.presence
    np.testing.assert_allclose(steps.discrete_log_q, discrete, rtol=1e-5)
    np.testing.assert_allclose(steps.discovery.prob.sum(-1), 1, atol=1e-5)


def test_an_empty_canvas_has_nothing_but_zeros(outputs):
    """Without objects the canvas is the mask's floor times the background."""
    empty = outputs.steps.latents.presence.sum(-1) == 0
    assert empty.any()
    assert np.abs(outputs.canvas[empty]).max() < 1e-3
    assert not outputs.glimpses[outputs.steps.latents.presence == 0].any()


# One particle, colours, tracking without noise, checks


def test_tracking_without_noise_with_one_particle_in_colour():
    shape = (8, 9, 3)
    images = tf.placeholder(tf.float32, (None, 2) + shape)
    model = mlp_sqair(np.zeros(shape, np.float32), debug=True, **SIZES)
    drawn = noise.mode(tf.shape(images)[0], 2, 1, N, Z)
    outputs = model(images, drawn)
    values = np.random.RandomState(0).uniform(size=(3, 2) + shape)
    with tf.Session(config=session_config(1)) as session:
        session.run(tf.global_variables_initializer())
        first, second = [session.run(outputs, {images: values}) for _ in range(2)]
        values[1, 0, 0, 0, 0] = np.nan
        with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
            session.run(outputs, {images: values})
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second)):
        np.testing.assert_array_equal(a, b)
    assert first.canvas.shape == (3, 2) + shape
    latents, posterior = first.steps.latents, first.steps.posterior
    present = latents.presence == 1
    assert present.any()
    np.testing.assert_array_equal(latents.what[present], posterior.what_loc[present])
    np.testing.assert_array_equal(latents.where[present], posterior.where_loc[present])
    assert np.all(posterior.presence_prob[present] > 0.5)


@pytest.mark.parametrize(
    "flag", ["transition", "time_transition", "prior_transition", "prop_prior_type", "disc_prior_type"]
)
def test_unknown_kinds_are_refused_with_the_name_of_the_flag(flag):
    with pytest.raises(UserError, match="--{}=LSTM is not known".format(flag)):
        mlp_sqair(np.zeros(SHAPE, np.float32), **{flag: "LSTM"})


# The default sizes


@pytest.fixture(scope="module")
def default_variables():
    """name -> (shape, trained) of the default model."""
    with tf.Graph().as_default():
        model = mlp_sqair(np.zeros((50, 50, 1), np.float32))
        model(tf.zeros([1, 1, 50, 50, 1]), noise.mode(1, 1, 1, model.n_steps, model.n_what))
        trained = tf.trainable_variables()
        return {v.op.name: (v.shape.as_list(), v in trained) for v in tf.global_variables()}


def test_number_of_parameters(default_variables):
    """That of the published checkpoint, part by part."""
    sizes = collections.Counter()
    for reference, ours in reference_to_ours().items():
        shape, trained = default_variables[ours]
        sizes[reference.split("/")[0]] += int(np.prod(shape)) * trained
    assert sizes == dict(decoder=184149, discovery=1403398, propagation=1283583, sequence=80384, model=8)
    assert sum(sizes.values()) == 2951522


def test_variable_names_are_the_format_of_checkpoints(default_variables):
    """A change of this list makes the checkpoints of earlier versions unreadable."""
    lines = []
    for name, (shape, trained) in sorted(default_variables.items()):
        size = "x".join(map(str, shape)) or "scalar"
        lines.append("{} {} {}".format(name, size, "trainable" if trained else "fixed"))
    with open(os.path.join(GOLDEN, "variables.txt")) as file:
        assert file.read().splitlines() == lines


def test_the_scales_of_noise_start_as_the_flags_say():
    flags = dict(SIZES, output_std=0.49, output_scale=0.75, n_steps_per_image=1)
    mean_image = np.random.RandomState(0).uniform(size=SHAPE).astype(np.float32)
    model = mlp_sqair(mean_image, scale_prior=(-1.0, -3.0), **flags)
    model(tf.zeros((1, 1) + SHAPE), noise.mode(1, 1, 1, 1, Z))
    values = {v.op.name.split("/", 1)[1]: v for v in tf.global_variables()}
    values = run(values)
    np.testing.assert_array_equal(values["decoder/mean_image"], mean_image)
    np.testing.assert_allclose(values["decoder/output_std_root"] ** 2, 0.49, rtol=1e-6)
    np.testing.assert_allclose(values["decoder/background_std_root"] ** 2, 0.49, rtol=1e-6)
    np.testing.assert_allclose(values["decoder/output_scale"], 0.75)
    bias = [value for name, value in values.items() if name.endswith("autoregressive_normal/readout/b")]
    np.testing.assert_array_equal(bias, [[-1, -3, 0, 0, 1, 1, 1, 1]])
    for name, expected in {
        "discovery_core/presence/output/b": 1.0,
        "propagation_core/presence/output/b": 5.0,
        "discovery_core/where_statistics/scale_offset": -3.0,
        "propagation_core/where_statistics/scale_offset": -3.0,
        "propagation_core/where_update_scale": 1.0,
        "glimpse_encoder/mask/output/b": 1.0,
        "propagation_core/what_gates/b": 1.0,
        "glimpse_encoder/min_scale": 0.01,
        "propagation_core/what_min_scale": 0.01,
        "discovery/start": 0.0,
        "propagation/start": 0.0,
        "sqair_cell/temporal_start": 0.0,
        "sqair_cell/prior_start": 0.0,
        "discovery_prior/count_bias": 0.0,
    }.items():
        np.testing.assert_array_equal(values[name], np.full_like(values[name], expected), err_msg=name)
    np.testing.assert_array_equal(values["discovery_prior/count_later_bias"], [10, 0])
