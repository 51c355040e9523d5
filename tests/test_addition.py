# SPDX-License-Identifier: GPL-3.0-or-later
import csv
import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest

from sqair.data import mnist, moving_mnist
from sqair.data.pipeline import SequenceDataset
from sqair.errors import UserError
from sqair.evaluation import addition, sum_classifier
from sqair.evaluation.addition import Additions, Examples, Stopping
from sqair.evaluation.prediction import Features
from sqair.training.checkpoints import Checkpoint

T, F = 2, 20
CHECKPOINT = Checkpoint("run/checkpoints/model-7", 7, {"weight": np.ones(3)})


class Bar:
    """Counts what it is told."""

    def __init__(self):
        self.seen = 0

    def update(self, count):
        self.seen += count


class StubEvaluator:
    """Features that tell the sum: a one at its place, and noise."""

    def __init__(self, num_train=300, num_valid=60):
        rng = np.random.RandomState(3)
        self.asked, self.settings = [], SimpleNamespace(k_particles=5, seed=1)
        self.labels = {split: rng.randint(10, size=(n, 2)) for split, n in self.counts(num_train, num_valid)}
        self.data = {
            split: SimpleNamespace(
                num_sequences=len(labels), seq_len=T, image_shape=(5, 5, 1), mean_image=lambda: np.ones(2)
            )
            for split, labels in self.labels.items()
        }
        self._rng = rng

    @staticmethod
    def counts(num_train, num_valid):
        return (("train", num_train), ("valid", num_valid))

    def features(self, split, num_sequences):
        self.asked.append((split, num_sequences))
        for first in range(0, num_sequences, 32):
            labels = self.labels[split][first : min(first + 32, num_sequences)]
            features = 0.01 * self._rng.normal(size=(T, len(labels), F))
            features[:, np.arange(len(labels)), labels.sum(1)] += 1
            yield Features(features.astype(np.float32)[:, :, None], labels, None)


@pytest.fixture
def quick(monkeypatch):
    """Few looks, and a small network."""
    monkeypatch.setattr(addition.classify, "__defaults__", (3, 50))
    monkeypatch.setattr(addition, "PATIENT_SHARE", 0.0)
    monkeypatch.setattr(sum_classifier, "HIDDEN", (32,))


def test_stopping_by_hand():
    stopping = Stopping(patience=2)
    looks = [(10, 0.5, 1.0), (20, 0.5, 1.1), (30, 0.5, 0.9), (40, 0.6, 2.0), (50, 0.5, 0.1), (60, 0.6, 2.0)]
    found = []
    for look in looks:
        found.append((stopping.is_better(*look), stopping.best_step, stopping.is_over))
    assert found == [
        (True, 10, False),
        (False, 10, False),
        (True, 30, False),
        (True, 40, False),
        (False, 40, False),
        (False, 40, True),
    ]
    for step in range(70, 2000, 10):  # after many looks it waits for a fifth of them
        assert stopping.is_better(step, 0.6 + step / 10_000, 1.0)
    while not stopping.is_over:
        step += 10
        stopping.is_better(step, 0.0, 1.0)
    assert stopping.looks == step // 10 and stopping.looks_since == math.ceil(stopping.looks / 5)
    with pytest.raises(UserError, match="loss is nan at update 70"):
        stopping.is_better(70, 1.0, math.nan)


def test_sequences_with_two_digits_are_taken_with_their_sums(tmp_path):
    options = moving_mnist.Options(canvas_size=(30, 30), digit_scale=0.4, num_digits=(1, 2, 3), seq_len=1)
    folder, bundle = str(tmp_path / "set"), mnist.load_bundle()
    moving_mnist.create(folder, bundle, options, 200, 250, num_workers=1)
    data = {split: SequenceDataset(folder, split) for split in ("train", "valid")}
    chosen = addition.with_pairs(data)
    made = [s.labels for s in moving_mnist.make_chunk(bundle.train, options, 0, "train", 0, 200)]
    wanted = [labels[labels >= 0].sum() for labels in made if (labels >= 0).sum() == 2]
    assert chosen["train"].labels()[:, :2].sum(1).tolist() == wanted and 40 < len(wanted) < 100
    assert chosen["valid"].num_sequences == np.sum((data["valid"].labels() >= 0).sum(1) == 2)


def test_sums_are_those_of_the_digits_that_there_are():
    def features(split, count):
        for labels in ([[1, -1, 9], [2, 3, -1]], [[-1, 0, 0]]):
            values = np.arange(len(labels) * T, dtype=np.float32).reshape(T, len(labels), 1, 1)
            yield Features(values, np.array(labels), None)

    bar = Bar()
    found = addition.extract(SimpleNamespace(features=features), "train", 3, bar)
    assert found.sums.tolist() == [10, 5, 0] and bar.seen == 3
    np.testing.assert_array_equal(found.features[..., 0, 0], [[0, 2], [1, 3], [0, 1]])


def test_data_without_pairs_of_digits_are_refused():
    def dataset(labels):
        return SimpleNamespace(labels=lambda: np.array(labels))

    for labels, sentence in (
        ([[1, -1, -1]] * 50 + [[1, 2, 3]] * 50, "has 0 sequences with 2 labelled digits"),
        ([[1, 2, -1]] * 39, "has 39 sequences"),
        ([[1, 10, -1]] * 50, "labels up to 9"),
    ):
        with pytest.raises(UserError, match=sentence):
            addition.with_pairs({"train": dataset(labels)})


def test_what_is_told_by_the_features_is_found_and_found_once(quick, tmp_path):
    evaluator, additions, bar = StubEvaluator(), Additions(str(tmp_path)), Bar()
    requests = addition.make_requests(evaluator, CHECKPOINT, ["60", "all"])
    few, all_ = addition.answer(evaluator, requests, additions, bar)
    assert evaluator.asked == [("train", 300), ("valid", 60)] and bar.seen == 360
    assert [few, all_] == additions.entries()
    assert (few["labelled"], all_["labelled"], all_["tested"], all_["step"]) == (60, 300, 60, 7)
    assert all_["accuracy"] > max(few["accuracy"], 0.6)
    p = all_["accuracy"]
    assert all_["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / 60))
    assert all_["updates"] == all_["best_update"] + 3 * 50

    again = addition.answer(evaluator, requests, additions, bar)
    assert again == [few, all_] and len(evaluator.asked) == 2
    more = addition.make_requests(evaluator, CHECKPOINT, ["50", "60"], tested=32)
    assert addition.answer(evaluator, more, additions, bar)[0]["tested"] == 32
    assert evaluator.asked[2:] == [("train", 60), ("valid", 32)]
    with open(os.path.join(str(tmp_path), addition.CSV), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["labelled"]) for row in rows] == [50, 60, 60, 300]
    assert float(rows[-1]["accuracy"]) == all_["accuracy"]
    table = addition.table([few, all_])
    assert "300" in table and f"{p:.4f}" in table and f"alone, with 300: {all_['by_frame'][0]:.3f} " in table


def test_other_data_are_another_request():
    few, many = (
        addition.make_requests(StubEvaluator(num_valid=n), CHECKPOINT, ["60"], 50)[0] for n in (60, 70)
    )
    assert few.data != many.data and few._replace(data="") == many._replace(data="")


def test_what_was_cut_keeps_what_was_complete(quick, tmp_path, monkeypatch):
    evaluator, additions = StubEvaluator(), Additions(str(tmp_path))
    requests, classify = addition.make_requests(evaluator, CHECKPOINT, ["60", "80"]), addition.classify

    def cut(labelled, *others):
        if len(labelled.sums) == 80:
            raise KeyboardInterrupt
        return classify(labelled, *others)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(addition, "classify", cut)
        addition.answer(evaluator, requests, additions, Bar())
    assert [entry["labelled"] for entry in additions.entries()] == [60]
    assert len(addition.answer(evaluator, requests, additions, Bar())) == 2


def test_features_that_tell_nothing_are_no_better_than_chance(quick):
    rng = np.random.RandomState(0)
    examples = Examples(rng.normal(size=(400, 2, 2, 5)).astype(np.float32), rng.randint(19, size=400))
    found = addition.classify(examples.between(0, 200), examples.between(200, 400), 0)
    assert found["accuracy"] < 1 / 19 + 5 * math.sqrt(1 / 19 / 200)


class Recorder:
    """A classifier whose accuracy on what is held out is given; notes what it is given."""

    def __init__(self, accuracies):
        self.accuracies, self.log, self.updates, self.kept = iter(accuracies), [], 0, None

    def __call__(self, num_slots, num_features, seed):
        self.log.append(("made", num_slots, num_features, seed))
        return self

    def update(self, features, sums):
        self.updates += 1
        self.log.append(("learnt", tuple(sums)))

    def test(self, features, sums):
        self.log.append(("tested", tuple(sums)))
        share = next(self.accuracies)
        return np.arange(len(sums)) < share * len(sums), 1.0 - share

    def keep(self):
        self.kept = self.updates

    def restore(self):
        self.log.append(("restored", self.kept))

    def close(self):
        self.log.append(("closed",))


def test_what_is_held_out_is_not_learnt_from_and_the_best_weights_are_tested(monkeypatch):
    recorder = Recorder([0.2, 0.4, 0.4, 0.3, 0.7, 0.9, 0.5, 0.6, 0.1])
    monkeypatch.setattr(addition, "SumClassifier", recorder)
    sums = tuple(range(300))
    labelled = Examples(np.zeros((300, 2, 3, 6), np.float32), np.array(sums))
    tested = Examples(np.zeros((10, 2, 3, 6), np.float32), np.arange(1000, 1010))
    found = addition.classify(labelled, tested, 4, patience=2, check_every=5)
    held_out = sums[270:]
    assert {entry for entry in recorder.log if entry[0] == "learnt"} == {("learnt", sums[:270])}
    others = [entry for entry in recorder.log if entry[0] != "learnt"]
    assert others == [
        ("made", 3, 6, 4),
        *[("tested", held_out)] * 4,
        ("restored", 10),
        ("tested", tuple(range(1000, 1010))),
        ("tested", sums[:270]),
        ("tested", held_out),
        *[("tested", tuple(range(1000, 1010)))] * 2,
        ("closed",),
    ]
    assert (found["accuracy"], found["learnt_accuracy"], found["held_out_accuracy"]) == (0.7, 0.9, 0.5)
    assert (found["best_update"], found["updates"], found["by_frame"]) == (10, 20, [0.6, 0.1])


@pytest.mark.parametrize(
    "labelled, tested, sentence",
    [
        (["39"], 0, "`labelled=39` is refused: it takes `all` and numbers from 40 to 300"),
        (["100", "301"], 0, "`labelled=100,301`"),
        (["0"], 0, "`labelled=0`"),
        (["many"], 0, "`labelled=many`"),
        ([], 0, "`labelled=` is refused"),
        (["all"], 61, "`num_sequences=61` is refused: 60 have 2 digits"),
    ],
)
def test_numbers_that_there_are_not_are_refused(labelled, tested, sentence):
    with pytest.raises(UserError, match=sentence):
        addition.make_requests(StubEvaluator(), CHECKPOINT, labelled, tested)


def test_a_damaged_file_is_named(tmp_path):
    for content in ("{", json.dumps({"additions": [{"step": 3}]})):
        (tmp_path / addition.JSON).write_text(content)
        with pytest.raises(UserError, match="move it away to begin anew"):
            Additions(str(tmp_path)).entries()
