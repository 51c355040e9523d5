# SPDX-License-Identifier: GPL-3.0-or-later
"""AIR is SQAIR's first frame, in every frame, and frames do not know each other."""

import re

import numpy as np
import pytest
import reference
import reference_cases
from reference_inputs import draw_noise, moving_blobs
from tf_run import run

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
KINDS = {
    "as it is": {},
    "other options": dict(
        disc_prior_type="geom", rec_where_prior=False, n_steps_per_image=4, n_what=3, glimpse_size=6
    ),
}


def arguments(flags):
    return dict({name: flags[name] for name in NAMES.split()}, scale_prior=(-2.0, -2.0))


class Models:
    """AIR, compact and dense, on frames; and SQAIR on one-frame videos of them, with the oracle's parameters."""

    def __init__(self, **changes):
        self.flags = flags = dict(FLAGS, **changes)
        with tf.Graph().as_default(), keyed_by_name():
            shape = [None, None, K, flags["n_steps_per_image"]]
            self.images = tf.placeholder(tf.float32, [None, None, *IMAGE, 1])
            self.noise = StepNoise(
                *(tf.placeholder(tf.float32, shape + last) for last in ([flags["n_what"]], [4], []))
            )
            mean_image = np.zeros((*IMAGE, 1), np.float32)
            models = [mlp_air(mean_image, compact=compact, **arguments(flags)) for compact in (True, False)]
            self.outputs = [model(self.images, self.noise) for model in models]
            unused = tf.nest.map_structure(lambda x: x + 0.7, self.noise)  # nothing is there to propagate
            sqair = mlp_sqair(mean_image, **arguments(flags))
            self.outputs.append(sqair(self.images, FrameNoise(unused, self.noise)))
            # The second and third of a kind count on, and AIR has SQAIR's names but for its own.
            names = [
                re.sub(r"^(\w+(?:air|encoder|decoder))_[12]/", r"\1/", v.op.name)
                for v in tf.global_variables()
            ]
            self.names = [re.sub(r"^air/", "sqair/", re.sub(r"^air_1/", "air/", name)) for name in names]
            theirs = reference_to_ours(
                rec_where_prior=flags["rec_where_prior"], disc_prior_type=flags["disc_prior_type"]
            )
            params = reference_cases.init_params(flags, IMAGE)
            values = {ours: params[name] for name, ours in theirs.items()}
            variables = tf.global_variables()
            self.gradients = []
            for outputs in self.outputs:
                total = tf.reduce_sum(outputs.log_weights * 0.01 + outputs.steps.discrete_log_q)
                found = tf.gradients(total, tf.trainable_variables())
                self.gradients.append(
                    {
                        self.names[variables.index(v)]: tf.convert_to_tensor(g)
                        for v, g in zip(tf.trainable_variables(), found)
                        if g is not None
                    }
                )
            self.session = tf.Session(config=session_config(1))
            feed = {v.initializer.inputs[1]: values[n] for v, n in zip(variables, self.names)}
            self.session.run([v.initializer for v in variables], feed)

    def inputs(self, seq_len=T, batch_size=B, seed=3):
        """Images and the noise of discovery, `[T, B, K, N, n]`, and both as the oracle takes them."""
        rng, flags = np.random.RandomState(seed), dict(self.flags, T=seq_len, batch_size=batch_size)
        fed = dict(moving_blobs(seq_len, batch_size, IMAGE, rng), **draw_noise(flags, rng))
        images = fed["imgs"][..., None] / np.float32(255)
        drawn = [fed[f"{kind}_disc"] for kind in ("eps_what", "eps_where", "u_presence")]
        drawn = [x.reshape(seq_len, batch_size, K, *x.shape[2:]) for x in drawn]
        return images, StepNoise(*drawn), fed

    def __call__(self, fetches, images, noise):
        feed = dict(zip([self.images, *self.noise], [images, *noise]))
        return self.session.run(fetches, feed)


@pytest.fixture(scope="module", params=list(KINDS))
def models(request):
    built = Models(**KINDS[request.param])
    yield built
    built.session.close()


def as_one_frame(images, noise):
    """Frames as sequences of one frame each: `[1, T * B, ...]`."""
    return tuple(x.reshape(1, -1, *x.shape[2:]) for x in (images, *noise))


def assert_close(actual, expected, tolerance=1e-4):
    """Relative to each array's largest magnitude."""
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected)):
        assert np.max(np.abs(a - e), initial=0) <= tolerance * max(np.max(np.abs(e), initial=0), 1e-2)


def test_it_is_the_first_frame_of_sqair(models):
    images, noise, _ = models.inputs()
    images, *noise = as_one_frame(images, noise)
    air, dense, sqair = models(models.outputs, images, noise)
    counts = air.steps.latents.presence.sum(-1)
    assert len(set(counts.ravel())) > 1
    for found in (air, dense):
        # `prob` of propagations that did not happen is exp(0) times presence, 0 in both.
        assert_close(found, sqair)


def test_its_gradients_are_those_of_the_first_frame_of_sqair(models):
    images, noise, _ = models.inputs()
    images, *noise = as_one_frame(images, noise)
    air, dense, sqair = models(models.gradients, images, noise)
    assert len(air) > 20 and set(air) == set(dense) <= set(sqair)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in sqair.values()))
    assert norm > 0.1
    for name, gradient in sqair.items():
        if name in air:
            for found in (air[name], dense[name]):
                assert np.linalg.norm(found - gradient) < 1e-4 * max(np.linalg.norm(gradient), 1e-2 * norm), (
                    name
                )
        else:
            assert not gradient.any(), name


def test_frames_against_the_oracle(models):
    """Each frame by itself, as the first one of a sequence."""
    images, noise, fed = models.inputs()
    air = models(models.outputs[0], images, noise)
    params, flags = reference_cases.init_params(models.flags, IMAGE), dict(models.flags, T=1)
    for t in range(T):
        frame = {name: x[t : t + 1] if name != "nums" and x.ndim > 2 else x for name, x in fed.items()}
        wanted, _ = reference.run(flags, params, frame, gradients=False)
        latents, posterior = air.steps.latents, air.steps.posterior
        for name, found in (
            ("log_weights_per_timestep", air.log_weights),
            ("data_ll_per_sample", air.log_likelihood),
            ("discrete_log_prob", air.steps.discrete_log_q),
            ("log_p_z_per_sample", air.steps.log_p),
            ("presence", latents.presence),
            ("obj_id", air.steps.object_ids),
            ("presence_prob", posterior.presence_prob),
            ("disc_prob", air.steps.discovery.prob),
        ):
            key = "obj_id" if name == "obj_id" else name
            np.testing.assert_allclose(found[t], wanted[key][0], rtol=1e-3, atol=2e-3, err_msg=name)
        present = latents.presence[t][..., None]
        for name in ("what", "where"):
            np.testing.assert_allclose(
                getattr(latents, name)[t], present * wanted[name][0], rtol=1e-3, atol=1e-3, err_msg=name
            )
        np.testing.assert_allclose(air.canvas[t][..., 0], wanted["canvas"][0], rtol=1e-3, atol=2e-3)


def test_frames_do_not_know_each_other(models):
    images, noise, _ = models.inputs()
    all_frames = models(models.outputs[0], images, noise)
    order = [2, 0, 1]
    shuffled = models(models.outputs[0], images[order], [x[order] for x in noise])
    assert_close(shuffled, tf.nest.map_structure(lambda x: x[order], all_frames))
    alone = models(models.outputs[0], images[1:2], [x[1:2] for x in noise])
    assert_close(alone, tf.nest.map_structure(lambda x: x[1:2], all_frames))
    other = images.copy()
    other[0] = 1 - other[0]
    changed = models(models.outputs[0], other, noise)
    assert np.abs(changed.log_weights[0] - all_frames.log_weights[0]).max() > 1
    assert_close(*(tf.nest.map_structure(lambda x: x[1:], x) for x in (changed, all_frames)))


def test_what_it_declares():
    model = mlp_air(np.zeros((9, 8, 3), np.float32), n_units=1, n_what=4, glimpse_size=5, n_steps_per_image=2)
    assert isinstance(model, AIR) and model.n_steps == 2
    assert model.bound.by_frame and model.bound.joins and not model.bound.keeps_ids
    assert model.noise.what.shape == (2, 4) and model.noise.presence.uniform
    images = tf.zeros([2, 1, 9, 8, 3])
    noise = StepNoise(tf.zeros([2, 1, 3, 2, 4]), tf.zeros([2, 1, 3, 2, 4]), tf.zeros([2, 1, 3, 2]))
    outputs = model(images, noise)
    assert outputs.canvas.shape.as_list()[2:] == [9, 8, 3]
    assert run(tf.shape(outputs.glimpses)).tolist() == [2, 3, 2, 5, 5, 3]
    with pytest.raises(ValueError, match="noise of what must have shape"):
        model(images, noise._replace(what=noise.what[..., :3]))
    with pytest.raises(UserError, match="`disc_prior_type=odd` is not known"):
        mlp_air(np.zeros((9, 8, 1), np.float32), disc_prior_type="odd")
    names = [v.op.name for v in tf.global_variables()]
    assert not [name for name in names if "propagat" in name or "temporal" in name]
