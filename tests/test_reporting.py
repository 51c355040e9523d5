# SPDX-License-Identifier: GPL-3.0-or-later
import io
import os

import numpy as np
import pytest
import stub_disk

from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.training.reporting import Console, Metrics, TensorBoard, read_metrics

NUMBERS = {"seq_len": 3, "normalised_iwae": np.float32(1) / 3, "num_step_acc": 0.5}


def test_rows_read_back_exactly(tmp_path):
    path = str(tmp_path / "metrics.csv")
    metrics = Metrics(path, list(NUMBERS))
    metrics.write(1, "batch", NUMBERS)
    metrics.write(1, "valid", {"seq_len": 2})
    assert metrics.has(1, "valid") and not metrics.has(1, "train")
    first, second = read_metrics(path)
    assert first == dict(NUMBERS, step=1, source="batch", normalised_iwae=float(np.float32(1) / 3))
    assert second == dict(step=1, source="valid", seq_len=2)


def test_a_resumed_run_drops_what_lies_beyond_its_checkpoint_and_what_was_cut_off(tmp_path):
    path = str(tmp_path / "metrics.csv")
    metrics = Metrics(path, list(NUMBERS))
    for step in (1, 2, 3, 4):
        metrics.write(step, "batch", NUMBERS)
    with open(path, "a") as file:
        file.write("5,ba")
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3, 4]
    metrics = Metrics(path, list(NUMBERS), last_step=2)
    assert metrics.has(2, "batch") and not metrics.has(3, "batch")
    metrics.write(3, "batch", NUMBERS)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    assert os.listdir(str(tmp_path)) == ["metrics.csv"]


def test_a_table_that_cannot_be_written_is_reported(tmp_path):
    metrics = Metrics(str(tmp_path / "metrics.csv"), list(NUMBERS))
    os.remove(str(tmp_path / "metrics.csv"))
    os.mkdir(str(tmp_path / "metrics.csv"))
    with pytest.raises(UserError, match="metrics.csv cannot be written: Is a directory"):
        metrics.write(1, "batch", NUMBERS)


def test_tensorboard_sees_one_history_across_sessions(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for last_step, steps in ((None, (1, 2, 3, 4)), (2, (3, 4, 5))):
        tensorboard = TensorBoard(str(tmp_path), last_step)
        for step in steps:
            tensorboard.write(step, "batch", {"bound": step + (10 if last_step else 0)})
        tensorboard.write_image(steps[-1], "valid", "picture", b"png", (4, 5))
        tensorboard.close()
    events = EventAccumulator(str(tmp_path / "batch")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("bound")] == [
        (1, 1), (2, 2), (3, 13), (4, 14), (5, 15),
    ]  # fmt: skip
    images = EventAccumulator(str(tmp_path / "valid")).Reload().Images("picture")
    assert [(image.step, image.height, image.width) for image in images][-1] == (5, 4, 5)


def test_what_was_reported_can_be_made_sure_to_be_on_the_disk(tmp_path, monkeypatch):
    metrics = Metrics(str(tmp_path / "metrics.csv"), list(NUMBERS))
    metrics.write(1, "batch", NUMBERS)
    tensorboard = TensorBoard(str(tmp_path / "events"))
    tensorboard.write(1, "batch", NUMBERS)
    events = stub_disk.record(monkeypatch)
    metrics.sync()
    tensorboard.sync()
    tensorboard.close()
    (name,) = os.listdir(str(tmp_path / "events" / "batch"))
    paths = [str(tmp_path / "metrics.csv"), str(tmp_path / "events" / "batch" / name)]
    assert events[:2] == [("fsync", path, os.path.getsize(path)) for path in paths]
    assert events[2] == ("fsync", str(tmp_path / "events" / "batch"), None)


def test_nothing_is_added_to_the_graph(tmp_path, fresh_graph):
    tensorboard = TensorBoard(str(tmp_path))
    tensorboard.write(1, "batch", NUMBERS)
    tensorboard.close()
    assert not tf.get_default_graph().get_operations()


def test_plain_lines_in_a_log_file():
    stream = io.StringIO()
    console = Console(1000, 0, stream)
    console.step(2.0)
    console.step(3.0)
    assert not console.wants_numbers
    console.heartbeat(10, NUMBERS)
    console.line("hello")
    console.close()
    line, hello, _ = stream.getvalue().split("\n")
    assert line.startswith("step 10/1000: T 3, bound 0.33, count accuracy 0.500, ")
    assert line.endswith("0.40 it/s, 41 min 15 s left") and hello == "hello"


def test_a_line_of_a_model_that_knows_no_objects():
    stream = io.StringIO()
    console = Console(1000, 0, stream)
    console.step(2.0)
    console.heartbeat(10, dict(seq_len=3, normalised_iwae=0.5))
    assert stream.getvalue().startswith("step 10/1000: T 3, bound 0.50, 0.50 it/s, ")


def test_a_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    console = Console(1000, 10, stream)
    assert console.wants_numbers
    console.step(1.0, NUMBERS)
    assert not console.wants_numbers
    console.heartbeat(11, NUMBERS)
    console.line("hello")
    console._bar.refresh()
    console.close()
    shown = stream.getvalue()
    assert "11/1000" in shown and ("it/s" in shown or "s/it" in shown)
    assert "T 3, bound 0.33, count accuracy 0.500" in shown and "hello\n" in shown
    assert "step 11" not in shown
