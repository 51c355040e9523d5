# SPDX-License-Identifier: GPL-3.0-or-later
"""Propagation against the float64 oracle; what gates, absence and the slot before do."""

import numpy as np
import pytest
from oracle_model import IMAGE, D, G, K, N, R, Z, assert_close, constant, draw_images, flags, parameters
from reference_propagation import propagate

from sqair.engine.early import EarlyProducts
from sqair.engine.layers import MLP
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.networks import GlimpseEncoder
from sqair.model.priors import PropagationPrior
from sqair.model.propagation import MAX_GATE, Propagation, PropagationCore
from sqair.model.spatial_transformer import pad_images
from sqair.model.structures import SQAIRState, StepNoise

COUNTS = [3, 0, 2, 1, 0, 2]  # objects of each row
PRESENCE = 1.0 * (np.arange(N) < np.array(COUNTS)[:, None])
ACTIVE = PRESENCE == 1
FLAGS = flags()
NO_STATE = 7.0  # stands for the state of what was not propagated
OPEN, SHUT = 30.0, -30.0  # raw values of gates


class Frame:
    """One frame of propagation, compact and dense, with the oracle's parameters."""

    def __init__(self):
        rng = np.random.RandomState(0)
        self.images, self.row_images = draw_images(rng)
        self.noise = StepNoise(
            rng.normal(size=(R, N, Z)), rng.normal(size=(R, N, 4)), rng.uniform(size=(R, N, 1))
        )
        what, where, temporal, prior = [rng.normal(size=(R, N, n)) for n in (Z, 4, D, D)]
        ids, last_id = np.zeros((R, N, 1)), np.zeros((R, 1))
        self.state = SQAIRState(what, where, PRESENCE[..., None], temporal, prior, ids, last_id)
        with tf.Graph().as_default():
            self.fed = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, [None] + list(x.shape[1:])), (self.state, self.noise)
            )
            self.results, self.seen = self._build()
            self.params, self.values = parameters(FLAGS)
            self.variables = {v.op.name: v for v in tf.global_variables()}
            self.session = tf.Session(config=session_config(1))

    def _build(self):
        """Results of both modules; what is seen where the compact one put the objects."""
        images, index = pad_images(constant(self.images[..., None])), np.arange(R, dtype=np.int32) // K
        network = MLP([D] * 2, name="glimpse_encoder")
        with tf.variable_scope("sqair"):
            q_what = GlimpseEncoder(network, IMAGE + (1,), G, D, Z, masked=True)
            core = PropagationCore(q_what, Z, D, "VanillaRNN", "GRU", -2.0, 1.0)
            prior = PropagationPrior(Z, D, "GRU", "rnn", FLAGS["prop_prior_step_bias"])
            modules = [Propagation(core, prior), Propagation(core, prior, compact=False)]
        results = [self._run(module, images, tf.constant(index)) for module in modules]
        temporal, where = [
            tf.reshape(x, [R * N, -1]) for x in (self.fed[0].temporal_state, results[0][0].sampled.where)
        ]
        mask = q_what.mask(EarlyProducts(*q_what.mask_layers)(temporal=temporal).temporal)
        return results, q_what(images, tf.constant(np.repeat(index, N)), tf.reshape(where, [R * N, 4]), mask)

    def _run(self, module, images, index):
        """`PropagatedObjects`, and the temporal and prior state of each slot."""
        outputs = module(images, index, *self.fed)
        slots, none = tf.tile(tf.range(N)[None], [R, 1]), tf.fill([1, D], NO_STATE)
        states = outputs.temporal_state, outputs.prior_state
        return outputs.objects, [outputs.active.select(state, slots, none) for state in states]

    def __call__(self, fetches=None, state=None, noise=None, parameters=()):
        """Fetches (the results), with other state, noise or parameters, the latter by the ends of their names."""
        feed = dict(self.values)
        feed.update(
            zip(tf.nest.flatten(self.fed), tf.nest.flatten((state or self.state, noise or self.noise)))
        )
        for end, value in dict(parameters).items():
            (variable,) = [v for name, v in self.variables.items() if name.endswith(end)]
            feed[variable] = np.broadcast_to(value, variable.shape.as_list())
        return self.session.run(self.results if fetches is None else fetches, feed)

    def oracle(self):
        state, noise = self.state, self.noise
        objects = [
            dict(
                what=state.what[:, n],
                where=state.where[:, n],
                presence=state.presence[:, n, 0],
                presence_logit=np.zeros(R),
                temporal=state.temporal_state[:, n],
                prior=state.prior_state[:, n],
                obj_id=np.zeros(R),
            )
            for n in range(N)
        ]
        noise = dict(
            eps_what_prop=noise.what, eps_where_prop=noise.where, u_presence_prop=noise.presence[..., 0]
        )
        slots = propagate(self.params, FLAGS, self.row_images, objects, noise)
        return {name: np.stack([slot[name] for slot in slots], 1) for name in slots[0]}


@pytest.fixture(scope="module")
def frame():
    built = Frame()
    yield built
    built.session.close()


def gates(keep_past, skip_seen, skip_expected):
    """Parameters: these raw gates, whatever the input."""
    return {"what_gates/w": 0.0, "what_gates/b": np.repeat([keep_past, skip_seen, skip_expected], Z)}


# Against the oracle


@pytest.mark.parametrize("compact", [True, False])
def test_objects_and_states_against_the_oracle(frame, compact):
    expected = frame.oracle()
    assert 0 < expected["presence"].sum() < PRESENCE.sum(), "some stay and some vanish"
    (sampled, prior), states = frame()[0 if compact else 1]
    for name in sampled._fields:
        actual = getattr(sampled, name)[..., 0] if name.startswith("presence") else getattr(sampled, name)
        assert_close(actual[ACTIVE], expected[name][ACTIVE], name)
    assert_close(prior.presence_logit[ACTIVE][:, 0], expected["prior_logit"][ACTIVE])
    for state, name in zip(states, ("temporal", "prior")):
        assert_close(state[ACTIVE], expected[name][ACTIVE], name)


def test_compact_and_dense_propagation_are_the_same(frame):
    """Elsewhere both say zero, and neither has a state."""
    compact, dense = frame()
    for actual, expected in zip(tf.nest.flatten(dense), tf.nest.flatten(compact)):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    objects, states = compact
    for tensor in tf.nest.flatten(objects):
        assert not tensor[~ACTIVE].any()
    for state in states:
        np.testing.assert_array_equal(state[~ACTIVE], NO_STATE)


# Gates fully open


def test_keeping_the_past_alone_keeps_the_appearance(frame):
    """keep_past = 1 and skip_* = 1, as nearly as gates allow: neither a look nor a guess changes it."""
    (sampled, _), _ = frame(parameters=gates(OPEN, OPEN, OPEN))[0]
    what_tm1 = frame.state.what
    assert np.abs(sampled.what_loc - what_tm1)[ACTIVE].max() < 30 * (1 - MAX_GATE)
    assert np.abs(sampled.what - what_tm1)[ACTIVE].max() < 30 * (1 - MAX_GATE)


def test_forgetting_the_past_leaves_what_is_seen(frame):
    """keep_past = 0, skip_seen = 0, skip_expected = 1: what `q_what` says of the new place."""
    parameters = gates(SHUT, SHUT, OPEN)
    ((sampled, _), _), seen = frame((frame.results[0], frame.seen), parameters=parameters)
    for actual, expected in ((sampled.what_loc, seen.loc), (sampled.what_scale, seen.scale)):
        difference = np.abs(actual - expected.reshape(R, N, Z))[ACTIVE]
        assert difference.max() < 30 * (1 - MAX_GATE)


def test_expecting_alone_does_not_depend_on_the_past_appearance_beside_the_state(frame):
    """keep_past = 0, skip_seen = 1, skip_expected = 0: the readout of the temporal state, here of bias 2."""
    parameters = dict(gates(SHUT, OPEN, SHUT), **{"what_statistics/w": 0.0, "what_statistics/b": 2.0})
    (sampled, _), _ = frame(parameters=parameters)[0]
    np.testing.assert_allclose(sampled.what_loc[ACTIVE], 2, atol=30 * (1 - MAX_GATE))
    min_scale = frame.params["propagation/propagation_core/what/gaussian_from_param_vec/min_std"]
    scale = np.logaddexp(0, 2) + min_scale
    np.testing.assert_allclose(sampled.what_scale[ACTIVE], scale, atol=30 * (1 - MAX_GATE))


def test_an_object_that_does_not_move_stays_where_it_was(frame):
    """where_update_scale = 0 leaves the last location as the mean of the new one, and noise around it."""
    (sampled, _), _ = frame(parameters={"where_update_scale": 0.0})[0]
    np.testing.assert_allclose(sampled.where_loc[ACTIVE], frame.state.where[ACTIVE], rtol=1e-6)
    no_noise = frame.noise._replace(where=np.zeros((R, N, 4)))
    (sampled, _), _ = frame(noise=no_noise, parameters={"where_update_scale": 0.0})[0]
    np.testing.assert_allclose(sampled.where[ACTIVE], frame.state.where[ACTIVE], rtol=1e-6)


# Presence


@pytest.mark.parametrize("noise, stays", [(0.0, 1.0), (1.0, 0.0)])
def test_an_absent_object_stays_absent(frame, noise, stays):
    """Even where the draw would keep anything; a present one stays or vanishes by its draw."""
    drawn = frame.noise._replace(presence=np.full((R, N, 1), noise))
    for (sampled, _), _ in frame(noise=drawn):
        np.testing.assert_array_equal(sampled.presence[..., 0], PRESENCE * stays)


def test_nothing_runs_before_there_is_an_object(frame):
    """As in the first frame: zeros, whatever else the state says, and no rows of states in the compact module."""
    empty = frame.state._replace(presence=np.zeros((R, N, 1)))
    for objects, states in frame(state=empty):
        for tensor in tf.nest.flatten(objects):
            assert not tensor.any()
        for state in states:
            np.testing.assert_array_equal(state, NO_STATE)


# The slot before


def changed_slots(frame, state=None, noise=None):
    """`[R, N]` bool: which slots' locations a change of the inputs changes."""
    before, after = [objects[0][0][0].where_loc for objects in (frame(), frame(state=state, noise=noise))]
    return np.abs(after - before).max(-1) > 1e-5


def test_a_slot_sees_the_slots_before_it_and_no_other(frame):
    what = frame.noise.what.copy()
    what[:, 1] += 1.0
    changed = changed_slots(frame, noise=frame.noise._replace(what=what))
    later = ACTIVE & (np.arange(N) > 1)
    assert later.any()
    np.testing.assert_array_equal(changed, later)


def test_an_object_that_vanishes_is_still_seen_by_the_next_slot(frame):
    """What the next slot sees is that it is gone."""
    noise = [frame.noise.presence.copy() for _ in range(2)]
    noise[0][:, 0], noise[1][:, 0] = 0.0, 1.0
    stayed, vanished = [frame(noise=frame.noise._replace(presence=x))[0][0].sampled for x in noise]
    difference = np.abs(stayed.where_loc - vanished.where_loc).max(-1)
    assert np.all(difference[:, 0] == 0)
    assert np.all(difference[:, 1:][ACTIVE[:, 1:]] > 1e-6)


def test_rows_do_not_see_each_other(frame):
    state = frame.state._replace(temporal_state=frame.state.temporal_state.copy())
    state.temporal_state[2] += 1.0
    changed = changed_slots(frame, state=state)
    np.testing.assert_array_equal(changed, ACTIVE & (np.arange(R) == 2)[:, None])
