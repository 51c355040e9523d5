# SPDX-License-Identifier: GPL-3.0-or-later
"""AIR is SQAIR's first frame, in every frame, and frames do not know each other."""

import re

import numpy as np
import pytest
import reference
import reference_cases
from mutated_module import mutated
from reference_inputs import draw_noise, moving_blobs

from sqair.baselines import air
from sqair.baselines.air import AIR, mlp_air
from sqair.engine.initial_values import keyed_by_name
from sqair.errors import UserError
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise
from sqair.verification.reference_names import reference_to_ours

T, B, K, IMAGE = 3, 2, 3, (17, 22)
FLAGS = dict(reference_cases.DEFAULT_FLAGS, T=T, batch_size=B, k_particles=K)
NAMES = "n_steps_per_image n_what n_units glimpse_size transition output_std output_scale transform_var_bias "
NAMES += "disc_step_bias disc_prior_type step_success_prob rec_where_prior"
OTHERS = dict(disc_prior_type="geom", rec_where_prior=False, n_steps_per_image=4, n_what=3, glimpse_size=6)
CHECKED = "log_weights log_likelihood canvas glimpses"


class Graph:
    """Models in one graph, fed the same images and noise of discovery, with the oracle's parameters."""

    def __init__(self, flags, makers, gradients=False):
        """Args: flags: dict; makers: functions that make AIR or SQAIR; gradients: of each model, too?"""
        arguments = {name: flags[name] for name in NAMES.split()}
        self.outputs, self.gradients = [], []
        with tf.Graph().as_default(), keyed_by_name():
            shape = [None, None, K, flags["n_steps_per_image"]]
            self.images = tf.placeholder(tf.float32, [None, None, *IMAGE, 1])
            self.noise = StepNoise(
                *(tf.placeholder(tf.float32, shape + last) for last in ([flags["n_what"]], [4], []))
            )
            for make in makers:
                before = tf.global_variables()
                model = make(np.zeros((*IMAGE, 1), np.float32), scale_prior=(-2.0, -2.0), **arguments)
                noise = self.noise
                if len(model.noise) == 2:  # of SQAIR: for what is propagated, which nothing is
                    noise = FrameNoise(tf.nest.map_structure(lambda x: x + 0.7, noise), noise)
                self.outputs.append(model(self.images, noise))
                names = {v: name_of(v) for v in tf.global_variables() if v not in before}
                if gradients:
                    self.gradients.append(_gradients(self.outputs[-1], names))
            self.session = tf.Session(config=session_config(1))
            theirs = reference_to_ours(
                rec_where_prior=flags["rec_where_prior"], disc_prior_type=flags["disc_prior_type"]
            )
            ours = {our: name for name, our in theirs.items()}
            params = reference_cases.init_params(flags, IMAGE)
            feed = {v.initializer.inputs[1]: params[ours[name_of(v)]] for v in tf.global_variables()}
            self.session.run([v.initializer for v in tf.global_variables()], feed)

    def __call__(self, fetches, images, noise):
        return self.session.run(fetches, dict(zip([self.images, *self.noise], [images, *noise])))


def name_of(variable):
    """SQAIR's name of a variable: AIR has the same but for its own, and a second of a kind counts on."""
    name = re.sub(r"^(\w*(?:air|encoder|decoder))_\d/", r"\1/", variable.op.name)
    return re.sub(r"^air/", "sqair/", name)


def _gradients(outputs, names):
    """Dict of name -> gradient, of variables that have one."""
    total = tf.reduce_sum(outputs.log_weights * 0.01 + outputs.steps.discrete_log_q)
    trainable = [v for v in tf.trainable_variables() if v in names]
    found = zip(trainable, tf.gradients(total, trainable))
    return {names[v]: tf.convert_to_tensor(gradient) for v, gradient in found if gradient is not None}


class Case:
    """AIR and SQAIR, what they are fed, and what they make of it."""

    def __init__(self, flags, *makers):
        self.flags = flags
        self.graph = Graph(flags, [*makers, mlp_sqair], gradients=True)
        rng = np.random.RandomState(3)
        self.fed = dict(moving_blobs(T, B, IMAGE, rng), **draw_noise(flags, rng))
        self.images = self.fed["imgs"][..., None] / np.float32(255)
        drawn = [self.fed[f"{kind}_disc"] for kind in ("eps_what", "eps_where", "u_presence")]
        self.noise = [x.reshape(T, B, K, *x.shape[2:]) for x in drawn]
        one_frame = [x.reshape(1, T * B, *x.shape[2:]) for x in (self.images, *self.noise)]
        self.one_frame = one_frame[0], one_frame[1:]  # frames as sequences of one frame
        fetches = self.graph.outputs, self.graph.gradients
        (*self.of_air, self.of_sqair), self.gradients = self.graph(fetches, *self.one_frame)
        self.outputs = self.graph(self.graph.outputs[0], self.images, self.noise)


@pytest.fixture(scope="module", params=["as it is", pytest.param("other options", marks=pytest.mark.slow)])
def case(request):
    if request.param == "as it is":
        built = Case(FLAGS, mlp_air)
    else:
        dense = lambda *arguments, **options: mlp_air(*arguments, compact=False, **options)  # noqa: E731
        built = Case(dict(FLAGS, **OTHERS), mlp_air, dense)
    yield built
    built.graph.session.close()


def assert_close(actual, expected, tolerance=1e-4):
    """Relative to each array's largest magnitude."""
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        assert a.shape == e.shape
        assert np.max(np.abs(a - e), initial=0) <= tolerance * max(np.max(np.abs(e), initial=0), 1e-2)


def test_it_is_the_first_frame_of_sqair(case):
    """Every number of it: log-weights, latents, posterior, probabilities, ids, canvas, glimpses."""
    counts = case.of_sqair.steps.latents.presence.sum(-1)
    assert len(set(counts.ravel())) > 1
    for found in case.of_air:
        assert_close(found, case.of_sqair)


def test_its_gradients_are_those_of_the_first_frame_of_sqair(case):
    *of_air, of_sqair = case.gradients
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in of_sqair.values()))
    assert norm > 0.1
    for found in of_air:
        assert len(found) > 20 and set(found) <= set(of_sqair)
        for name, gradient in of_sqair.items():
            if name in found:
                wrong = np.linalg.norm(found[name] - gradient)
                assert wrong < 1e-4 * max(np.linalg.norm(gradient), 1e-2 * norm), name
            else:
                assert not gradient.any(), name


def test_frames_against_the_oracle(case):
    """Each frame by itself, as the first one of a sequence."""
    outputs, steps = case.outputs, case.outputs.steps
    params, flags = reference_cases.init_params(case.flags, IMAGE), dict(case.flags, T=1)
    present = steps.latents.presence[..., None]
    for t in range(T):
        frame = {name: x if name in ("nums", "mean_img") else x[t : t + 1] for name, x in case.fed.items()}
        wanted, _ = reference.run(flags, params, frame, gradients=False)
        wanted = {name: x[0] for name, x in wanted.items() if np.ndim(x) and len(x) == 1}
        for name in ("what", "where"):  # the oracle leaves absent slots as they come
            wanted[name] = present[t] * wanted[name]
        for name, found in (
            ("log_weights_per_timestep", outputs.log_weights),
            ("data_ll_per_sample", outputs.log_likelihood),
            ("canvas", outputs.canvas[..., 0]),
            ("discrete_log_prob", steps.discrete_log_q),
            ("log_p_z_per_sample", steps.log_p),
            ("presence", steps.latents.presence),
            ("what", steps.latents.what),
            ("where", steps.latents.where),
            ("obj_id", steps.object_ids),
            ("presence_prob", steps.posterior.presence_prob),
            ("disc_prob", steps.discovery.prob),
        ):
            np.testing.assert_allclose(found[t], wanted[name], rtol=1e-3, atol=2e-3, err_msg=name)


def test_frames_do_not_know_each_other(case):
    images, noise, order = case.images, case.noise, [2, 0, 1]
    run = lambda images, noise: case.graph(case.graph.outputs[0], images, noise)  # noqa: E731
    of_frames = lambda index: tf.nest.map_structure(lambda x: x[index], case.outputs)  # noqa: E731
    assert_close(run(images[order], [x[order] for x in noise]), of_frames(order))
    assert_close(run(images[1:2], [x[1:2] for x in noise]), of_frames(slice(1, 2)))
    other = images.copy()
    other[0] = 1 - other[0]
    changed = run(other, noise)
    assert np.abs(changed.log_weights[0] - case.outputs.log_weights[0]).max() > 1
    assert_close(tf.nest.map_structure(lambda x: x[1:], changed), of_frames(slice(1, None)))


MISTAKES = [
    ("EXPECTED = -0.5", "EXPECTED = 0.5"),
    ("EXPECTED * one, 0.0 * one", "EXPECTED * one, one"),
    ("(present * x for x in sampled)", "(x for x in sampled)"),
    ("mask_absent_logit(logit, presence)", "logit"),
    ("np.arange(1, self.n_steps + 1", "np.arange(0, self.n_steps"),
    ("discrete_log_q=found.log_q.presence", "discrete_log_q=none[:, 0]"),
    ("log_p=total(found.log_p)", "log_p=found.log_p.presence"),
    ("range_of(rows) // particles", "range_of(rows) % (rows // particles)"),
]


@pytest.mark.slow
@pytest.mark.parametrize("right, wrong", MISTAKES, ids=lambda text: text[:24])
def test_mistakes_do_not_pass(right, wrong):
    flags = dict(FLAGS, n_steps_per_image=2, n_what=2, glimpse_size=5)
    built = Graph(flags, [mutated(air, right, wrong).mlp_air, mlp_sqair])
    rng = np.random.RandomState(5)
    images = rng.uniform(size=(1, 4, *IMAGE, 1))
    noise = [
        rng.normal(size=(1, 4, K, 2, 2)),
        rng.normal(size=(1, 4, K, 2, 4)),
        rng.uniform(size=(1, 4, K, 2)),
    ]
    wrong_one, sqair = built(built.outputs, images, noise)
    built.session.close()
    with pytest.raises(AssertionError):
        assert_close(wrong_one, sqair)


def test_mistakes_replace_what_is_there():
    for right, wrong in MISTAKES:
        assert mutated(air, right, wrong).AIR is not AIR


def test_what_it_declares():
    model = mlp_air(np.zeros((9, 8, 3), np.float32), n_units=1, n_what=4, glimpse_size=5, n_steps_per_image=2)
    assert isinstance(model, AIR) and model.n_steps == 2
    assert model.bound.by_frame and model.bound.joins and not model.bound.keeps_ids
    assert model.noise.what.shape == (2, 4) and model.noise.presence.uniform
    images = tf.zeros([2, 1, 9, 8, 3])
    noise = StepNoise(tf.zeros([2, 1, 3, 2, 4]), tf.zeros([2, 1, 3, 2, 4]), tf.zeros([2, 1, 3, 2]))
    outputs = model(images, noise)
    assert outputs.canvas.shape.as_list()[2:] == [9, 8, 3]
    assert outputs.glimpses.shape.as_list()[2:] == [2, 5, 5, 3]
    with pytest.raises(ValueError, match="noise of discovery_what must have shape"):
        model(images, noise._replace(what=noise.what[..., :3]))
    with pytest.raises(UserError, match="`disc_prior_type=odd` is not known"):
        mlp_air(np.zeros((9, 8, 1), np.float32), disc_prior_type="odd")
    names = [v.op.name for v in tf.global_variables()]
    assert not [name for name in names if "propagat" in name or "temporal" in name]
