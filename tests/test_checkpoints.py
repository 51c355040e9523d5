# SPDX-License-Identifier: GPL-3.0-or-later
import os
import resource

import numpy as np
import pytest
import stub_disk

from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.training import checkpoints

DATA_ENDING = ".data-00000-of-00001"


@pytest.fixture
def model():
    """A session with two variables, one of each kind, and its saver."""
    weights = tf.get_variable("a/weights", initializer=np.arange(3000, dtype=np.float32).reshape(30, 100))
    count = tf.get_variable("count", initializer=np.int64(7), use_resource=True, trainable=False)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        yield session, [weights, count]


def save(model, folder, step, rolling=False):
    return checkpoints.save(model[0], checkpoints.Saver(model[1]), str(folder), step, rolling)


def test_what_is_saved_is_read_and_loaded_back(model, tmp_path):
    session, variables = model
    path = save(model, tmp_path, 5)
    values = checkpoints.read(path)
    assert sorted(values) == ["a/weights", "count"]
    session.run([variables[0].assign(tf.zeros([30, 100])), variables[1].assign(0)])
    operations = len(session.graph.get_operations())
    checkpoints.load(session, variables, values, path)
    assert len(session.graph.get_operations()) == operations
    np.testing.assert_array_equal(session.run(variables[0]), np.arange(3000).reshape(30, 100))
    assert session.run(variables[1]) == 7
    assert checkpoints.read(path + ".index").keys() == values.keys()


def test_arrays_are_written_as_they_are(tmp_path):
    values = {"b": np.float32([[-0.0, 1e-45]]), "a/c": np.int64(7), "a": np.zeros([0, 3], np.float32)}
    checkpoints.write(str(tmp_path / "x"), values)
    found = checkpoints.read(str(tmp_path / "x"))
    assert {name: (value.dtype, value.shape, value.tobytes()) for name, value in found.items()} == {
        name: (value.dtype, value.shape, value.tobytes()) for name, value in values.items()
    }
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        checkpoints.write(str(tmp_path / "file" / "x"), values)


def test_tensorflow_s_own_saver_restores_it(model, tmp_path):
    path = save(model, tmp_path, 5)
    model[0].run([variable.initializer for variable in model[1]], {model[1][1].initializer.inputs[1]: 1})
    tf.train.Saver(model[1]).restore(model[0], path)
    assert model[0].run(model[1][1]) == 7


def test_the_last_complete_checkpoint_is_found(model, tmp_path):
    assert checkpoints.latest(str(tmp_path / "absent")) is None
    for step in (9, 10, 11):
        save(model, tmp_path, step)
    assert checkpoints.latest(str(tmp_path)).step == 11
    os.truncate(str(tmp_path / f"model-11{DATA_ENDING}"), 100)
    os.remove(str(tmp_path / f"model-10{DATA_ENDING}"))
    passed_over = []
    assert checkpoints.latest(str(tmp_path), passed_over.append).step == 9
    assert ["model-11 is truncated" in passed_over[0], "model-10 is incomplete" in passed_over[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize("ending, position", [(DATA_ENDING, 5000), (".index", 40)])
def test_a_flipped_byte_is_noticed(model, tmp_path, ending, position):
    path = save(model, tmp_path, 3)
    with open(path + ending, "r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 255]))
    with pytest.raises(ValueError, match="model-3 is truncated or damaged"):
        checkpoints.read(path)


def test_only_the_latest_rolling_checkpoint_stays(model, tmp_path):
    for step, rolling in [(0, True), (2, False), (3, True), (4, True), (6, False)]:
        save(model, tmp_path, step, rolling)
    assert sorted(os.listdir(str(tmp_path))) == sorted(
        name + ending for name in ("model-2", "model-6") for ending in (".index", DATA_ENDING)
    )


def test_a_checkpoint_is_on_the_disk_before_the_one_before_it_is_removed(model, tmp_path, monkeypatch):
    before = save(model, tmp_path, 1, rolling=True)
    events = stub_disk.record(monkeypatch)
    path = save(model, tmp_path, 2, rolling=True)
    assert events.index(("remove", before + ".index")) == len(events) - 2
    for ending in (DATA_ENDING, ".index"):
        partial = str(tmp_path / "partial" / ("rolling-2" + ending))
        written = ("fsync", partial, os.path.getsize(path + ending))
        published = events.index(written)
        assert events[published + 1 : published + 3] == [
            ("replace", path + ending),
            ("fsync", str(tmp_path), None),
        ]


def test_a_file_that_may_not_grow_damages_nothing(model, tmp_path):
    kept = save(model, tmp_path, 1, rolling=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"model-2 cannot be written: File too large"):
            save(model, tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.latest(str(tmp_path)).path == kept
    assert sorted(os.listdir(str(tmp_path))) == [f"rolling-1{DATA_ENDING}", "rolling-1.index"]


def test_a_rolling_checkpoint_that_is_replaced_while_it_is_looked_for(model, tmp_path, monkeypatch):
    """As if a training deleted it between the listing and the reading."""
    save(model, tmp_path, 1)
    save(model, tmp_path, 2, rolling=True)
    read, passed_over = checkpoints.read, []

    def replace_and_read(path):
        monkeypatch.setattr(checkpoints, "read", read)
        save(model, tmp_path, 3, rolling=True)
        return read(path)

    monkeypatch.setattr(checkpoints, "read", replace_and_read)
    found = checkpoints.latest(str(tmp_path), passed_over.append)
    assert found.step == 3 and found.path.endswith("rolling-3") and passed_over == []


def test_other_sizes_are_refused_by_name(model, tmp_path):
    values = checkpoints.read(save(model, tmp_path, 1))
    before = model[0].run(model[1])
    wrong = dict(values, **{"a/weights": np.zeros([30, 99])})
    with pytest.raises(UserError, match=r"a/weights has shape \[30, 99\] in X but \[30, 100\] in the model"):
        checkpoints.load(*model, wrong, "X")
    with pytest.raises(UserError, match="X holds no variable count"):
        checkpoints.load(*model, {"a/weights": values["a/weights"]}, "X")
    np.testing.assert_array_equal(model[0].run(model[1])[0], before[0])


def test_a_run_or_a_path_stands_for_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match="nowhere is incomplete: .* name the folder of a run"):
        checkpoints.of_run_or_path(str(tmp_path / "nowhere"))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="name the folder of a run with a complete checkpoint"):
        checkpoints.of_run_or_path(str(tmp_path))
