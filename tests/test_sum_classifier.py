# SPDX-License-Identifier: GPL-3.0-or-later
"""The classifier beside one in float64 NumPy, with the gradient by hand."""

import itertools
import math

import numpy as np

from sqair.evaluation import sum_classifier
from sqair.evaluation.sum_classifier import SumClassifier


def values_of(classifier, variables):
    return [value.astype(np.float64) for value in classifier._session.run(variables)]


def slow_log_probs(weights, frame):
    """Of one frame `[F]`, one number after the other."""
    x = list(frame.astype(np.float64))
    for layer in range(0, len(weights), 2):
        w, b = weights[layer : layer + 2]
        x = [b[j] + sum(x[i] * w[i, j] for i in range(len(x))) for j in range(len(b))]
        if layer < len(weights) - 2:
            x = [value if value > 0 else math.expm1(value) for value in x]
    total = math.log(sum(math.exp(value) for value in x))
    return np.array([value - total for value in x])


def slow_gradients(weights, features, sums):
    """The mean cross-entropy's gradients; `weights` are w, b of each layer in turn, `features` `[n, F]`."""
    layers = list(zip(weights[::2], weights[1::2]))
    inputs, x = [], features.astype(np.float64)
    for number, (w, b) in enumerate(layers):
        inputs.append(x)
        x = x @ w + b
        if number < len(layers) - 1:
            x = np.where(x > 0, x, np.expm1(x))
    log_probs = x - np.log(np.exp(x).sum(1, keepdims=True))
    d = (np.exp(log_probs) - np.eye(x.shape[1])[sums]) / len(sums)
    gradients = []
    for x, (w, _) in zip(inputs[::-1], layers[::-1]):
        gradients = [x.T @ d, d.sum(0)] + gradients
        d = (d @ w.T) * np.where(x > 0, 1, x + 1)  # ELU's derivative by its value
    return gradients


def data(n=70, seq_len=1, num_slots=1, width=6):
    rng = np.random.RandomState(0)
    features = rng.normal(size=(n, seq_len, num_slots, width)).astype(np.float32)
    return features, rng.randint(19, size=n)


def test_a_sequence_is_classified_by_the_mean_over_its_frames(monkeypatch):
    monkeypatch.setattr(sum_classifier, "HIDDEN", (7, 5))
    monkeypatch.setattr(sum_classifier, "_TESTED_AT_ONCE", 9)
    features, sums = data(20, seq_len=3, num_slots=2, width=3)
    classifier = SumClassifier(2, 3)
    weights = [5 * w for w in values_of(classifier, classifier.tested)]
    for variable, value in zip(classifier.tested, weights):
        variable.load(value, classifier._session)
    log_probs = np.array([np.mean([slow_log_probs(weights, f.ravel()) for f in s], axis=0) for s in features])
    sums[:10] = log_probs[:10].argmax(1)
    right, loss = classifier.test(features, sums)
    np.testing.assert_array_equal(right, log_probs.argmax(1) == sums)
    assert right[:10].all() and not right.all()
    np.testing.assert_allclose(loss, -log_probs[np.arange(20), sums].mean(), rtol=1e-4)
    classifier.close()


def test_updates_agree_with_the_slow_ones():
    features, sums = data()
    classifier = SumClassifier(1, 6, seed=3, batch_size=70)
    weights = values_of(classifier, classifier.learning)
    averages = [np.zeros_like(w) for w in weights]
    assert [value.shape for value in weights] == [(6, 256), (256,), (256, 256), (256,), (256, 19), (19,)]
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    for step in range(1, 4):
        for i, gradient in enumerate(slow_gradients(weights, features[:, 0, 0], sums)):
            first[i] += 0.1 * (gradient - first[i])
            second[i] += 0.001 * (gradient**2 - second[i])
            rate = 1e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            weights[i] = weights[i] - rate * first[i] / (np.sqrt(second[i]) + 1e-8)
        for average, w in zip(averages, weights):
            average += (1 - min(sum_classifier.DECAY, (step - 1) / (step + 9))) * (w - average)
        classifier.update(features, sums)
        for variables, all_wanted in ((classifier.learning, weights), (classifier.tested, averages)):
            for found, wanted in zip(values_of(classifier, variables), all_wanted):
                # Adam divides by the gradient's size: much is made of the rounding of one that is next to none.
                assert np.mean(np.abs(found - wanted) > 2e-5) < 0.01
    classifier.close()


def test_averages_are_over_the_last_updates_in_the_end(monkeypatch):
    monkeypatch.setattr(sum_classifier, "DECAY", 0.5)
    features, sums = data()
    classifier = SumClassifier(1, 6)
    for _ in range(12):
        classifier.update(features, sums)
    before = values_of(classifier, classifier.tested)
    classifier.update(features, sums)
    after, learning = (values_of(classifier, v) for v in (classifier.tested, classifier.learning))
    for old, new, learnt in zip(before, after, learning):
        np.testing.assert_allclose(new, 0.5 * (old + learnt), rtol=0, atol=1e-6)
        assert np.abs(new - old).max() > 1e-5
    classifier.close()


def test_every_example_is_learnt_from_as_often_and_the_seed_fixes_the_order(monkeypatch):
    features = np.arange(30.0).reshape(10, 3, 1, 1) + [[0.0], [0.25], [0.5]]  # tell sequence, frame and slot
    sums = np.arange(10)
    orders = []
    for seed in (1, 1, 2):
        classifier, seen, frames, slots = SumClassifier(3, 1, seed, batch_size=4), [], [], []
        run = classifier._session.run

        def record(fetches, feed=None, run=run, seen=seen, frames=frames, slots=slots, classifier=classifier):
            seen.extend(feed[classifier._sums].tolist())
            shown = feed[classifier._features].reshape(4, 3) - 3 * feed[classifier._sums][:, None]
            frames.extend(np.floor(shown[:, 0]).tolist())
            slots.extend(map(tuple, 4 * (shown % 1)))
            return run(fetches, feed)

        monkeypatch.setattr(classifier._session, "run", record)
        for _ in range(5):
            classifier.update(features, sums)
        assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
        assert set(frames) == {0, 1, 2}
        assert set(slots) <= set(itertools.permutations(range(3))) and len(set(slots)) > 3
        orders.append((seen, frames, slots))
        classifier.close()
    assert orders[0] == orders[1] != orders[2]


def test_the_seed_fixes_initial_values():
    found = []
    for seed in (1, 1, 2):
        classifier = SumClassifier(1, 3, seed)
        found.append(values_of(classifier, classifier.tested)[0])
        classifier.close()
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0


def test_weights_that_were_kept_come_back():
    features, sums = data()
    classifier = SumClassifier(1, 6)
    classifier.update(features, sums)
    classifier.keep()
    kept = values_of(classifier, classifier.tested)
    for _ in range(3):
        classifier.update(features, sums)
    assert np.abs(values_of(classifier, classifier.tested)[0] - kept[0]).max() > 0
    classifier.restore()
    for found, wanted in zip(values_of(classifier, classifier.tested), kept):
        np.testing.assert_array_equal(found, wanted)
    classifier.close()
