# SPDX-License-Identifier: GPL-3.0-or-later
import csv
import json
import os

import numpy as np
import pytest
import stub_evaluation
from stub_model import StubDataset, StubModel, StubWithoutObjects, T
from test_evaluator import SETTINGS, VALUES

from sqair.errors import UserError
from sqair.evaluation import evaluations, quantities, sequence_statistics
from sqair.evaluation.evaluator import Evaluator
from sqair.model.sequence_bounds import Filtered, IndependentFrames, WholeSequences
from sqair.training.checkpoints import Checkpoint

JITTERED = dict(VALUES, **{"discovery/jitter": np.float32(1)})


class Bar:
    """Counts what it is told; with a limit, it is interrupted beyond."""

    def __init__(self, limit=np.inf):
        self.seen, self.limit = 0, limit

    def update(self, count):
        self.seen += count
        if self.seen > self.limit:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def evaluator():
    evaluator = Evaluator(StubModel, {"valid": StubDataset(7)}, SETTINGS)
    evaluator.load(JITTERED)
    yield evaluator
    evaluator.close()


@pytest.fixture
def store(tmp_path):
    return evaluations.Evaluations(str(tmp_path))


def request(evaluator, parts=1, step=5, **options):
    checkpoint = Checkpoint("run/checkpoints/model-5", step, JITTERED)
    return evaluations.make_request(evaluator, checkpoint, parts, "valid", **options)


def test_the_numbers_are_those_of_a_training(evaluator, store):
    entry = evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar())
    for name, value in evaluator.evaluate("valid").items():
        if name in entry["estimates"]:
            assert entry["estimates"][name]["mean"] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert entry["sequences"] == 7 and entry["frames"] == T and entry["particles"] == 2
    assert np.sum(entry["confusion"]) == pytest.approx(7 * T)


def test_an_evaluation_that_was_cut_goes_on_where_it_was(evaluator, store, monkeypatch):
    wanted = evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar())
    os.remove(os.path.join(store.folder, evaluations.JSON))
    with pytest.raises(KeyboardInterrupt):
        evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar(limit=5))
    assert store.entries() == [] and store.begun(request(evaluator)).true_count.shape == (T, 6)
    assert store.begun(request(evaluator, seq_len=2)) is None
    starts, statistics = [], evaluator.statistics

    def watched(*arguments):
        starts.append(arguments[-1])
        return statistics(*arguments)

    monkeypatch.setattr(evaluator, "statistics", watched)
    assert evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar()) == wanted
    assert starts == [6] and sorted(os.listdir(store.folder)) == [evaluations.CSV, evaluations.JSON]
    assert evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar()) == json.loads(
        json.dumps(wanted)
    )
    assert starts == [6]  # what is known is not computed again


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"{}"])
def test_a_damaged_copy_of_what_is_known_counts_for_nothing(evaluator, store, content):
    with open(os.path.join(store.folder, evaluations.PARTIAL), "wb") as file:
        file.write(content)
    assert store.begun(request(evaluator)) is None


@pytest.mark.parametrize("content", ["", "[]", '{"evaluations": [{"step": 3}]}', '{"evaluations": 3}'])
def test_a_damaged_file_is_left_as_it_is(evaluator, store, content):
    path = os.path.join(store.folder, evaluations.JSON)
    with open(path, "w") as file:
        file.write(content)
    with pytest.raises(UserError, match="cannot be read as evaluations .* move it away"):
        evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar())
    with open(path) as file:
        assert file.read() == content


def test_more_particles_in_parts_tighten_the_bound(evaluator, store):
    few, many = [
        evaluations.evaluate(evaluator, request(evaluator, parts), parts, store, Bar()) for parts in (1, 50)
    ]
    assert many["particles"] == 100
    means = [entry["estimates"]["normalised_iwae"]["mean"] for entry in (few, many)]
    assert means[1] > means[0] + 0.1
    assert 1 < few["estimates"]["ess"]["mean"] < 2 < many["estimates"]["ess"]["mean"] < 100
    sigma = 1.0  # log of a mean of exp(-(colour - image)^2) over colours: by quadrature
    images = np.linspace(0, 1, 7)
    noise = np.linspace(-8, 8, 4001)
    weight = np.exp(-(noise**2) / 2) / np.sqrt(2 * np.pi) * (noise[1] - noise[0])
    exact = [np.log(np.sum(weight * np.exp(-((x - 0.25 - sigma * noise) ** 2)))) for x in images]
    assert means[1] == pytest.approx(np.mean(exact), abs=0.05)
    assert means[0] < np.mean(exact)


@pytest.mark.parametrize(
    "k, at_once, parts", [(5, 50, 1), (50, 50, 1), (1000, 50, 20), (51, 50, 3), (53, 50, 53), (6, 4, 2)]
)
def test_parts_are_equal_and_as_few_as_can_be(k, at_once, parts):
    assert evaluations.parts_of(k, at_once) == parts


def test_files_hold_every_evaluation(evaluator, store):
    evaluations.evaluate(evaluator, request(evaluator), 1, store, Bar())
    evaluations.evaluate(evaluator, request(evaluator, seq_len=2, num_sequences=1), 1, store, Bar())
    with open(os.path.join(store.folder, evaluations.CSV)) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (len(quantities.TITLES) + 2)
    long = [row for row in rows if row["sequences"] == "7"]
    found = {row["name"]: row for row in long}
    assert float(found["iwae"]["mean"]) == pytest.approx(T * float(found["normalised_iwae"]["mean"]))
    assert found["iwae"]["unit"] == "nats per sequence"
    assert float(found["iwae"][f"frame_{T}"]) == pytest.approx(float(found["iwae"]["mean"]))
    short = [row for row in rows if row["sequences"] == "1"]
    assert short[0]["frame_3"] is None and short[0]["standard_error"] == ""


@pytest.mark.parametrize("options, most", [(dict(num_sequences=8), 7), (dict(seq_len=5), 4)])
def test_more_than_there_is_is_refused(evaluator, options, most):
    (name, value) = next(iter(options.items()))
    with pytest.raises(UserError, match=f"`{name}={value}` is refused: the valid data has {most}"):
        request(evaluator, **options)


def test_tracking_is_scored_where_objects_are_annotated(evaluator, store):
    entry = evaluations.evaluate(evaluator, request(evaluator, tracked=3), 1, store, Bar())
    seen = evaluator.predict("valid", 3)
    scores = entry["objects"]["tight"]
    assert (
        scores["objects"] == seen.true_presence.sum() and scores["predictions"] == 0
    )  # the stub draws no glimpse
    assert scores["mota"] == 0 and scores["motp"] is None
    assert store.find(request(evaluator, tracked=3)) == json.loads(json.dumps(entry))
    assert (
        request(evaluator, tracked=99).tracked == 7
        and request(evaluator, num_sequences=2, tracked=99).tracked == 2
    )
    monkeypatched = StubDataset(7)
    monkeypatched.max_objects = 0
    none = Evaluator(StubModel, {"valid": monkeypatched}, SETTINGS)
    assert request(none, tracked=99).tracked == 0
    none.close()


def test_entries_that_do_not_say_their_bound_are_of_iwae(evaluator, store):
    entry = evaluations.evaluate(evaluator, request(evaluator, num_sequences=1), 1, store, Bar())
    assert entry["bound"] == "iwae"
    path = os.path.join(store.folder, evaluations.JSON)
    with open(path) as file:
        stored = json.load(file)
    del stored["evaluations"][0]["bound"]
    with open(path, "w") as file:
        json.dump(stored, file)
    assert store.find(request(evaluator, num_sequences=1)) == json.loads(json.dumps(entry))
    assert store.find(request(evaluator, num_sequences=1)._replace(bound="fivo")) is None


def test_ids_that_mean_nothing_are_not_tracked_and_what_filters_has_its_particles_together(store):
    of_frames, filtered, without = [
        Evaluator(make, {"valid": StubDataset(7)}, SETTINGS)
        for make in (
            lambda: StubModel(bound=IndependentFrames()),
            lambda: StubModel(bound=Filtered()),
            StubWithoutObjects,
        )
    ]
    asked = request(of_frames, parts=2, tracked=3)
    assert (
        asked.tracked == request(without, tracked=3).tracked == 0
        and request(filtered, tracked=3).tracked == 3
    )
    of_frames.load(JITTERED)
    entry = evaluations.evaluate(of_frames, asked, 2, store, Bar())
    assert entry["objects"] is None and entry["confusion"] and entry["estimates"]["num_steps"]["mean"] > 0
    with pytest.raises(UserError, match="`particles_at_once=2` is refused: .* set it to 6"):
        request(filtered, parts=3)
    filtered.load(JITTERED)
    entry = evaluations.evaluate(filtered, request(filtered), 1, store, Bar())
    assert "normalised_vae" not in entry["estimates"] and entry["estimates"]["normalised_iwae"]["mean"] < 0
    without.load(JITTERED)
    entry = evaluations.evaluate(without, request(without), 1, store, Bar())
    assert entry["confusion"] == [] and not set(quantities.OF_OBJECTS) & set(entry["estimates"])
    for evaluator in (of_frames, filtered, without):
        evaluator.close()


def test_titles_are_of_what_is_summarised():
    assert set(quantities.TITLES) == set(sequence_statistics.summarise(_ones(), WholeSequences()))


def _ones():
    shapes = [(2, 2)] * 8 + [(2, 2, 3)] + [(2, 2)] * 2
    return sequence_statistics.SequenceStatistics(*map(np.ones, shapes))


def test_the_last_evaluation_is_taken_or_one_by_number():
    entries = [stub_evaluation.entry(), dict(stub_evaluation.entry(), checkpoint="model-9")]
    assert evaluations.choose(entries) is entries[1] and evaluations.choose(entries, 1) is entries[0]
    with pytest.raises(UserError, match="`entry=3` is refused: .* 1: model-7, 1234 valid .*; 2: model-9"):
        evaluations.choose(entries, 3)
    with pytest.raises(UserError, match="call scripts/evaluate.py first"):
        evaluations.choose([])
