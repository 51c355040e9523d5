# SPDX-License-Identifier: GPL-3.0-or-later
"""The cell by itself: frame by frame it says what the unrolled model says; ids, surplus objects, shapes."""

import numpy as np
import pytest

from sqair.engine.initial_values import keyed_by_name
from sqair.engine.lean_graph import LeanGraph
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.sqair import mlp_sqair
from sqair.model.structures import FrameNoise, StepNoise

SHAPE, T, B, K, N, Z, D = (9, 8, 1), 6, 2, 2, 2, 3, 32
R = B * K
SEED = 1


class Stream:
    """A model, and its cell alone that takes one frame after another; the state is fetched and fed back."""

    def __init__(self):
        rng = np.random.RandomState(0)
        slots = (T, B, K, N)
        steps = [
            StepNoise(
                rng.normal(size=slots + (Z,)), rng.normal(size=slots + (4,)), rng.uniform(size=slots + (1,))
            )
            for _ in range(2)
        ]
        self.inputs = rng.uniform(size=(T, B) + SHAPE), FrameNoise(*steps)
        with LeanGraph().as_default(), keyed_by_name():
            tf.set_random_seed(SEED)
            self.fed = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, (None,) + x.shape[1:]), self.inputs
            )
            sizes = dict(n_steps_per_image=N, n_what=Z, n_units=1, glimpse_size=4)
            model = mlp_sqair(
                np.full(SHAPE, 0.1, np.float32), **sizes, disc_step_bias=0.5, prop_step_bias=1.0
            )
            images, noise = self.fed
            noise = FrameNoise(*[step._replace(presence=step.presence[..., 0]) for step in noise])
            self.whole = model(images, noise)
            self.cell = model.cell
            self.first_state = self.cell.initial_state(R)
            self.fed_state = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, x.shape), self.first_state
            )
            frame = tf.nest.map_structure(lambda x: x[0], model.encode(images, noise))
            self.step = self.cell(frame, self.fed_state)
            self.session = tf.Session(config=session_config(1))
            self._start(rng)

    def _start(self, rng):
        """Variables at random, learned states too."""
        variables = tf.trainable_variables()
        self.session.run(tf.global_variables_initializer())
        values = [value + 0.1 * rng.normal(size=value.shape) for value in self.session.run(variables)]
        self.session.run(
            [v.initializer for v in variables], {v.initial_value: x for v, x in zip(variables, values)}
        )
        self.values = {v.op.name: x for v, x in zip(variables, values)}

    def run(self, fetches, inputs, state=None):
        feed = dict(zip(tf.nest.flatten(self.fed), tf.nest.flatten(inputs)))
        if state is not None:
            feed.update(zip(self.fed_state, state))
        return self.session.run(fetches, feed)

    def run_frame(self, t, state, presence=None):
        """`CellOutputs` and the next state; `presence`: other draws (of propagation, of discovery)."""
        images, noise = tf.nest.map_structure(lambda x: x[t : t + 1], self.inputs)
        if presence is not None:
            steps = [
                step._replace(presence=np.broadcast_to(uniform, step.presence.shape))
                for step, uniform in zip(noise, presence)
            ]
            noise = FrameNoise(*steps)
        return self.run(self.step, (images, noise), state)


@pytest.fixture(scope="module")
def stream():
    built = Stream()
    yield built
    built.session.close()


@pytest.fixture(scope="module")
def frames(stream):
    """`CellOutputs` of each frame, and the states: T + 1 of them."""
    outputs, states = [], [stream.session.run(stream.first_state)]
    for t in range(T):
        output, state = stream.run_frame(t, states[-1])
        outputs.append(output)
        states.append(state)
    return outputs, states


def test_the_first_state_holds_no_object(stream, frames):
    state = frames[1][0]
    for tensor in (state.what, state.where, state.presence):
        assert not tensor.any()
    for tensor in (state.object_ids, state.last_id):
        np.testing.assert_array_equal(tensor, np.full_like(tensor, -1))
    for name in ("temporal", "prior"):
        start = stream.values[f"sqair/sqair_cell/{name}_start"]
        of_slots = np.broadcast_to(start[:, None], (R, N, D))
        np.testing.assert_allclose(getattr(state, name + "_state"), of_slots, rtol=1e-6)


def test_frame_by_frame_is_the_same_as_the_whole_model(stream, frames):
    whole = stream.run(stream.whole, stream.inputs)
    latents = whole.steps.latents
    assert 0.2 < latents.presence.mean() < 0.95
    assert whole.steps.propagation.presence.any()
    for t, output in enumerate(frames[0]):
        kept = output.kept
        np.testing.assert_array_equal(kept.presence[..., 0], latents.presence[t])
        np.testing.assert_array_equal(kept.object_ids[..., 0], whole.steps.object_ids[t])
        for actual, expected in ((kept.what, latents.what[t]), (kept.where, latents.where[t])):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
        for found, phase in (
            (output.propagated.sampled, whole.steps.propagation),
            (output.discovered, whole.steps.discovery),
        ):
            np.testing.assert_array_equal(found.presence[..., 0], phase.presence[t])


def test_sizes_are_those_of_states_and_outputs(stream, frames):
    """Static shapes too: with `initial_state` and an unknown number of rows as well."""
    for values, tensors, sizes in (
        (frames[0][0], stream.step[0], stream.cell.output_size),
        (frames[1][1], stream.step[1], stream.cell.state_size),
    ):
        tf.nest.assert_same_structure(values, sizes)
        for value, tensor, size in zip(*map(tf.nest.flatten, (values, tensors, sizes))):
            assert list(value.shape) == [R] + size.as_list()
            assert tensor.shape.as_list()[1:] == size.as_list()
    with stream.session.graph.as_default():
        state = stream.cell.initial_state(tf.placeholder(tf.int32, []))
    for tensor, size in zip(state, stream.cell.state_size):
        assert tensor.shape.as_list() == [None] + size.as_list()


# Ids and states of what is kept


def test_what_is_kept_is_the_state(frames):
    for output, state in zip(frames[0], frames[1][1:]):
        for name in ("what", "where", "presence", "object_ids"):
            np.testing.assert_array_equal(getattr(state, name), getattr(output.kept, name))


def test_ids_count_on_from_the_last_one_of_the_row(frames):
    outputs, states = frames
    for before, output, after in zip(states, outputs, states[1:]):
        found = output.discovered.presence[..., 0]
        stayed = output.propagated.sampled.presence[..., 0]
        np.testing.assert_array_equal(after.last_id, before.last_id + found.sum(-1, keepdims=True))
        for row in range(R):
            old = before.object_ids[row, stayed[row] == 1, 0]
            new = before.last_id[row] + 1 + np.arange(found[row].sum())
            ids = output.kept.object_ids[row, :, 0]
            np.testing.assert_array_equal(ids[ids >= 0], np.concatenate([old, new])[:N])
    assert states[-1].last_id.max() > N


ALWAYS, NEVER = 0.0, 1.0


def test_surplus_objects_are_dropped_and_use_up_their_ids(stream, frames):
    """All that is propagated comes first; N new ones do not fit, but their ids are gone."""
    first, state = stream.run_frame(0, frames[1][0], (ALWAYS, ALWAYS))
    assert first.kept.presence.all()
    second, state = stream.run_frame(1, state, (ALWAYS, ALWAYS))
    assert second.discovered.presence.all()
    ids = np.broadcast_to(np.arange(N), (R, N))
    np.testing.assert_array_equal(second.kept.object_ids[..., 0], ids)
    np.testing.assert_array_equal(second.kept.slots[..., 0], ids)
    np.testing.assert_array_equal(second.kept.what, second.propagated.sampled.what)
    np.testing.assert_array_equal(state.last_id, np.full((R, 1), 2 * N - 1))
    third, _ = stream.run_frame(2, state, (NEVER, ALWAYS))
    np.testing.assert_array_equal(third.kept.object_ids[..., 0], 2 * N + ids)
    np.testing.assert_array_equal(third.kept.slots[..., 0], N + ids)


def test_new_objects_start_from_the_learned_states_and_old_ones_carry_theirs_on(stream, frames):
    _, first = stream.run_frame(0, frames[1][0], (ALWAYS, ALWAYS))
    _, old = stream.run_frame(1, first, (ALWAYS, NEVER))
    _, new = stream.run_frame(1, first, (NEVER, ALWAYS))
    for name in ("temporal", "prior"):
        start = stream.values[f"sqair/sqair_cell/{name}_start"][:, None]
        after_discovery, carried, anew = [getattr(state, name + "_state") for state in (first, old, new)]
        np.testing.assert_allclose(after_discovery, np.broadcast_to(start, (R, N, D)), rtol=1e-6)
        np.testing.assert_allclose(anew, np.broadcast_to(start, (R, N, D)), rtol=1e-6)
        assert np.all(np.abs(carried - start).max(-1) > 1e-3)


def test_discovery_is_told_of_the_propagated_objects(stream, frames):
    """By the sum of their encodings: zero if nothing was propagated."""
    first, state = stream.run_frame(0, frames[1][0], (ALWAYS, ALWAYS))
    assert not first.propagated_summary.any()
    vanished, _ = stream.run_frame(1, state, (NEVER, ALWAYS))
    assert not vanished.propagated_summary.any()
    stayed, _ = stream.run_frame(1, state, (ALWAYS, ALWAYS))
    objects, params = stayed.propagated.sampled, stream.values
    hidden = np.concatenate([objects.what, objects.where], -1)
    for layer in ("hidden_0", "hidden_1"):
        scope = f"sqair/sqair_cell/object_summary/{layer}/"
        hidden = hidden.dot(params[scope + "w"]) + params[scope + "b"]
        hidden = np.where(hidden > 0, hidden, np.expm1(np.minimum(hidden, 0)))
    np.testing.assert_allclose(stayed.propagated_summary, hidden.sum(1), rtol=1e-3, atol=1e-4)
