# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics of sequences against loops over particles, sequences and frames."""

import numpy as np
import pytest
from test_objective import SHAPE, N, Numbers, T
from tf_run import run

from sqair.data.pipeline import SequenceBatch
from sqair.evaluation import sequence_statistics
from sqair.evaluation.sequence_statistics import SequenceStatistics
from sqair.graph_mode import tf
from sqair.model.sequence_bounds import Filtered, IndependentFrames, WholeSequences
from sqair.training import objective

B, K, M = 3, 4, 2


def of_numbers(numbers, visible):
    """What `of_result` makes of the stub's numbers."""
    batch = SequenceBatch(
        images=tf.constant(numbers.images, tf.float32),
        boxes=None,
        presence=tf.constant(numbers.true_presence, tf.float32),
        labels=None,
        visible=tf.constant(visible, tf.float32),
    )
    result = objective.loss_and_report(numbers, batch, numbers.k, noise=None, estimator="reinforce")
    return run(sequence_statistics.of_result(result, batch, numbers)), run(dict(result.scalars))


@pytest.fixture(scope="module", params=[WholeSequences, IndependentFrames, Filtered])
def case(request):
    """Random results of B sequences with K particles, their statistics, and the scalars of the same."""
    numbers = Numbers(B, K, request.param())
    visible = np.random.RandomState(0).choice([0.0, 0.2, 0.25, 1.0], size=(T, B, M))
    with tf.Graph().as_default():
        found, scalars = of_numbers(numbers, visible)
    return numbers, visible, found, scalars


def normalised(weights):
    return weights / weights.sum()


def by_loops(numbers, visible):
    """The same by the definitions, in float64; the weights in a frame are those of the numbers' bound."""
    shapes = SequenceStatistics(*[(T, B)] * 8, (T, B, N + 1), (T, B), (T, B))
    out = SequenceStatistics(*map(np.zeros, shapes))
    log_w = numbers.per_row["log_weights"].reshape(T, B, K)
    for b in range(B):
        for t in range(T):
            weights, weighed, bound = {
                WholeSequences: (log_w[:, b].sum(0), log_w[: t + 1, b].sum(0), [log_w[: t + 1, b].sum(0)]),
                IndependentFrames: (log_w[t, b], log_w[t, b], log_w[: t + 1, b]),
                Filtered: (log_w[-1, b], log_w[t, b], log_w[: t + 1, b]),
            }[type(numbers.bound)]
            weights, weighed = normalised(np.exp(weights)), normalised(np.exp(weighed))
            out.log_mean_weight[t, b] = np.sum(np.log(np.mean(np.exp(bound), axis=-1)))
            out.sum_of_squares[t, b] = np.sum(weighed**2)
            out.normalised_vae[t, b] = np.nan if numbers.bound.name == "fivo" else np.mean(log_w[t, b])
            out.true_count[t, b] = numbers.true_presence[t, b].sum()
            out.visible_count[t, b] = sum(
                p for p, v in zip(numbers.true_presence[t, b], visible[t, b]) if v >= 0.25
            )
            for k in range(K):
                row, w = b * K + k, weights[k]
                per_row = {name: value[t, row] for name, value in numbers.per_row.items()}
                out.data_ll[t, b] += w * per_row["log_likelihood"]
                out.kl[t, b] += w * (per_row["log_q"] - per_row["log_p"])
                out.mse[t, b] += w * np.mean((numbers.images[t, b] - numbers.canvas[t, row]) ** 2)
                out.num_disc_steps[t, b] += w * numbers.presence["discovered"][t, row].sum()
                out.num_prop_steps[t, b] += w * numbers.presence["propagated"][t, row].sum()
                out.count_prob[t, b, numbers.presence["kept"][t, row].sum()] += w
    return out


def test_statistics_against_loops(case):
    numbers, visible, found, _ = case
    assert np.prod(SHAPE) > 1
    for name, value in by_loops(numbers, visible)._asdict().items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_they_amount_to_what_a_training_reports(case):
    numbers, _, found, scalars = case
    estimates = sequence_statistics.summarise(found, numbers.bound)
    assert ("normalised_vae" in estimates) == (numbers.bound.name != "fivo")
    for name in set(estimates) - {"visible_step_acc"}:
        np.testing.assert_allclose(estimates[name].mean, scalars[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_particles_in_parts_amount_to_all_of_them(case):
    numbers, visible, found, _ = case
    if not numbers.bound.joins:
        return
    parts = []
    for first in (0, 2):
        half = Numbers(B, K // 2, numbers.bound)
        rows = [b * K + k for b in range(B) for k in range(first, first + 2)]
        half.per_row = {name: value[:, rows] for name, value in numbers.per_row.items()}
        half.presence = {name: value[:, rows] for name, value in numbers.presence.items()}
        half.canvas = numbers.canvas[:, rows]
        half.images, half.true_presence = numbers.images, numbers.true_presence
        with tf.Graph().as_default():
            parts.append(of_numbers(half, visible)[0])
    for name, value in sequence_statistics.join_particles(parts, numbers.bound)._asdict().items():
        np.testing.assert_allclose(value, getattr(found, name), rtol=2e-4, atol=2e-5, err_msg=name)


def test_parts_of_any_weight_leave_true_counts_whole(case):
    found, rng = case[2], np.random.RandomState(0)
    parts = [
        found._replace(log_mean_weight=found.log_mean_weight + rng.normal(size=found.log_mean_weight.shape))
        for _ in range(20)
    ]
    joined = sequence_statistics.join_particles(parts, WholeSequences())
    np.testing.assert_array_equal(joined.true_count, found.true_count)
    np.testing.assert_array_equal(joined.visible_count, found.visible_count)
    assert sequence_statistics.confusion(joined).sum() == pytest.approx(found.true_count.size)


def test_sequences_are_joined_in_order(case):
    found = case[2]
    parts = [SequenceStatistics(*(x[:, some] for x in found)) for some in (slice(0, 2), slice(2, 3))]
    for joined, whole in zip(sequence_statistics.join_sequences(parts), found):
        np.testing.assert_array_equal(joined, whole)


def test_standard_errors_are_over_sequences(case):
    found = case[2]
    estimate = sequence_statistics.summarise(found, WholeSequences())["data_ll"]
    of_sequences = found.data_ll.mean(0)
    spread = np.sqrt(np.sum((of_sequences - of_sequences.mean()) ** 2) / (B - 1))
    assert estimate.standard_error == pytest.approx(spread / np.sqrt(B), rel=1e-5)
    np.testing.assert_allclose(estimate.by_frame, found.data_ll.mean(1), rtol=1e-6)
    np.testing.assert_allclose(estimate.by_frame_error, found.data_ll.std(1) * np.sqrt(3 / 2) / np.sqrt(B))
    alone = SequenceStatistics(*(x[:, :1] for x in found))
    alone = sequence_statistics.summarise(alone, WholeSequences())["data_ll"]
    assert np.isnan(alone.standard_error) and np.isnan(alone.by_frame_error).all()


def test_counts_of_one_true_number_are_a_row():
    zeros = np.zeros([2, 2])
    prob = np.float64([[[0, 1, 0], [0.5, 0.5, 0]], [[0, 0.25, 0.75], [1, 0, 0]]])
    found = SequenceStatistics(*[zeros] * 8, prob, np.float64([[1, 3], [1, 0]]), np.float64([[1, 0], [1, 0]]))
    wanted = [[1, 0, 0], [0, 1.25, 0.75], [0, 0, 0], [0.5, 0.5, 0]]
    np.testing.assert_array_equal(sequence_statistics.confusion(found), wanted)
    np.testing.assert_array_equal(
        sequence_statistics.confusion(found, visible=True), [[1.5, 0.5, 0], [0, 1.25, 0.75]]
    )


def test_counts_are_not_judged_where_nothing_is_annotated():
    numbers = Numbers(B, K)
    numbers.true_presence = numbers.true_presence[..., :0]
    with tf.Graph().as_default():
        found, _ = of_numbers(numbers, np.zeros((T, B, 0)))
    estimates = sequence_statistics.summarise(found, numbers.bound)
    assert "num_steps" in estimates and not {"num_step_acc", "visible_step_acc"} & set(estimates)
    assert sequence_statistics.confusion(found).shape == (0, N + 1)


def test_without_objects_nothing_is_said_of_them():
    numbers = Numbers(B, K)
    with_objects = list(numbers.evaluate().scalars)
    numbers.n_steps = 0
    with tf.Graph().as_default():
        found, scalars = of_numbers(numbers, np.ones((T, B, M)))
    assert [name for name in with_objects if "step" not in name] == list(scalars)
    estimates = sequence_statistics.summarise(found, numbers.bound)
    assert list(estimates) == ["normalised_iwae", "normalised_vae", "data_ll", "kl", "mse", "ess"]
    assert sequence_statistics.confusion(found).shape == (0, 0)
    joined = sequence_statistics.join_particles([found, found], numbers.bound)
    np.testing.assert_allclose(joined.data_ll, found.data_ll)
    assert joined.count_prob.shape == (T, B, 0)
