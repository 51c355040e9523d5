# SPDX-License-Identifier: GPL-3.0-or-later
"""What is minimised and reported, with a stub that returns given numbers in place of the model."""

import collections
import itertools

import numpy as np
import pytest
import reference_bounds
from tf_run import run

from sqair.data.pipeline import SequenceBatch
from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.model.sequence_bounds import Filtered, IndependentFrames, WholeSequences
from sqair.model.structures import Latents, PhaseOutputs, SequenceOutputs, StepOutputs
from sqair.training import objective

T, N, SHAPE = 4, 3, (5, 4, 2)


class Numbers:
    """Random results of a model for B sequences with K particles, and the stub that returns them."""

    n_steps = N

    def __init__(self, batch_size, k_particles, bound=None):
        self.b, self.k, self.bound = batch_size, k_particles, bound or WholeSequences()
        rng = np.random.RandomState(batch_size)
        rows = batch_size * k_particles
        names = "log_q log_p discrete_log_q log_likelihood log_weights".split()
        self.per_row = {name: rng.normal(size=(T, rows)) for name in names}
        self.presence = {
            name: rng.randint(2, size=(T, rows, N)) for name in ("kept", "propagated", "discovered")
        }
        self.canvas = rng.uniform(size=(T, rows) + SHAPE)
        self.images = rng.uniform(size=(T, batch_size) + SHAPE)
        self.true_presence = rng.randint(2, size=(T, batch_size, 2))

    def __call__(self, images, noise):
        row = {name: tf.constant(value, tf.float32) for name, value in self.per_row.items()}
        kept, old, new = [tf.constant(value, tf.float32) for value in self.presence.values()]
        steps = StepOutputs(
            Latents(None, None, kept, None),
            None,
            None,
            PhaseOutputs(old, None, None, None),
            PhaseOutputs(new, None, None, None),
            *[row[name] for name in ("log_q", "log_p", "discrete_log_q")],
        )
        canvas = tf.constant(self.canvas, tf.float32)
        return SequenceOutputs(steps, canvas, None, row["log_likelihood"], row["log_weights"])

    def evaluate(self, **options):
        presence = tf.constant(self.true_presence, tf.float32)
        batch = SequenceBatch(tf.constant(self.images, tf.float32), None, presence, None, None)
        return objective.loss_and_report(self, batch, self.k, noise=None, **options)

    def log_weights(self):
        return self.per_row["log_weights"].sum(0).reshape(self.b, self.k)

    def expected_scalars(self):
        """By loops over sequences, particles and frames."""
        log_w = self.log_weights()
        weights = reference_bounds.importance_weights(log_w)
        totals = collections.defaultdict(float)
        for b, k, t in itertools.product(range(self.b), range(self.k), range(T)):
            row = b * self.k + k
            count = self.presence["kept"][t, row].sum()
            error = np.mean((self.images[t, b] - self.canvas[t, row]) ** 2)
            log_q, log_p = self.per_row["log_q"][t, row], self.per_row["log_p"][t, row]
            values = dict(
                data_ll=self.per_row["log_likelihood"][t, row],
                kl=log_q - log_p,
                log_p_z=log_p,
                log_q_z_given_x=log_q,
                num_steps=count,
                num_disc_steps=self.presence["discovered"][t, row].sum(),
                num_prop_steps=self.presence["propagated"][t, row].sum(),
                num_step_acc=float(count == self.true_presence[t, b].sum()),
                mse=error,
            )
            for name, value in values.items():
                totals[name] += weights[b, k] * value / (self.b * T)
            for name in ("num_steps", "num_disc_steps", "num_prop_steps", "mse"):
                totals[f"raw_{name}"] += values[name] / (self.b * self.k * T)
        return dict(
            totals,
            normalised_vae=reference_bounds.elbo(log_w) / T,
            normalised_iwae=reference_bounds.iwae(log_w) / T,
            ess=reference_bounds.ess(log_w),
        )


@pytest.mark.parametrize("batch_size, k_particles", [(1, 3), (5, 2), (2, 1)])
def test_scalars_against_loops(batch_size, k_particles):
    numbers = Numbers(batch_size, k_particles)
    result = numbers.evaluate(estimator="reinforce")
    expected = numbers.expected_scalars()
    actual = run(dict(result.scalars))
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert np.shape(actual[name]) == ()
        np.testing.assert_allclose(actual[name], value, rtol=2e-4, atol=1e-5, err_msg=name)


def test_counts_are_not_judged_where_nothing_is_annotated():
    numbers = Numbers(2, 2)
    names = list(numbers.evaluate().scalars)
    numbers.true_presence = numbers.true_presence[..., :0]
    without = list(numbers.evaluate().scalars)
    assert without == [name for name in names if name != "num_step_acc"] != names


@pytest.mark.parametrize("estimator", ["reference", "vimco", "reinforce"])
def test_loss_is_the_estimators_of_log_weights_summed_over_time(estimator):
    numbers = Numbers(3, 2)
    result = numbers.evaluate(estimator=estimator)
    discrete = numbers.per_row["discrete_log_q"].sum(0).reshape(3, 2)
    expected = reference_bounds.loss(estimator, numbers.log_weights(), discrete, T)
    loss, log_weights, weights, error = run(
        [result.loss, result.log_weights, result.importance_weights, result.squared_error]
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(log_weights.sum(0), numbers.log_weights(), rtol=1e-5)
    np.testing.assert_allclose(
        weights, reference_bounds.importance_weights(numbers.log_weights()), rtol=1e-4, atol=1e-6
    )
    images = np.repeat(numbers.images, 2, axis=1)
    expected = np.mean((images - numbers.canvas) ** 2, axis=(2, 3, 4)).reshape(T, 3, 2)
    np.testing.assert_allclose(error, expected, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["reference", "vimco", "reinforce"])
def test_of_independent_frames_each_has_a_loss(estimator):
    numbers = Numbers(3, 2, IndependentFrames())
    result = numbers.evaluate(estimator=estimator)
    log_w, discrete = (numbers.per_row[name].reshape(T, 3, 2) for name in ("log_weights", "discrete_log_q"))
    frames = [reference_bounds.loss(estimator, *frame, 1) for frame in zip(log_w, discrete)]
    bound, loss = run([result.scalars["normalised_iwae"], result.loss])
    np.testing.assert_allclose(loss, np.mean(frames), rtol=1e-5)
    np.testing.assert_allclose(bound, np.mean([reference_bounds.iwae(frame) for frame in log_w]), rtol=1e-5)


def test_a_filtered_loss_is_the_bound_alone():
    numbers = Numbers(3, 2, Filtered())
    result = numbers.evaluate()
    increments = [reference_bounds.iwae(frame) for frame in numbers.per_row["log_weights"].reshape(T, 3, 2)]
    assert "normalised_vae" not in result.scalars and list(numbers.evaluate().scalars) == list(result.scalars)
    loss, bound = run([result.loss, result.scalars["normalised_iwae"]])
    np.testing.assert_allclose([-loss, bound], [np.mean(increments)] * 2, rtol=1e-5)


@pytest.mark.parametrize("estimator", ["reference", "vimco"])
def test_one_particle_is_refused_where_an_estimator_needs_more(estimator):
    for bound in (WholeSequences(), IndependentFrames()):
        with pytest.raises(UserError, match=f"`k_particles=1` leaves no other .* `estimator={estimator}`"):
            Numbers(2, 1, bound).evaluate(estimator=estimator)
    assert np.isfinite(run(Numbers(2, 1, Filtered()).evaluate(estimator=estimator).loss))


def test_l2_adds_half_the_squares_of_trainable_variables():
    tf.get_variable("a", initializer=[3.0, 4.0])
    tf.get_variable("b", initializer=2.0)
    tf.get_variable("fixed", initializer=100.0, trainable=False)
    numbers = Numbers(2, 2)
    without, with_l2 = run([numbers.evaluate(l2=l2).loss for l2 in (0.0, 0.1)])
    np.testing.assert_allclose(with_l2 - without, 0.1 * (9 + 16 + 4) / 2, rtol=1e-4)
