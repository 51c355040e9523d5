# SPDX-License-Identifier: GPL-3.0-or-later
"""Initial values: a function of seed and name alone."""

import functools

import numpy as np
import pytest
from tf_run import run

from sqair.engine.initial_values import keyed_by_name
from sqair.engine.lean_graph import LeanGraph
from sqair.graph_mode import snt, tf
from sqair.model import noise
from sqair.model.sqair import mlp_sqair

SIZES = dict(n_steps_per_image=2, n_what=4, n_units=1, glimpse_size=5)


@functools.lru_cache(maxsize=None)
def values(seed=0, before=False, compact=True, lean=True, model=True):
    """Initial values by name, of the model or of a layer of Sonnet's."""
    with (LeanGraph() if lean else tf.Graph()).as_default():
        tf.set_random_seed(seed)
        if before:
            tf.random.normal([3])
        with keyed_by_name():
            if model:
                built = mlp_sqair(np.zeros((9, 8, 1), np.float32), compact=compact, **SIZES)
                call = lambda: built(tf.zeros([1, 1, 9, 8, 1]), noise.mode(1, 1, 1, built.noise))  # noqa: E731
            else:
                linear = snt.Linear(5)
                call = lambda: linear(tf.zeros([2, 3]))  # noqa: E731
                tf.get_variable("vector", [7])
        call()  # some variables are made only now
        return run({v.op.name: v for v in tf.global_variables()})


def same(a, b):
    assert set(a) == set(b)
    return [name for name in a if not np.array_equal(a[name], b[name])]


@pytest.mark.parametrize("change", [dict(compact=False), dict(before=True), dict(lean=False)], ids=str)
def test_what_else_the_graph_holds_changes_nothing(change):
    assert not same(values(), values(**change))


def test_another_seed_is_another_start():
    first, second = values(), values(seed=1)
    differing = same(first, second)
    assert {"image_encoder/hidden_0/w", "sqair/propagation_core/temporal/bz"} <= set(differing)
    fixed = set(first) - set(differing)
    assert all(
        np.all(first[name] == first[name].flat[0]) or "readout/b" in name or "later" in name for name in fixed
    )


def test_no_two_variables_start_alike():
    found = values()
    same_shape = [found[f"sqair/propagation_core/temporal/u{gate}"] for gate in "zrh"]
    assert np.abs(same_shape[0] - same_shape[1]).max() > 0.1
    assert np.abs(same_shape[0] - same_shape[2]).max() > 0.1


def test_other_modules_and_the_default_initialiser_are_keyed_too():
    first, second = values(model=False), values(model=False, before=True)
    assert not same(first, second)
    assert np.std(first["vector"]) > 0.1
    assert np.std(first["linear/w"]) > 0.1


def test_spreads_are_those_of_the_initialisers():
    with keyed_by_name():
        tf.get_variable("glorot", [300, 500])
        tf.get_variable("normal", [300, 500], initializer=tf.truncated_normal_initializer(stddev=0.2))
        tf.get_variable("count", [], tf.int64, tf.zeros_initializer())
    found = run({v.op.name: v for v in tf.global_variables()})
    np.testing.assert_allclose(np.std(found["glorot"]), np.sqrt(2 / 800), rtol=0.02)
    np.testing.assert_allclose(np.std(found["normal"]), 0.88 * 0.2, rtol=0.02)
