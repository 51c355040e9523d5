# SPDX-License-Identifier: GPL-3.0-or-later
"""Noise: the same for the same key, never shared between keys, of the right distribution; resampling."""

import itertools

import numpy as np
import pytest
from scipy import stats
from tf_run import run

from sqair.graph_mode import tf
from sqair.model import noise

SIZES = dict(seq_len=3, batch_size=2, k_particles=4, wanted=noise.of_objects(3, 5))
OF_4 = noise.of_objects(
    3, 4
)  # appearances of the shape of `where`, so that the same key would give the same numbers


def arrays(drawn):
    """`kind_field` to array."""
    return {
        "{}_{}".format(kind, field): value
        for kind, step_noise in drawn._asdict().items()
        for field, value in step_noise._asdict().items()
    }


def test_shapes_and_order():
    drawn = noise.draw(1, 0, "train", **SIZES)
    for name, tensor in arrays(drawn).items():
        last = {"what": [5], "where": [4], "presence": []}[name.split("_")[1]]
        assert tensor.shape.as_list() == [3, 2, 4, 3] + last, name
        assert tensor.dtype == tf.float32


def test_the_same_key_gives_the_same_numbers():
    step = tf.placeholder(tf.int64, [])
    drawn = noise.draw(5, step, "train", **SIZES)
    first, second = run(drawn, {step: 3}), run(drawn, {step: 3})
    constant = run(noise.draw(tf.constant(5), 3, "train", **SIZES))
    for a, b, c in zip(tf.nest.flatten(first), tf.nest.flatten(second), tf.nest.flatten(constant)):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_sizes_may_be_tensors():
    sizes = dict(SIZES, seq_len=tf.placeholder(tf.int32, []), batch_size=tf.placeholder(tf.int32, []))
    for drawn in (noise.draw(0, 0, "eval", **sizes), noise.mode(**sizes)):
        values = run(drawn, {sizes["seq_len"]: 2, sizes["batch_size"]: 6})
        assert values.discovery.what.shape == (2, 6, 4, 3, 5)
        assert values.propagation.presence.shape == (2, 6, 4, 3)


def test_no_two_keys_share_their_numbers():
    """Any kind, field, seed and step against any other, resampling included."""
    drawn = {}
    sizes = dict(SIZES, wanted=OF_4)
    for seed, step, kind in itertools.product((0, 1, 1000), (0, 1), ("train", "eval")):
        for name, tensor in arrays(noise.draw(seed, step, kind, **sizes)).items():
            drawn[seed, step, kind, name] = tensor
    seen = {}
    for key, value in run(drawn).items():
        numbers = tuple(value.ravel()[:8])
        assert len(set(numbers)) == 8
        assert numbers not in seen, "{} and {} share their noise".format(key, seen.get(numbers))
        seen[numbers] = key


def test_neighbouring_keys_are_independent():
    sizes = dict(SIZES, batch_size=200, wanted=OF_4)
    step = tf.placeholder(tf.int64, [])
    tensors = [arrays(noise.draw(seed, step, kind, **sizes)) for seed in (0, 1) for kind in ("train", "eval")]
    normal = [x[name] for x in tensors for name in x if not name.endswith("presence")]
    columns = [value.ravel() for i in (0, 1) for value in run(normal, {step: i})]
    correlation = np.corrcoef(columns)
    np.fill_diagonal(correlation, 0.0)
    assert np.max(np.abs(correlation)) < 5 / np.sqrt(columns[0].size)


def test_distributions():
    values = run(noise.draw(3, 7, "train", **dict(SIZES, batch_size=300)))
    for step_noise in values:
        for normal in step_noise[:2]:
            assert stats.kstest(normal.ravel(), "norm").pvalue > 1e-3
        assert stats.kstest(step_noise.presence.ravel(), "uniform").pvalue > 1e-3
        assert step_noise.presence.min() >= 0
        assert step_noise.presence.max() < 1


def test_a_sequence_has_the_noise_of_its_number_in_any_batch():
    sizes = dict(SIZES)
    del sizes["batch_size"]
    numbers = tf.placeholder(tf.int64, [None])
    drawn = noise.draw_by_sequence(3, numbers, **sizes)
    batch, part = (run(drawn, {numbers: value}) for value in ([0, 1, 2, 3, 4], [3, 1]))
    for whole, some, like in zip(*map(tf.nest.flatten, (batch, part, noise.draw(0, 0, "eval", **SIZES)))):
        assert whole.shape[1] == 5 and whole[:, :2].shape == tuple(like.shape.as_list())
        np.testing.assert_array_equal(some, whole[:, [3, 1]])
        assert len(np.unique(whole)) == whole.size  # nor do two sequences share any
    for static in tf.nest.flatten(drawn):
        assert static.shape.as_list()[2:4] == [SIZES["k_particles"], 3]


def test_parts_are_the_noise_of_the_batch_in_order():
    drawn = noise.draw(3, 7, "train", **dict(SIZES, batch_size=6))
    whole, *parts = run([drawn] + [noise.part_of(drawn, index, 3) for index in range(3)])
    for field, *of_parts in zip(*map(tf.nest.flatten, [whole, *parts])):
        assert [part.shape[1] for part in of_parts] == [2, 2, 2]
        np.testing.assert_array_equal(np.concatenate(of_parts, axis=1), field)
    assert noise.part_of(drawn, 0, 1) is drawn
    with pytest.raises(ValueError, match="6 sequences has no 4 equal parts"):
        noise.part_of(drawn, 0, 4)


def test_mode_is_no_noise():
    drawn = noise.mode(**SIZES)
    for step_noise, shapes in zip(run(drawn), noise.draw(0, 0, "eval", **SIZES)):
        assert not step_noise.what.any()
        assert not step_noise.where.any()
        assert np.all(step_noise.presence == 0.5)
        for value, like in zip(step_noise, shapes):
            assert list(value.shape) == like.shape.as_list()


# Resampling


def test_resampling_draws_in_proportion_to_the_weights():
    rows, weights = 20000, np.array([0.5, 0.0, 0.3, 0.15, 0.05], np.float32)
    chosen = run(noise.resample(tf.constant(np.tile(weights, (rows, 1))), 3, tf.range(rows)))
    assert chosen.shape == (rows,)
    assert chosen.dtype == np.int32
    counts = np.bincount(chosen, minlength=5)
    assert counts[1] == 0
    possible = weights > 0
    assert stats.chisquare(counts[possible], rows * weights[possible]).pvalue > 1e-3


def test_resampling_is_deterministic_and_keyed():
    weights, numbers = tf.fill([64, 4], 0.25), tf.range(64)
    keys = [(1, numbers), (1, numbers), (1, numbers + 64), (2, numbers)]
    first, same, others, other_seed = run([noise.resample(weights, seed, key) for seed, key in keys])
    np.testing.assert_array_equal(first, same)
    for other in (others, other_seed):
        assert np.any(first != other)
    np.testing.assert_array_equal(run(noise.resample(weights[:5], 1, numbers[7:12])), first[7:12])


@pytest.mark.parametrize("k_particles", [1, 3, 100])
def test_resampling_stays_in_range(k_particles):
    """Whatever rounding does to the sum of weights."""
    rng = np.random.RandomState(0)
    weights = rng.dirichlet(np.full(k_particles, 0.1), size=5000).astype(np.float32)
    weights[:1000] *= np.float32(0.999)
    weights[1000:2000] *= np.float32(1.001)
    weights[2000:2100] = np.eye(k_particles, dtype=np.float32)[-1]
    chosen = run(noise.resample(tf.constant(weights), 0, tf.range(5000)))
    assert chosen.min() >= 0
    assert chosen.max() < k_particles
    assert np.all(weights[np.arange(5000), chosen] > 0)
