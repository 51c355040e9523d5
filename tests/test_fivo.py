# SPDX-License-Identifier: GPL-3.0-or-later
"""FIVO against a particle filter in loops, the Kalman filter, and the enumeration of all that can happen."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference_fivo as reference
from mutated_module import mutated
from reference_bounds import log_mean_exp
from scipy import stats
from tf_run import run

from sqair.baselines import fivo
from sqair.engine.unroll import unroll
from sqair.graph_mode import snt, tf
from sqair.model import bounds

T, B, K = 7, 4, 5


class Inputs(NamedTuple):
    x: Any  # [B, 1]
    noise: Any  # [B, K]
    uniforms: Any  # [B, K]


class Outputs(NamedTuple):
    z: Any  # [R, 1]
    log_weights: Any  # [R, 1]
    parents: Any  # [R, 1]


class LinearGaussianCell(snt.RNNCore):
    """The linear-Gaussian model of the oracle, as FIVO's docstring says that a cell filters."""

    def __init__(self, kind, below, filtering=fivo):
        super().__init__(name="cell")
        self._proposal, self._below, self._filter = reference.proposal(kind), below, filtering
        with self._enter_variable_scope():
            self.shift = tf.get_variable("shift", [], initializer=tf.zeros_initializer())

    def initial_state(self, rows):
        return self._filter.first_particles(tf.fill([rows, 1], 0.0))

    def _build(self, inputs, particles):
        particles, parents = self._filter.resample(particles, inputs.uniforms, self._below)
        of_state, of_x, scale = self._proposal
        x = tf.repeat(inputs.x, inputs.uniforms.shape[1].value, axis=0)
        z_tm1, noise = particles.state, tf.reshape(inputs.noise, [-1, 1])
        loc = of_state * z_tm1 + of_x * x + self.shift
        z = loc + scale * noise
        log_p = normal_log_prob(z, reference.A * z_tm1, reference.Q) + normal_log_prob(x, z, reference.R)
        log_weight = log_p - normal_log_prob(z, loc, scale)
        particles, log_weights = self._filter.weigh(particles, z, log_weight, inputs.uniforms.shape[1].value)
        return Outputs(z, log_weights, parents), particles

    @property
    def output_size(self):
        return Outputs(*[tf.TensorShape([1])] * 3)


def normal_log_prob(x, loc, scale):
    return -0.5 * ((x - loc) / scale) ** 2 - np.log(scale) - reference.HALF_LOG_TWO_PI


def draw_inputs(seed=0, length=T, batch_size=B, k_particles=K):
    rng = np.random.RandomState(seed)
    noise, uniforms = (
        rng.normal(size=(length, batch_size, k_particles)),
        rng.uniform(size=(length, batch_size, k_particles)),
    )
    return Inputs(2 * rng.normal(size=(length, batch_size, 1)), noise, uniforms)


def filtered(inputs, kind, below=0.5, filtering=fivo, streams=2):
    """The cell, its outputs as `[T, B, K]` tensors, and what FIVO says of all frames up to each, `[T, B]`."""
    k_particles = inputs.noise.shape[2]
    cell = LinearGaussianCell(kind, below, filtering)
    outputs, _ = unroll(cell, Inputs(*[tf.constant(x, tf.float32) for x in inputs]), k_particles, streams)
    outputs = Outputs(*[tf.reshape(x, inputs.noise.shape) for x in outputs])
    return cell, outputs, tf.cumsum(bounds.iwae(outputs.log_weights), axis=0)


def by_the_oracle(inputs, kind, below=0.5, parents=None):
    found = []
    for b in range(inputs.noise.shape[1]):
        step = reference.linear_gaussian_step(inputs.x[:, b, 0], inputs.noise[:, b], kind)
        own = None if parents is None else parents[:, b]
        found.append(reference.particle_filter(step, 0.0, len(inputs.x), inputs.uniforms[:, b], below, own))
    return {name: np.stack([one[name] for one in found], 1) for name in found[0]}


# The whole recursion


def check_recursion(filtering=fivo, kind="bootstrap", below=0.5, k_particles=K, streams=2):
    inputs = draw_inputs(k_particles=k_particles)
    _, outputs, log_evidence = filtered(inputs, kind, below, filtering, streams)
    parents = tf.cast(outputs.parents, tf.int32)
    lineage = filtering.lineages(parents)
    histories = filtering.follow(tf.reshape(outputs.z, [T, B * k_particles, 1]), lineage)
    weights = bounds.importance_weights(outputs.log_weights[-1])
    outputs, log_evidence, lineage, histories, weights = run(
        [outputs, log_evidence, lineage, histories, weights]
    )
    expected = by_the_oracle(inputs, kind, below)
    np.testing.assert_array_equal(outputs.parents, expected["parents"])
    np.testing.assert_allclose(outputs.z, expected["states"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(log_evidence, expected["log_evidence"], rtol=1e-4, atol=1e-4)
    last = np.exp(expected["log_w"][-1])
    np.testing.assert_allclose(weights, last / last.sum(-1, keepdims=True), rtol=1e-3, atol=1e-5)
    histories = histories.reshape(T, B, k_particles)
    for b in range(B):
        own = reference.lineages(expected["parents"][:, b])
        np.testing.assert_array_equal(lineage[:, b], own)
        for t in range(T):
            np.testing.assert_allclose(histories[t, b], outputs.z[t, b][own[t]], rtol=1e-6)
    return expected["resampled"]


@pytest.mark.parametrize(
    "kind, below, streams",
    [("bootstrap", 0.5, 1), ("bootstrap", 0.5, 2), ("optimal", 0.9, 2), ("optimal", 2.0, 1)],
)
def test_it_is_the_particle_filter_of_the_oracle(kind, below, streams):
    resampled = check_recursion(kind=kind, below=below, streams=streams)
    assert np.any(resampled[1:]) and (np.all(resampled) == (below > 1))


def test_one_particle_is_never_resampled_and_two_may_be():
    assert not np.any(check_recursion(k_particles=1))
    assert np.any(check_recursion(k_particles=2, below=0.9))


def test_without_resampling_it_is_iwae():
    inputs = draw_inputs()
    results = [filtered(inputs, "bootstrap", below)[1:] for below in (0.0, 1e-3)]  # never, and never reached
    never, unreached = run(results)
    for a, b in zip(tf.nest.flatten(never), tf.nest.flatten(unreached)):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(never[0].parents, np.broadcast_to(np.arange(K), (T, B, K)))
    steps = [
        reference.linear_gaussian_step(inputs.x[:, b, 0], inputs.noise[:, b], "bootstrap") for b in range(B)
    ]
    for b, step in enumerate(steps):
        total, states = np.zeros(K), np.zeros(K)
        for t in range(T):
            states, log_w = np.transpose([step(t, k, states[k]) for k in range(K)])
            total += log_w
        np.testing.assert_allclose(never[1][-1, b], log_mean_exp(total), rtol=1e-5)


# What is estimated


def check_estimate(filtering=fivo, kind="bootstrap", below=0.5, replicas=6000):
    """The mean of the estimate over replicas of one sequence, for every number of its frames."""
    inputs = draw_inputs(3, length=5, batch_size=replicas, k_particles=4)
    x = inputs.x[:, 0, 0] / 2
    inputs = inputs._replace(x=np.tile(x[:, None, None], [1, replicas, 1]))
    _, outputs, log_evidence = filtered(inputs, kind, below, filtering)
    log_evidence, parents = run([log_evidence, outputs.parents])
    assert np.mean(parents != np.arange(4)) > 0.1  # it is the resampling that is tried
    log_ratios = log_evidence - reference.linear_gaussian_log_likelihood(x)[:, None]
    ratios = np.exp(log_ratios)
    errors = ratios.std(1, ddof=1) / np.sqrt(replicas)
    assert np.all(errors < 0.05)
    np.testing.assert_array_less(np.abs(ratios.mean(1) - 1), 4 * errors + 1e-5)
    assert np.all(log_ratios[1:].mean(1) < 0)  # so that its logarithm is a bound


@pytest.mark.parametrize("kind, below", [("bootstrap", 0.5), ("optimal", 0.95)])
def test_the_mean_of_the_estimate_is_the_likelihood_that_the_kalman_filter_knows(kind, below):
    check_estimate(kind=kind, below=below)


def test_resampling_tightens_the_bound_of_a_long_sequence():
    inputs = draw_inputs(5, length=40, batch_size=200, k_particles=8)
    means = [np.mean(run(filtered(inputs, "bootstrap", below)[2])[-1]) for below in (0.0, 0.5)]
    exact = [reference.linear_gaussian_log_likelihood(x)[-1] for x in inputs.x[:, :, 0].T]
    assert means[0] + 5 < means[1] < np.mean(exact)


PRIOR, STAY = 0.3, 0.8  # p(z_1 = 1), p(z_2 = z_1)
LOG_LIKELIHOOD = np.log([[0.1, 0.9], [0.7, 0.05]])  # [t, z_t]
Q_ONE = 0.6  # q(z_t = 1)


def discrete_log_weights(z):
    """`[..., 2]` of 0 and 1 to `[2, ...]`: what each of two frames adds to the weight of a history."""
    z = np.asarray(z)
    log_q = np.log(np.where(z == 1, Q_ONE, 1 - Q_ONE))
    first = np.log(np.where(z[..., 0] == 1, PRIOR, 1 - PRIOR)) + LOG_LIKELIHOOD[0][z[..., 0]] - log_q[..., 0]
    second = np.log(np.where(z[..., 0] == z[..., 1], STAY, 1 - STAY)) + LOG_LIKELIHOOD[1][z[..., 1]]
    return np.stack([first, second - log_q[..., 1]])


@pytest.mark.parametrize("below", [0.0, 0.9, 2.0])
def test_on_a_model_of_two_states_all_that_can_happen_adds_up_to_the_likelihood(below):
    """Two particles and two frames: all states of the first, all choices of parents, all states of the second."""
    first = np.array(list(itertools.product([0, 1], repeat=2)))  # [4, K]
    probability_q = np.prod(np.where(first == 1, Q_ONE, 1 - Q_ONE), 1)
    outcomes, estimates, total, parents_of = [], [], 0.0, tf.placeholder(tf.float32, [None, 2])
    z_1, z_2 = (tf.placeholder(tf.int32, [None, 2]) for _ in range(2))
    table = tf.constant(discrete_log_weights(np.array(list(itertools.product([0, 1], repeat=2)))), tf.float32)
    state = tf.reshape(tf.cast(z_1, tf.float32), [-1, 1])
    log_weight = tf.reshape(tf.gather(table[0], 2 * z_1), [-1, 1])
    particles, of_first = fivo.weigh(fivo.first_particles(state), state, log_weight, 2)
    particles, parents = fivo.resample(particles, parents_of, below)
    histories = 2 * tf.cast(particles.state, tf.int32) + tf.reshape(z_2, [-1, 1])
    _, of_second = fivo.weigh(particles, state, tf.gather(table[1], histories[:, 0])[:, None], 2)
    estimate = tf.exp(sum(bounds.iwae(tf.reshape(x, [-1, 2])) for x in (of_first, of_second)))
    weights = np.exp(discrete_log_weights(np.stack([first, first], -1))[0])
    shares = weights / weights.sum(1, keepdims=True)
    poor = weights.sum(1) ** 2 / (weights**2).sum(1) < below * 2
    for i, j in itertools.product(range(4), range(4)):
        for chosen in itertools.product([0, 1], repeat=2) if poor[i] else [(0, 1)]:
            chance = np.prod([shares[i, k] for k in chosen]) if poor[i] else 1.0
            middle = [shares[i, 0] / 2, shares[i, 0] + shares[i, 1] / 2]
            outcomes.append((first[i], [middle[k] for k in chosen], first[j], chosen))
            estimates.append(probability_q[i] * chance * probability_q[j])
    fed = [np.array(column) for column in zip(*outcomes)]
    found, chosen = run([estimate, parents], {z_1: fed[0], parents_of: fed[1], z_2: fed[2]})
    np.testing.assert_array_equal(chosen.reshape(-1, 2), fed[3])
    np.testing.assert_allclose(np.sum(estimates), 1.0)
    for a, b in itertools.product([0, 1], repeat=2):
        total += np.exp(discrete_log_weights([a, b]).sum() + np.log([1 - Q_ONE, Q_ONE])[[a, b]].sum())
    assert np.any(poor) == (below > 0)
    np.testing.assert_allclose(np.dot(estimates, found), total, rtol=1e-5)


# Resampling by itself


def particles_of(log_weights):
    rows = np.arange(log_weights.size, dtype=np.float32)
    state = dict(row=tf.constant(rows[:, None]), image=tf.constant(np.tile(rows[:, None, None], [1, 2, 3])))
    return fivo.Particles(state, tf.constant(log_weights.reshape(-1, 1), tf.float32))


def check_resampling(filtering=fivo):
    """Parents are drawn in proportion, are of the same sequence, and everything of them is taken."""
    batch_size, weights = 8000, np.array([0.55, 0.0, 0.3, 0.1, 0.05])
    with np.errstate(divide="ignore"):  # one of them is impossible
        log_weights = np.tile(np.log(K * weights), (batch_size, 1))
    uniforms = np.random.RandomState(0).uniform(size=(batch_size, K))
    resampled = filtering.resample(particles_of(log_weights), tf.constant(uniforms, tf.float32), 0.9)
    resampled, parents = run(resampled)
    parents = parents.reshape(batch_size, K)
    counts = np.bincount(parents.astype(int).ravel(), minlength=K)
    assert counts[1] == 0
    possible = weights > 0
    assert stats.chisquare(counts[possible], batch_size * K * weights[possible]).pvalue > 1e-3
    pairs = np.histogram2d(parents[:, 0], parents[:, 1], bins=[range(6), range(6)])[0]
    expected = batch_size * np.outer(weights, weights)
    possible = expected > 0
    assert stats.chisquare(pairs[possible], expected[possible]).pvalue > 1e-3  # drawn independently
    rows = resampled.state["row"].reshape(batch_size, K)
    np.testing.assert_array_equal(rows, parents + K * np.arange(batch_size)[:, None])
    np.testing.assert_array_equal(resampled.state["image"][:, 1, 2], rows.ravel())
    assert not np.any(resampled.log_weight)


def test_particles_are_drawn_in_proportion_and_stay_within_their_sequence():
    check_resampling()


def check_threshold(filtering=fivo):
    """Three particles alike of six are 3 effective ones: not below half of them, but below just more."""
    log_weights = np.where(np.arange(6) % 2, -200.0, [[0.0]])
    alike = np.zeros([1, 6])
    uniforms = tf.fill([2, 6], 0.99)
    for below, resampled in ((0.49, False), (0.51, True)):
        particles = particles_of(np.concatenate([log_weights, alike]))
        parents = run(filtering.resample(particles, uniforms, below)[1]).reshape(2, 6)
        np.testing.assert_array_equal(parents[0], [4] * 6 if resampled else np.arange(6))
        np.testing.assert_array_equal(parents[1], np.arange(6))  # each sequence by itself


def test_a_sequence_is_resampled_when_its_own_effective_sample_size_falls_too_low():
    check_threshold()


def test_the_default_is_half():
    log_weights = np.concatenate([np.zeros([1, 10]), np.zeros([1, 10])])
    log_weights[0, 4:], log_weights[1, 6:] = -200.0, -200.0
    parents = fivo.resample(particles_of(log_weights), tf.fill([2, 10], 0.0))[1]
    np.testing.assert_array_equal(run(parents).reshape(2, 10), [[0] * 10, range(10)])


# Gradients


def check_gradient(filtering=fivo):
    """The bound's gradient is that of the oracle's bound while the same parents are chosen: the choice has none."""
    inputs = draw_inputs()
    cell, outputs, log_evidence = filtered(inputs, "bootstrap", filtering=filtering)
    gradient = tf.gradients(tf.reduce_sum(log_evidence[-1]), cell.shift)[0]
    gradient, parents = run([gradient, outputs.parents])
    parents = parents.astype(int)

    def bound(shift):
        """As if each proposal's mean were moved."""
        of_state, of_x, scale = reference.proposal("bootstrap")
        total = 0.0
        for b in range(B):

            def step(t, k, z_tm1, b=b):
                loc = of_state * z_tm1 + shift
                z = loc + scale * inputs.noise[t, b, k]
                log_p = reference.normal_log_prob(z, reference.A * z_tm1, reference.Q)
                log_p += reference.normal_log_prob(inputs.x[t, b, 0], z, reference.R)
                return z, log_p - reference.normal_log_prob(z, loc, scale)

            total += reference.particle_filter(step, 0.0, T, inputs.uniforms[:, b], 0.5, parents[:, b])[
                "log_evidence"
            ][-1]
        return total

    assert np.any(by_the_oracle(inputs, "bootstrap")["resampled"])
    np.testing.assert_allclose(gradient, (bound(1e-5) - bound(-1e-5)) / 2e-5, rtol=1e-4)


def test_the_gradient_is_that_of_the_chosen_particles():
    check_gradient()


def test_the_choice_itself_has_no_gradient():
    log_weights = tf.constant(np.random.RandomState(0).normal(size=[B * K, 1]) * 9, tf.float32)
    uniforms = tf.constant(draw_inputs().uniforms[0], tf.float32)
    particles, parents = fivo.resample(fivo.Particles(tf.ones([B * K, 2]), log_weights), uniforms)
    assert tf.gradients(parents, [log_weights, uniforms]) == [None, None]
    assert tf.gradients(particles.state, log_weights) == [None]
    changed = run(parents).ravel() != np.tile(np.arange(K), B)
    assert np.any(changed)


# Mistakes


DRAWN, SCANNED = (
    "sample_categorical(uniforms, weights)",
    "tf.scan(step, next_parents, last, reverse=True, back_prop=False)",
)
MISTAKES = {
    "the rich are resampled": ("[:, None] < below", "[:, None] > below", check_threshold),
    "all are resampled": ("[:, None] < below", "[:, None] < 9.0 + below", check_threshold),
    "weights stay as they were": ("poor, tf.zeros_like(log_weights)", "poor, log_weights", check_recursion),
    "weights are not normalised": (
        "log_weights - bounds.iwae(log_weights)",
        "log_weights - 0 * bounds.iwae(log_weights)",
        check_estimate,
    ),
    "the best has weight one": (
        "bounds.iwae(log_weights)[:",
        "tf.reduce_max(log_weights, 1)[:",
        check_estimate,
    ),
    "the mean logarithm is zero": (
        "bounds.iwae(log_weights)[:",
        "tf.reduce_mean(log_weights, 1)[:",
        check_estimate,
    ),
    "normalising has no gradient": (
        "bounds.iwae(log_weights)[:",
        "tf.stop_gradient(bounds.iwae(log_weights))[:",
        check_gradient,
    ),
    "frames forget": ("particles.log_weight + log_weight", "log_weight", check_recursion),
    "parents are of the first sequence": (
        "[:, None] * k_particles, [-1]",
        "[:, None] * 0, [-1]",
        check_resampling,
    ),
    "states stay where they are": ("gather_rows(x, rows), particles", "x, particles", check_recursion),
    "parents are drawn as if alike": (
        DRAWN,
        DRAWN.replace("weights", "tf.ones_like(weights)"),
        check_resampling,
    ),
    "one number draws all parents": (
        DRAWN,
        DRAWN.replace("uniforms", "0 * uniforms + uniforms[:, :1]"),
        check_resampling,
    ),
    "lineages run forwards": ("reverse=True", "reverse=False", check_recursion),
    "lineages are parents": (SCANNED, "next_parents", check_recursion),
}


@pytest.mark.slow
@pytest.mark.parametrize("right, wrong, check", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_noticed(right, wrong, check):
    with pytest.raises(AssertionError):
        check(mutated(fivo, right, wrong))
