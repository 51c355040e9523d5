# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery against the float64 oracle; where it stops, and what a slot sees."""

import numpy as np
import pytest
from oracle_model import IMAGE, B, D, G, K, N, R, Z, assert_close, draw_images, flags, parameters
from reference_discovery import discover

from sqair.engine.layers import MLP
from sqair.evaluation.evaluator import session_config
from sqair.graph_mode import tf
from sqair.model.discovery import Discovery, DiscoveryCore
from sqair.model.networks import GlimpseEncoder
from sqair.model.spatial_transformer import pad_images
from sqair.model.structures import StepNoise

FLAGS = flags()


class Frame:
    """One frame of discovery, compact and dense, with the oracle's parameters."""

    def __init__(self):
        rng = np.random.RandomState(1)
        self.images, self.row_images = draw_images(rng)
        self.summary = rng.normal(size=(R, D))
        self.noise = StepNoise(
            rng.normal(size=(R, N, Z)), rng.normal(size=(R, N, 4)), rng.uniform(size=(R, N, 1))
        )
        with tf.Graph().as_default():
            self.fed = tf.nest.map_structure(
                lambda x: tf.placeholder(tf.float32, [None] + list(x.shape[1:])),
                (self.images, self.summary, self.noise),
            )
            self.results = self._build(*self.fed)
            self.params, self.values = parameters(FLAGS)
            self.session = tf.Session(config=session_config(1))

    def _build(self, images, summary, noise):
        images, index = images[..., None], tf.constant(np.arange(R, dtype=np.int32) // K)
        encoding = MLP([D] * 2, name="image_encoder")(images)
        network = MLP([D] * 2, name="glimpse_encoder")
        with tf.variable_scope("sqair"):
            q_what = GlimpseEncoder(network, IMAGE + (1,), G, D, Z, masked=False)
            core = DiscoveryCore(q_what, Z, D, "VanillaRNN", -2.0, 0.3)
            modules = [Discovery(core), Discovery(core, compact=False)]
        return [module(pad_images(images), encoding, index, summary, noise) for module in modules]

    def __call__(self, images=None, summary=None, noise=None):
        """`SampledObjects` of the compact module and of the dense one."""
        inputs = (self.images, self.summary, self.noise)
        inputs = [own if other is None else other for own, other in zip(inputs, (images, summary, noise))]
        feed = dict(self.values)
        feed.update(zip(tf.nest.flatten(self.fed), tf.nest.flatten(inputs)))
        return self.session.run(self.results, feed)

    def oracle(self):
        noise = self.noise
        noise = dict(
            eps_what_disc=noise.what, eps_where_disc=noise.where, u_presence_disc=noise.presence[..., 0]
        )
        slots, *_ = discover(
            self.params, FLAGS, self.row_images, self.summary, np.zeros(R), True, -np.ones(R), noise
        )
        return {name: np.stack([slot[name] for slot in slots], 1) for name in slots[0]}


@pytest.fixture(scope="module")
def frame():
    built = Frame()
    yield built
    built.session.close()


def with_presence(frame, uniform):
    """The frame's noise with other draws of presence, anything that broadcasts to `[R, N]`."""
    return frame.noise._replace(presence=np.broadcast_to(uniform, (R, N))[..., None])


def ran(presence):
    """`[R, N]` bool: slots that had their turn, because the one before found something."""
    return np.concatenate([np.ones((R, 1)), presence[:, :-1]], 1) == 1


@pytest.mark.parametrize("compact", [True, False])
def test_objects_against_the_oracle(frame, compact):
    expected = frame.oracle()
    counts = expected["presence"].sum(-1)
    assert len(set(counts)) > 2, "rows discover different numbers of objects"
    sampled, turn = frame()[0 if compact else 1], ran(expected["presence"])
    assert 0.2 < turn.mean() < 0.95
    for name in sampled._fields:
        actual = getattr(sampled, name)[..., 0] if name.startswith("presence") else getattr(sampled, name)
        assert_close(actual[turn], expected[name][turn], name)


def test_compact_and_dense_discovery_are_the_same(frame):
    """Slots that had no turn say zero."""
    compact, dense = frame()
    for actual, expected in zip(dense, compact):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    no_turn = ~ran(compact.presence[..., 0])
    assert no_turn.any()
    for tensor in compact:
        assert not tensor[no_turn].any()


@pytest.mark.parametrize("count", range(N + 1))
def test_discovery_stops_at_the_first_slot_that_finds_nothing(frame, count):
    """Even where later slots would surely find something."""
    uniform = np.where(np.arange(N) == count, 1.0, 0.0)
    for sampled in frame(noise=with_presence(frame, uniform)):
        np.testing.assert_array_equal(sampled.presence[..., 0], [[1] * count + [0] * (N - count)] * R)
        had_a_turn = np.arange(N) <= count
        np.testing.assert_array_equal(np.all(sampled.what_scale > 0, -1), [had_a_turn] * R)


def changed_slots(before, after):
    """`[R, N]` bool: which slots' locations differ."""
    return np.abs(after[0].where_loc - before[0].where_loc).max(-1) > 1e-6


def test_a_slot_sees_the_slots_before_it_and_no_other(frame):
    noise = with_presence(frame, 0.0)
    what = noise.what.copy()
    what[:, 1] += 1.0
    changed = changed_slots(frame(noise=noise), frame(noise=noise._replace(what=what)))
    np.testing.assert_array_equal(changed, [np.arange(N) > 1] * R)


def test_every_slot_sees_the_propagated_objects_of_its_row(frame):
    noise, summary = with_presence(frame, 0.0), frame.summary.copy()
    summary[1] += 1.0
    changed = changed_slots(frame(noise=noise), frame(summary=summary, noise=noise))
    np.testing.assert_array_equal(changed, [[row == 1] * N for row in range(R)])


def test_every_slot_sees_the_image_of_its_row(frame):
    noise, images = with_presence(frame, 0.0), frame.images.copy()
    images[B - 1] = 1.0 - images[B - 1]
    changed = changed_slots(frame(noise=noise), frame(images=images, noise=noise))
    np.testing.assert_array_equal(changed, [[row >= R - K] * N for row in range(R)])


def test_without_noise_objects_are_at_the_means(frame):
    noise = with_presence(frame, 0.0)._replace(what=np.zeros((R, N, Z)), where=np.zeros((R, N, 4)))
    for sampled in frame(noise=noise):
        np.testing.assert_array_equal(sampled.what, sampled.what_loc)
        np.testing.assert_array_equal(sampled.where, sampled.where_loc)
