# SPDX-License-Identifier: GPL-3.0-or-later
"""Generation against the float64 oracle and against the model's own scores; what it goes on from; ids."""

import numpy as np
import pytest
import reference_generation
from oracle_model import IMAGE, B, K, N, R, Z, assert_close, flags, parameters
from reference_names import NUM_PRIOR
from reference_propagation import empty_object
from reference_sequence import step as infer_step

from sqair.engine.lean_graph import LeanGraph
from sqair.engine.unroll import unroll
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise

T, SEEN = 5, 2
LATER_BIAS = NUM_PRIOR + "step_prior_timestep_bias"
KINDS = {
    "guided": dict(prop_prior_type="guided"),
    "rnn": dict(prop_prior_type="rnn", prop_prior_step_bias=1.0),
    "rw": dict(prop_prior_type="rw", disc_prior_type="geom", rec_where_prior=False, step_success_prob=0.4),
}
ARGUMENTS = (
    "n_steps_per_image n_what n_units glimpse_size prop_prior_type disc_prior_type rec_where_prior "
    "step_success_prob prop_prior_step_bias"
).split()


class Case:
    """A model that infers and generates, with the oracle's parameters, and noise for both."""

    def __init__(self, kind, compact=True):
        self.flags = flags(**KINDS[kind])
        rng = np.random.RandomState(0)
        self.noise = FrameNoise(
            *[
                StepNoise(
                    rng.normal(size=(T, B, K, N, Z)),
                    rng.normal(size=(T, B, K, N, 4)),
                    rng.uniform(size=(T, B, K, N)),
                )
                for _ in range(2)
            ]
        )
        self.noise.propagation.presence[:2, 0] = (
            0.0  # what is not there does not stay, however unlikely that is
        )
        self.images = rng.uniform(size=(T, B) + IMAGE + (1,))
        self.graph = LeanGraph()
        with self.graph.as_default():
            self.fed = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, (None,) + x.shape[1:]), (self.images, self.noise)
            )
            arguments = {name: self.flags[name] for name in ARGUMENTS}
            self.model = model = mlp_sqair(
                np.zeros(IMAGE + (1,), np.float32), compact=compact, scale_prior=(-2.0, -2.0), **arguments
            )
            images, noise = self.fed
            seen, later = [
                tf.nest.map_structure(lambda x, part=part: x[part], noise)
                for part in (slice(SEEN), slice(SEEN, T))
            ]
            self.seen, state = model.infer(images[:SEEN], seen)
            self.variables_of_inference = [v.op.name for v in tf.global_variables()]
            self.continued, self.prior = model.generate(later, state), model.generate(noise)
            with_width = tf.nest.map_structure(lambda x: x[..., None] if x.shape.ndims == 4 else x, noise)
            cells, (self.state,) = unroll(model.generative_cell, with_width, K, streams=1)
            rows = tf.nest.map_structure(lambda x: tf.reshape(x, [-1, N] + x.shape.as_list()[4:]), with_width)
            self.scored = model.scoring(cells, rows)
            self.params, feed = parameters(self.flags)
            self.variables = {v.op.name: v for v in feed}
            if self.flags["disc_prior_type"] == "cat":  # as it starts, hardly anything would appear later
                self.params[LATER_BIAS] = np.array([0.5, 0.0, -0.5, 0.0])
                feed[self.variables["sqair/discovery_prior/count_later_bias"]] = self.params[LATER_BIAS]
            self.session = tf.Session(config=session_config(1))
            self.session.run(
                [v.initializer for v in feed], {v.initial_value: value for v, value in feed.items()}
            )

    def run(self, fetches, noise=None, **variables):
        feed = dict(zip(tf.nest.flatten(self.fed), tf.nest.flatten((self.images, noise or self.noise))))
        feed.update({self.variables[name]: value for name, value in variables.items()})
        return self.session.run(fetches, feed)

    def noise_of_oracle(self, noise, part=slice(None)):
        return {
            f"{name}_{phase}": x.reshape((T, R) + x.shape[3:])[part]
            for phase, step in (("prop", noise.propagation), ("disc", noise.discovery))
            for name, x in zip(("eps_what", "eps_where", "u_presence"), step)
        }


@pytest.fixture(
    scope="module", params=["guided", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("rnn", "rw"))]
)
def case(request):
    built = Case(request.param)
    yield built
    built.session.close()


def silent(noise):
    """No noise, and presence as likely as not."""
    return FrameNoise(*[StepNoise(0 * s.what, 0 * s.where, 0 * s.presence + 0.5) for s in noise])


def assert_is(generated, oracle):
    np.testing.assert_array_equal(generated.presence, oracle["presence"])
    np.testing.assert_array_equal(generated.object_ids, oracle["obj_id"])
    for name in ("what", "where"):
        here = oracle["presence"][..., None]
        assert_close(here * getattr(generated, name), here * oracle[name], name)
    assert_close(generated.canvas[..., 0], oracle["canvas"], "canvas")


@pytest.mark.parametrize("noisy", [True, False])
def test_it_is_the_oracle(case, noisy):
    noise = case.noise if noisy else silent(case.noise)
    generated = case.run(case.prior, noise)
    oracle, _ = reference_generation.generate(case.params, case.flags, case.noise_of_oracle(noise), IMAGE)
    if noisy:
        assert 0.2 < oracle["presence"].mean() < 0.9 and oracle["obj_id"].max() >= N
    assert_is(generated, oracle)


def test_after_inference_it_is_the_oracle(case):
    """The states, and the logits of absent slots, go over."""
    images = np.repeat(case.images[..., 0], K, axis=1)
    state = [empty_object(case.params, case.flags, R) for _ in range(N)], -np.ones(R)
    noise = case.noise_of_oracle(case.noise)
    for t in range(SEEN):
        frame = {name: x[t] for name, x in noise.items()}
        _, state = infer_step(case.params, case.flags, images[t], frame, state, first_frame=t == 0)
    later = case.noise_of_oracle(case.noise, slice(SEEN, T))
    oracle, _ = reference_generation.generate(case.params, case.flags, later, IMAGE, state)
    assert oracle["presence"].any()
    assert_is(case.run(case.continued), oracle)


def test_what_goes_on_is_the_oracles(case):
    """Logits of absent slots too; other states where an object is."""
    state = case.run(case.state)
    noise = case.noise_of_oracle(case.noise)
    _, (objects, last_id) = reference_generation.generate(case.params, case.flags, noise, IMAGE)
    expected = {name: np.stack([o[name] for o in objects], 1) for name in objects[0]}
    here = expected["presence"][..., None]
    assert set(np.unique(here)) == {0, 1}
    assert_close(state.presence_logit[..., 0], expected["presence_logit"])
    for name in ("temporal", "prior"):
        assert_close(here * getattr(state.objects, name + "_state"), here * expected[name], name)
    np.testing.assert_array_equal(state.objects.last_id[:, 0], last_id)
    np.testing.assert_array_equal(state.is_later, np.ones((R, 1)))


def test_what_is_generated_has_the_same_probability_under_the_models_own_prior(case):
    """Scored as if the prior were the posterior: log q, which follows from the noise, is log p of the values."""
    mixing = "sqair/propagation_core/affine_diagonal_normal/cholesky_scale"
    scored = case.run(case.scored, **{mixing: np.zeros(10)})
    assert scored.propagation.presence.any() and scored.discovery.presence[1:].any()
    for phase in (scored.propagation, scored.discovery):
        assert_close(phase.log_q.what, phase.log_p.what)
        assert_close(phase.log_q.where, phase.log_p.where)
    assert_close(scored.propagation.log_q.presence, scored.propagation.log_p.presence)
    beyond = 0.4 ** (N + 1) if case.flags["disc_prior_type"] == "geom" else 0.0
    assert_close(scored.discovery.log_q.presence, scored.discovery.log_p.presence - np.log1p(-beyond))


def test_objects_go_on_with_their_ids_and_new_ones_are_unused(case):
    seen, later = case.run([case.seen, case.continued])
    before, found = seen.steps.object_ids[-1], 0
    used = seen.steps.object_ids.max((0, 2))
    for t in range(T - SEEN):
        now = later.object_ids[t]
        for row in range(R):
            ids = now[row][now[row] >= 0]
            old = [i for i in ids if i <= used[row]]
            assert set(old) <= set(before[row]) and len(set(ids)) == len(ids)
            found += len(old)
            used[row] = max([used[row], *ids])
        before = now
    assert found


def test_absent_slots_are_empty(case):
    generated = case.run(case.prior)
    absent = generated.presence == 0
    assert absent.any()
    for field in (generated.what, generated.where, generated.glimpses):
        assert not field[absent].any() and field[~absent].any()


@pytest.mark.slow
def test_all_slots_computed_is_the_same():
    compact, dense = [Case("guided", flag) for flag in (True, False)]
    for name in ("prior", "continued"):
        for a, b in zip(*[case.run(getattr(case, name)) for case in (compact, dense)]):
            assert_close(b, a)
    for case in (compact, dense):
        case.session.close()


def test_it_adds_no_variable(case):
    """And inference has all of them: the list of variables in a checkpoint is the same."""
    assert case.variables_of_inference == list(case.variables)


def test_what_does_not_fit_is_refused(case):
    with case.graph.as_default():
        noise = tf.nest.map_structure(lambda x: tf.constant(x, tf.float32), case.noise)
        state = case.model.generative_cell.initial_state(R + 1)
        with pytest.raises(ValueError, match=r"first_state.is_later must have shape \[6, 1\]"):
            case.model.generate(noise, state)
        with pytest.raises(ValueError, match="noise of (propagation|discovery)_what must have shape"):
            case.model.generate(tf.nest.map_structure(lambda x: x[:, :, :, 1:], noise))
        anything = tf.nest.map_structure(
            lambda x: tf.placeholder_with_default(x, [None] + x.shape[1:].as_list()), state
        )
        generated = case.model.generate(noise, anything)
        with pytest.raises(tf.errors.InvalidArgumentError, match="a row for each particle"):
            case.session.run(generated.presence)


def test_state_size_is_that_of_states(case):
    with case.graph.as_default():
        cell = case.model.generative_cell
        state = cell.initial_state(R)
    tf.nest.assert_same_structure(state, cell.state_size)
    for tensor, size in zip(tf.nest.flatten(state), tf.nest.flatten(cell.state_size)):
        assert tensor.shape.as_list() == [R] + size.as_list()
