# SPDX-License-Identifier: GPL-3.0-or-later
import functools
import os
import signal

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from stub_model import H, StubDataset, StubModel, W

from sqair.errors import UserError
from sqair.evaluation.evaluator import Evaluator
from sqair.model import bounds
from sqair.model.sqair import mlp_sqair
from sqair.training import checkpoints, runs, settings
from sqair.training import graph as training_graph
from sqair.training import loop as training
from sqair.training.reporting import read_metrics
from sqair.training.settings import Settings

MOST_NODES = 21_788 // 3  # a third of the original's
SETTINGS = Settings(
    batch_size=3, k_particles=2, seq_len=2, stage_itr=4, train_itr=8, learning_rate=0.01, report_loss_every=1,
    log_itr=3, fig_itr=0, save_itr=4, num_threads=1, eval_size_fraction=1.0,
)  # fmt: skip


def start_in(results_dir, folder=None, data=None, **changes):
    """Trains in a new or a given run folder, with settings changed by keyword."""
    data = data or {"train": StubDataset(10), "valid": StubDataset(4)}
    asked = SETTINGS._replace(**changes)
    run = runs.Run(folder) if folder else runs.create(str(results_dir), "run")
    checkpoint = training.resume_point(run, print) if folder else None
    graph = training_graph.TrainingGraph(StubModel, data["train"], asked, checkpoint)
    run.begin_session(checkpoint.step if checkpoint else 0, {}, {}, {})
    try:
        return run, training.train(run, graph, StubModel, data, asked, checkpoint)
    finally:
        run.close()


@pytest.fixture
def start(tmp_path):
    return lambda *arguments, **changes: start_in(tmp_path, *arguments, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts."""
    run, received = start_in(tmp_path_factory.mktemp("whole"), log_at_start=True)
    assert received is None
    return run


def rows(run):
    return {(row["step"], row["source"]): row for row in read_metrics(run.metrics)}


def last_values(run):
    return checkpoints.latest(run.checkpoints).values


def test_a_run_leaves_what_it_promises(whole):
    run = whole
    assert sorted(rows(run)) == sorted(
        [(step, "batch") for step in range(1, 9)]
        + [(step, source) for step in (0, 3, 6) for source in ("train", "valid")]
    )
    assert [rows(run)[step, "batch"]["seq_len"] for step in range(1, 9)] == [2, 2, 2, 2, 3, 3, 3, 3]
    assert rows(run)[3, "valid"]["seq_len"] == 2 and rows(run)[6, "valid"]["seq_len"] == 3
    row = rows(run)[8, "batch"]
    assert row["gradient_norm"] == pytest.approx(
        np.hypot(row["gradient_norm/decoder"], row["gradient_norm/discovery"])
    )
    rates = [rows(run)[step, "batch"]["learning_rate"] for step in (1, 3, 5)]
    assert rates == pytest.approx([0.01, 0.01 / 3, 0.01 / 9])
    endings = (".data-00000-of-00001", ".index")
    assert sorted(os.listdir(run.checkpoints)) == [f"model-{step}{e}" for step in (4, 8) for e in endings]
    assert sorted(os.listdir(run.events)) == ["batch", "train", "valid"]


def test_it_learns_and_says_so(start, capsys):
    changes = {"learning_rate": 0.03, "opt": "adam", "report_loss_every": 60}
    run, _ = start(train_itr=60, log_itr=60, log_at_start=True, **changes)
    before, after = (rows(run)[step, "valid"]["normalised_vae"] for step in (0, 60))
    assert after > before + 0.1
    output = capsys.readouterr().out
    assert "step 60/60: T 4, bound" in output and "step 60, valid: normalised_vae" in output


def test_resuming_after_a_signal_repeats_an_uninterrupted_run(start, monkeypatch, whole):
    update = training_graph.TrainingGraph.update

    def update_and_interrupt(graph, with_numbers):
        numbers = update(graph, with_numbers)
        if graph.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return numbers

    monkeypatch.setattr(training_graph.TrainingGraph, "update", update_and_interrupt)
    parts, received = start(log_at_start=True)
    assert received == signal.SIGTERM
    assert checkpoints.latest(parts.checkpoints).path.endswith("rolling-6")
    assert (6, "batch") in rows(parts) and (6, "valid") not in rows(parts)  # the evaluation was given up
    monkeypatch.setattr(training_graph.TrainingGraph, "update", update)
    parts, received = start(parts.folder, log_at_start=True)
    assert received is None
    assert rows(parts) == rows(whole)
    found = last_values(parts)
    for name, value in last_values(whole).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_resuming_after_an_abrupt_end_repeats_an_uninterrupted_run(start, monkeypatch, tmp_path, whole):
    update = training_graph.TrainingGraph.update

    def update_or_die(graph, with_numbers):
        if graph.step == 6:
            raise MemoryError
        return update(graph, with_numbers)

    monkeypatch.setattr(training_graph.TrainingGraph, "update", update_or_die)
    with pytest.raises(MemoryError):
        start(log_at_start=True)
    folder = str(tmp_path / "run" / "1")
    assert checkpoints.latest(os.path.join(folder, "checkpoints")).step == 4
    monkeypatch.setattr(training_graph.TrainingGraph, "update", update)
    parts, _ = start(folder, log_at_start=True)
    assert rows(parts) == rows(whole)
    found = last_values(parts)
    for name, value in last_values(whole).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_a_rolling_checkpoint_is_written_now_and_then(start, monkeypatch):
    monkeypatch.setattr(training, "ROLLING_SECONDS", 0.0)
    saved = []
    save = training_graph.TrainingGraph.save
    monkeypatch.setattr(
        training_graph.TrainingGraph,
        "save",
        lambda graph, folder, rolling: saved.append((graph.step, rolling)) or save(graph, folder, rolling),
    )
    run, _ = start(train_itr=5)
    assert dict(saved) == {0: True, 1: True, 2: True, 3: True, 4: False, 5: False}
    assert [name for name in sorted(os.listdir(run.checkpoints)) if name.endswith("index")] == [
        "model-4.index", "model-5.index",
    ]  # fmt: skip


def test_a_poisoned_batch_is_named_and_not_applied(start):
    data = {"train": StubDataset(30, poisoned=17), "valid": StubDataset(4)}  # in the batch of update 6
    with pytest.raises(training_graph.NonFiniteError) as raised:
        start(data=data)
    message = str(raised.value)
    assert "\n" not in message
    assert "Update 6 was not applied: these terms are not finite: loss, normalised_vae" in message
    assert "gradients of these variables: decoder/colour, discovery/jitter" in message
    assert "model-4, is kept" in message and "change --learning_rate, --clip_norm or --seed" in message


def test_a_failed_update_changes_nothing():
    data = StubDataset(30, poisoned=4)
    graph = training_graph.TrainingGraph(StubModel, data, SETTINGS)
    graph.update(False)
    before = graph.values()
    with pytest.raises(training_graph.NonFiniteError, match="^Update 2 was not applied"):
        graph.update(False)
    assert graph.step == 1 == before["global_step"]
    assert {name for name in before if "RMSProp" in name}
    for name, value in graph.values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    graph.close()


def test_variables_that_are_not_finite_are_not_saved(tmp_path):
    graph = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS)
    with graph.graph.as_default():
        variable = next(v for v in tf.trainable_variables() if v.op.name == "prior/unused")
        variable.load([np.nan, 0], graph.session)
    with pytest.raises(training_graph.NonFiniteError, match="not finite: prior/unused"):
        graph.save(str(tmp_path), rolling=False)
    assert os.listdir(str(tmp_path)) == []
    graph.close()


def test_clipping_bounds_what_is_applied_not_what_is_reported():
    values = []
    for clip_norm in (0.0, 1e-3):
        asked = SETTINGS._replace(opt="sgd", learning_rate=1.0, schedule=(), clip_norm=clip_norm)
        graph = training_graph.TrainingGraph(StubModel, StubDataset(6), asked)
        before = graph.values()["decoder/colour"], graph.values()["discovery/jitter"]
        numbers = graph.update(True)
        after = graph.values()["decoder/colour"], graph.values()["discovery/jitter"]
        change = np.sqrt(sum(np.sum((a - b) ** 2) for a, b in zip(after, before)))
        values.append((numbers["gradient_norm"], change))
        graph.close()
    assert values[0][0] == values[1][0] == pytest.approx(values[0][1], rel=1e-4)
    assert values[1][1] == pytest.approx(1e-3, rel=1e-3)


def test_a_seed_fixes_the_parameters_and_another_changes_them():
    found = []
    for seed in (1, 1, 2):
        graph = training_graph.TrainingGraph(StubModel, StubDataset(6), SETTINGS._replace(seed=seed))
        found.append(graph.values()["decoder/colour"])
        graph.close()
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"batch_size": 0}, "--batch_size=0 is refused: it must be at least 1"),
        ({"train_itr": 0}, "--train_itr=0"),
        ({"seq_len": -1}, "--seq_len=-1"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0 is refused: it must be positive"),
        ({"eval_size_fraction": 1.5}, "--eval_size_fraction=1.5"),
        ({"opt": "sdg"}, "--opt=sdg is refused: it must be one of rmsprop, adam, sgd"),
        ({"schedule": (4.0, -1.0)}, "--schedule="),
        ({"k_particles": 1}, "--k_particles=1 leaves no other particle .* --estimator=reference"),
        ({"k_particles": 1, "estimator": "vimco"}, "--k_particles=1 .* --estimator=vimco"),
        ({"seed": -1}, "--seed=-1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        settings.check(Settings()._replace(**changes))
    settings.check(Settings())
    assert settings.ESTIMATORS == bounds.ESTIMATORS
    settings.check(Settings(k_particles=1, estimator="reinforce"))


def test_a_run_without_checkpoint_cannot_be_resumed(tmp_path):
    run = runs.create(str(tmp_path), "run")
    with pytest.raises(UserError, match="has no complete checkpoint"):
        training.resume_point(run, print)
    run.close()


COMBINATIONS = [(opt, estimator) for opt in settings.OPTIMISERS for estimator in settings.ESTIMATORS]


def train_one_step_and_evaluate(make_model, data, asked):
    graph = training_graph.TrainingGraph(make_model, data["train"], asked)
    before = graph.values()
    numbers = graph.update(with_numbers=True)
    after = graph.values()
    graph.close()
    assert list(numbers) == graph.names and all(np.isfinite(value) for value in numbers.values())
    assert {name for name in before if not np.array_equal(before[name], after[name])} > {"global_step"}
    evaluator = Evaluator(make_model, data, asked)
    evaluator.load(after)
    assert np.isfinite(evaluator.evaluate("valid").normalised_iwae)
    evaluator.close()


@pytest.mark.parametrize("opt, estimator", COMBINATIONS)
def test_every_combination_trains_a_step_and_evaluates(opt, estimator):
    asked = SETTINGS._replace(opt=opt, estimator=estimator, clip_norm=1.0, l2=0.1)
    train_one_step_and_evaluate(StubModel, {"train": StubDataset(6), "valid": StubDataset(4)}, asked)


@pytest.mark.slow
@pytest.mark.parametrize("opt, estimator", COMBINATIONS)
@pytest.mark.parametrize("k_particles", [1, 2])
def test_every_combination_trains_a_step_of_the_model(opt, estimator, k_particles):
    asked = SETTINGS._replace(opt=opt, estimator=estimator, k_particles=k_particles, seq_len=0)
    data = {"train": StubDataset(6), "valid": StubDataset(4)}

    def make_model():
        return mlp_sqair(np.full([H, W, 1], 0.5, np.float32), n_units=1, n_what=3, glimpse_size=4)

    if k_particles == 1 and estimator in settings.ESTIMATORS_WITH_BASELINE:
        with pytest.raises(UserError, match="k_particles"):
            training_graph.TrainingGraph(make_model, data["train"], asked)
    else:
        train_one_step_and_evaluate(make_model, data, asked)


def test_the_graph_of_a_default_training_is_small():
    """The original's has 21,788 nodes; nodes cost time when a training starts."""
    make_model = functools.partial(mlp_sqair, np.full([H, W, 1], 0.5, np.float32))
    graph = training_graph.TrainingGraph(make_model, StubDataset(6), Settings())
    assert len(graph.graph.get_operations()) <= MOST_NODES
    with graph.graph.as_default():
        starts = [variable.initializer.inputs[1].name for variable in tf.global_variables()]
    assert len(set(starts)) == len(starts)  # they are fed, each for its own variable
    graph.close()
