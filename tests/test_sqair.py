# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole model: lengths, batches and particles, compact and dense, ids, sizes, the list of variables."""

import collections
import os

import numpy as np
import pytest
from tf_run import run

from sqair.engine.initial_values import keyed_by_name
from sqair.engine.lean_graph import LeanGraph
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model import noise
from sqair.model.decoder import MASK_OFFSET
from sqair.model.sqair import SQAIR, mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise
from sqair.verification.reference_names import reference_to_ours

GOLDEN = os.path.join(os.path.dirname(__file__), "golden")
SHAPE, K, N, Z, G = (10, 12, 1), 2, 2, 4, 5
SIZES = dict(n_steps_per_image=N, n_what=Z, n_units=1, glimpse_size=G, output_std=1.0)
BIASES = dict(disc_step_bias=0.5, prop_step_bias=1.0, transform_var_bias=-1.0)
WANTED = noise.of_objects(N, Z)

SEED = 1


class Models:
    """A compact model and a dense one in a graph with unknown T and B, with the same random parameters."""

    def __init__(self):
        with LeanGraph().as_default(), keyed_by_name():
            tf.set_random_seed(SEED)
            self.images = tf.placeholder(tf.float32, (None, None) + SHAPE)
            fields = [tf.placeholder(tf.float32, [None, None, K, N] + last) for last in ([Z], [4], []) * 2]
            self.noise = FrameNoise(StepNoise(*fields[:3]), StepNoise(*fields[3:]))
            self.outputs, self.gradients, self.image_gradients, variables = [], [], [], []
            for compact in (True, False):
                model = mlp_sqair(np.full(SHAPE, 0.1, np.float32), compact=compact, **SIZES, **BIASES)
                self.outputs.append(model(self.images, self.noise))
                variables.append([v for v in tf.trainable_variables() if v not in sum(variables, [])])
                total = tf.reduce_sum(self.outputs[-1].log_weights)
                *gradients, to_images = tf.gradients(total, variables[-1] + [self.images])
                self.gradients.append([tf.convert_to_tensor(g) for g in gradients])
                self.image_gradients.append(to_images)
            self.variables, others = variables
            self.session = tf.Session(config=session_config(1))
            self.session.run(tf.global_variables_initializer())
            rng = np.random.RandomState(0)
            self.values = [
                value + 0.1 * rng.normal(size=value.shape) for value in self.session.run(self.variables)
            ]
            for group in variables:
                feed = {v.initial_value: value for v, value in zip(group, self.values)}
                self.session.run([v.initializer for v in group], feed)

    def __call__(self, fetches, inputs):
        feed = dict(zip(tf.nest.flatten((self.images, self.noise)), tf.nest.flatten(inputs)))
        return self.session.run(fetches, feed)

    def value(self, name):
        """Of a variable of the compact model."""
        (value,) = [value for v, value in zip(self.variables, self.values) if v.op.name == name]
        return value


@pytest.fixture(scope="module")
def models():
    built = Models()
    yield built
    built.session.close()


@pytest.fixture(scope="module")
def inputs():
    """Images and noise of 7 frames and 3 sequences."""
    rng = np.random.RandomState(2)
    slots = (7, 3, K, N)

    def draw():
        return StepNoise(
            rng.normal(size=slots + (Z,)), rng.normal(size=slots + (4,)), rng.uniform(size=slots)
        )

    return rng.uniform(size=(7, 3) + SHAPE), FrameNoise(draw(), draw())


@pytest.fixture(scope="module")
def outputs(models, inputs):
    """Of the compact model on everything."""
    return models(models.outputs[0], inputs)


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
    actual = models(models.outputs[0], cut(inputs, slice(seq_len)))
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
        actual = models(models.outputs[0], cut(inputs, slice(None), slice(b, b + 1)))
        expected = tf.nest.map_structure(lambda x, b=b: x[:, b * K : (b + 1) * K], outputs)
        assert_close(actual, expected, 1e-4)


def test_particles_differ_by_their_noise_alone(models, inputs, outputs):
    images, drawn = inputs
    swapped = tf.nest.map_structure(lambda x: x[:, :, ::-1], drawn)
    actual = models(models.outputs[0], (images, swapped))
    rows = [b * K + k for b in range(3) for k in (1, 0)]
    assert_close(actual, tf.nest.map_structure(lambda x: x[:, rows], outputs), 1e-4)


def assert_gradients_close(actual, expected, names):
    """Relative to each gradient's norm, or to a hundredth of all: sums of many terms may cancel."""
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in expected))
    assert norm > 1
    for a, e, name in zip(actual, expected, names):
        assert np.linalg.norm(a - e) < 1e-4 * max(np.linalg.norm(e), 1e-2 * norm), name


def test_compact_and_dense_models_are_the_same(models, inputs):
    compact, dense = models(models.outputs, inputs)
    assert_close(dense, compact, 1e-4)


def test_gradients_of_compact_and_dense_models_are_the_same(models, inputs):
    fetches = models.gradients, models.image_gradients
    (compact, dense), (to_images, dense_to_images) = models(fetches, inputs)
    assert_gradients_close(dense, compact, [v.op.name for v in models.variables])
    assert_close(dense_to_images, to_images, 1e-4)


def waves(seq_len, batch_size, seed):
    """`[T, B, H, W, C]` in [-1, 1], each image another plane wave."""
    rng = np.random.RandomState(seed)
    y, x = np.ogrid[:10, :12]
    by_y, by_x, phase = rng.uniform([[-0.5], [-0.5], [0.0]], [[0.5], [0.5], [6.0]], (3, seq_len * batch_size))
    images = [np.sin(a * y + b * x + c) for a, b, c in zip(by_y, by_x, phase)]
    return np.reshape(images, (seq_len, batch_size) + SHAPE)


@pytest.mark.parametrize("direction", [0, 1])
def test_gradients_to_images_against_central_differences(models, inputs, direction):
    """Images are smooth and presence is fixed by its noise: there is hardly a kink, and no draw at a boundary."""
    seq_len, batch_size = 3, 2
    drawn = [step._replace(presence=np.round(step.presence)) for step in inputs[1]]
    drawn = cut(FrameNoise(*drawn), slice(seq_len), slice(batch_size))
    images, towards = 0.5 + 0.4 * waves(seq_len, batch_size, 0), waves(seq_len, batch_size, 1 + direction)
    gradient, step = models(models.image_gradients[0], (images, drawn)), 1e-3
    ahead, behind = [
        models(models.outputs[0].log_weights, (images + sign * step * towards, drawn)).astype(np.float64)
        for sign in (1, -1)
    ]
    expected = (ahead - behind).sum() / (2 * step)
    assert abs(expected) > 5
    np.testing.assert_allclose(np.sum(gradient * towards), expected, rtol=2e-2)


class Halves:
    """A batch of four sequences, known when the graph is built, unrolled in two parts."""

    def __init__(self, models, inputs):
        self.inputs = cut(inputs, slice(None), [0, 1, 2, 0])
        with LeanGraph().as_default():
            fed = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, (None, 4) + x.shape[2:]), self.inputs
            )
            model = mlp_sqair(np.full(SHAPE, 0.1, np.float32), **SIZES, **BIASES)
            start, self.rows = model.cell.initial_state, []
            model.cell.initial_state = lambda rows: self.rows.append(rows) or start(rows)
            self.outputs = model(*fed)
            self.variables = {v.op.name: v for v in tf.trainable_variables()}
            self.session = tf.Session(config=session_config(1))
            self.session.run(tf.global_variables_initializer())
        self.feed = dict(zip(tf.nest.flatten(fed), tf.nest.flatten(self.inputs)))
        self.feed.update({self.variables[v.op.name]: x for v, x in zip(models.variables, models.values)})

    def __call__(self, fetches):
        return self.session.run(fetches, self.feed)


@pytest.fixture(scope="module")
def halves(models, inputs):
    built = Halves(models, inputs)
    yield built
    built.session.close()


def test_two_halves_of_a_batch_are_the_same_as_one_whole(models, halves):
    """A batch of known even size is unrolled in two parts, one of unknown size in one."""
    assert halves.rows == [2 * K]
    assert_close(halves(halves.outputs), models(models.outputs[0], halves.inputs), 1e-4)


@pytest.mark.slow
def test_gradients_of_two_halves_are_the_same_as_of_one_whole(models, halves):
    names = [v.op.name for v in models.variables]
    with halves.session.graph.as_default():
        total = tf.reduce_sum(halves.outputs.log_weights)
        gradients = tf.gradients(total, [halves.variables[name] for name in names])
    assert_gradients_close(halves(gradients), models(models.gradients[0], halves.inputs), names)


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


def test_without_objects_the_canvas_is_the_background_at_the_floor_of_the_mask(models, outputs):
    empty = outputs.steps.latents.presence.sum(-1) == 0
    assert empty.any()
    canvases = outputs.canvas[empty]
    floor = 1 / (1 + np.exp(MASK_OFFSET))
    expected = np.broadcast_to(floor * models.value("sqair/decoder/mean_image"), canvases.shape)
    np.testing.assert_allclose(canvases, expected, rtol=2e-3)  # of TensorFlow's sigmoid


def test_absent_objects_have_empty_glimpses(outputs):
    assert outputs.glimpses[outputs.steps.latents.presence == 1].any()
    assert not outputs.glimpses[outputs.steps.latents.presence == 0].any()


# Networks that are passed in


def linear(weights, shape):
    """A network without variables: `[m, ...]` to `[m] + shape`; `calls` holds the shapes of what it is given."""

    def network(inputs):
        network.calls.append(inputs.shape.as_list()[1:])
        flat = tf.reshape(inputs, [-1, weights.shape[0]])
        return tf.reshape(tf.matmul(flat, tf.constant(weights, tf.float32)), [-1] + shape)

    network.calls = []
    return network


def test_encoders_and_decoder_are_those_that_are_passed_in():
    """They own whatever variables they have, see images, glimpses and appearances, and draw what is on the canvas."""
    rng = np.random.RandomState(0)
    pixels, channels, features = 10 * 12 * 2, 2, 7
    image_encoder = linear(0.1 * rng.normal(size=(pixels, 32)), [32])
    glimpse_encoder = linear(0.1 * rng.normal(size=(G * G * channels, features)), [features])
    weights = rng.normal(size=(Z, G * G * channels))
    glimpse_decoder = linear(weights, [G, G, channels])
    networks = image_encoder, glimpse_encoder, glimpse_decoder
    model = SQAIR(np.zeros((10, 12, channels), np.float32), *networks, **SIZES, output_scale=0.5)
    outputs = model(tf.fill((1, 2, 10, 12, channels), 0.5), noise.mode(1, 2, 1, WANTED))
    glimpses, latents = run([outputs.glimpses, outputs.steps.latents])
    assert latents.presence.any()
    assert {v.op.name.split("/")[0] for v in tf.global_variables()} == {"sqair"}
    assert image_encoder.calls == [[10, 12, channels]]
    assert set(map(tuple, glimpse_encoder.calls)) == {(G, G, channels)}
    assert set(map(tuple, glimpse_decoder.calls)) == {(Z,)}
    expected = 0.5 * latents.what.dot(weights).reshape(glimpses.shape)
    np.testing.assert_allclose(
        glimpses, latents.presence[..., None, None, None] * expected, rtol=1e-4, atol=1e-5
    )


def test_what_does_not_fit_is_refused_by_its_name():
    images, drawn = tf.zeros((1, 1) + SHAPE), noise.mode(1, 1, 1, WANTED)
    encoder, decoder = linear(np.zeros((120, 16)), [16]), linear(np.zeros((Z, G * G)), [G, G, 1])
    model = SQAIR(np.zeros(SHAPE, np.float32), encoder, encoder, decoder, **SIZES)
    with pytest.raises(
        ValueError, match=r"what image_encoder returns must have shape \[None, 32\], not .*16"
    ):
        model(images, drawn)
    with pytest.raises(ValueError, match="images must have shape"):
        model(images[:, :, 1:], drawn)
    with pytest.raises(ValueError, match="noise of propagation_what must have shape"):
        model(images, noise.mode(1, 1, 1, noise.of_objects(N + 1, Z)))
    with pytest.raises(ValueError, match="noise of discovery_where must have shape"):
        model(images, drawn._replace(discovery=drawn.discovery._replace(where=drawn.discovery.what[..., :3])))
    with pytest.raises(ValueError, match="noise of propagation_what must have shape"):
        model(images, noise.mode(2, 1, 1, WANTED))


# One particle, colours, tracking without noise, checks


def test_tracking_without_noise_with_one_particle_in_colour():
    shape = (8, 9, 3)
    images = tf.placeholder(tf.float32, (None, 2) + shape)
    model = mlp_sqair(np.zeros(shape, np.float32), debug=True, **SIZES)
    drawn = noise.mode(tf.shape(images)[0], 2, 1, WANTED)
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
    "argument", ["transition", "time_transition", "prior_transition", "prop_prior_type", "disc_prior_type"]
)
def test_unknown_kinds_are_refused_with_the_name_of_the_argument(argument):
    with pytest.raises(UserError, match=f"^`{argument}=LSTM` is not known"):
        mlp_sqair(np.zeros(SHAPE, np.float32), **{argument: "LSTM"})


# The default sizes


@pytest.fixture(scope="module")
def default_variables():
    """name -> (shape, trained) of the default model."""
    with tf.Graph().as_default():
        model = mlp_sqair(np.zeros((50, 50, 1), np.float32))
        model(tf.zeros([1, 1, 50, 50, 1]), noise.mode(1, 1, 1, model.noise))
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
    model(tf.zeros((1, 1) + SHAPE), noise.mode(1, 1, 1, model.noise))
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
