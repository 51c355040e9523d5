# SPDX-License-Identifier: GPL-3.0-or-later
import os
import signal

import numpy as np
import pytest
from stub_model import StubDataset, StubModel, StubWithoutObjects

from sqair.errors import UserError
from sqair.training import checkpoints, diagnosis, runs, times
from sqair.training import graph as training_graph
from sqair.training import loop as training
from sqair.training.reporting import read_metrics
from sqair.training.settings import Settings

SETTINGS = Settings(
    batch_size=3, k_particles=2, seq_len=2, stage_itr=4, train_itr=8, learning_rate=0.01, report_loss_every=1,
    log_itr=3, fig_itr=0, save_itr=4, num_threads=1, eval_size_fraction=1.0,
)  # fmt: skip


def start_in(results_dir, folder=None, data=None, model=StubModel, **changes):
    """Trains in a new or a given run folder, with settings changed by keyword."""
    data = data or {"train": StubDataset(10), "valid": StubDataset(4)}
    asked = SETTINGS._replace(**changes)
    run = runs.Run(folder) if folder else runs.create(str(results_dir), "run")
    checkpoint = training.resume_point(run, print) if folder else None
    graph = training_graph.TrainingGraph(model, data["train"], asked, checkpoint)
    run.begin_session(checkpoint.step if checkpoint else 0, {}, {}, {})
    try:
        return run, training.train(run, graph, model, data, asked, checkpoint)
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


def test_times_are_noted_when_something_is_reported_or_saved(start):
    run, _ = start(report_loss_every=5, log_itr=3, save_itr=4)
    noted = times.read(run.times)
    assert [step for step, _ in noted] == [0, 3, 4, 5, 6, 8]
    seconds = [second for _, second in noted]
    assert sorted(seconds) == seconds and seconds[-1] > seconds[0] >= 0


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
    assert "model-4, is kept" in message and "change `learning_rate`, `clip_norm` or `seed`" in message


def test_a_run_without_checkpoint_cannot_be_resumed(tmp_path):
    run = runs.create(str(tmp_path), "run")
    with pytest.raises(UserError, match="has no complete checkpoint"):
        training.resume_point(run, print)
    run.close()


def test_going_back_to_an_earlier_step_removes_later_figures(start):
    run, _ = start(train_itr=6, log_itr=0, fig_itr=2)
    names = [f"{name}-{step}.png" for name in training.FIGURES for step in (2, 4, 6)]
    assert sorted(os.listdir(run.figures)) == sorted(names)
    (other,) = [os.path.join(run.figures, "mine-99.png")]
    with open(other, "w"):
        pass
    for ending in (".index", ".data-00000-of-00001"):
        os.remove(os.path.join(run.checkpoints, f"model-6{ending}"))
    start(run.folder, train_itr=5, log_itr=0, fig_itr=2)
    kept = [name for name in names if "-6" not in name]
    assert sorted(os.listdir(run.figures)) == sorted([*kept, "mine-99.png"])


def test_what_goes_wrong_is_said_while_it_trains(start, capsys, monkeypatch):
    """With slots that no more than half of are in use, "always full" is what a limit of a tenth calls it."""
    monkeypatch.setattr(diagnosis, "FULL", 0.1)
    monkeypatch.setattr(training, "Diagnosis", lambda *model: diagnosis.Diagnosis(*model, window=2))
    start(stage_itr=0)
    (warning,) = [line for line in capsys.readouterr().out.splitlines() if "Warning" in line]
    assert warning.startswith("Warning at step 2: all slots are always full")
    assert "`disc_step_bias`" in warning and warning.endswith(".")


def test_a_model_without_objects_is_trained_evaluated_and_drawn(start):
    run, _ = start(model=StubWithoutObjects, train_itr=3, decay_from=0, fig_itr=3, eval_on_train=False)
    assert os.listdir(run.figures) == ["tracking-3.png"]
    found = rows(run)[3, "valid"]
    assert {"normalised_iwae", "data_ll", "kl", "mse", "ess"} <= set(found)
    assert not [name for name in found if "num_" in name]
