# SPDX-License-Identifier: GPL-3.0-or-later
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from sqair import config_files
from sqair.errors import UserError
from sqair.graph_mode import tf
from sqair.training import runs


def test_runs_are_numbered_and_those_at_once_differ(tmp_path):
    (tmp_path / "name").mkdir()
    (tmp_path / "name" / "notes").mkdir()
    (tmp_path / "name" / "7").mkdir()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.create(str(tmp_path), "name"), range(16)))
    assert sorted(int(os.path.basename(run.folder)) for run in made) == list(range(8, 24))
    for run in made:
        run.close()


def test_a_folder_has_one_writer_until_that_is_gone(tmp_path):
    code = "import sys, time; from sqair.training import runs; run = runs.Run(sys.argv[1]);"
    code += "print('held', flush=True); time.sleep(60)"
    folder = str(tmp_path)
    holder = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="in use by another process"):
            runs.Run(folder)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    runs.Run(folder).close()


def test_a_run_that_is_only_read_needs_no_lock_and_takes_none(tmp_path):
    run = runs.create(str(tmp_path), "run")
    run.begin_session(0, {"seed": 3}, {}, {})
    reader = runs.Run(run.folder, reads_only=True)
    assert reader.flags == {"seed": 3}
    run.close()
    runs.Run(run.folder).close()
    reader.close()


def test_the_last_run_is_found_or_a_given_one(tmp_path):
    with pytest.raises(UserError, match="There is no run in .*name"):
        runs.find(str(tmp_path), "name")
    for number in (2, 9, 10):
        folder = tmp_path / "name" / str(number)
        folder.mkdir(parents=True)
        (folder / "flags.json").write_text("{}")
    assert runs.find(str(tmp_path), "name").endswith("name/10")
    assert runs.find(str(tmp_path), "name", "9").endswith("name/9")
    assert runs.find("elsewhere", "name", str(tmp_path / "name" / "2")).endswith("name/2")
    with pytest.raises(UserError, match="no run '3'.*these runs: 2, 9, 10"):
        runs.find(str(tmp_path), "name", "3")


def test_what_may_change_is_reported_and_the_rest_refused():
    before = {"learning_rate": 1e-5, "n_what": 50, "seed": 1}
    assert runs.differences(before, dict(before, seed=2), ("seed",)) == {"seed": [1, 2]}
    with pytest.raises(UserError, match="`n_what=40` differs from the resumed run's 50"):
        runs.differences(before, dict(before, n_what=40), ("seed",))


def test_sessions_are_recorded(tmp_path):
    run = runs.create(str(tmp_path), "name")
    run.begin_session(0, {"seed": 1}, {"train seq_len": 10}, {})
    run.record_failure(3, "loss is not finite")
    assert run.failure == {"step": 3, "message": "loss is not finite"}
    run.begin_session(2, {"seed": 2}, {"train seq_len": 10}, {"seed": [1, 2]})
    assert run.failure is None and run.flags == {"seed": 2}
    first, second = run.record["sessions"]
    assert (first["step"], second["step"], second["changed"]) == (0, 2, {"seed": [1, 2]})
    assert second["versions"]["tensorflow"] == tf.__version__
    assert set(second) >= {"git_commit", "git_dirty", "started"}
    run.close()


def test_other_configs_and_other_data_are_refused(tmp_path):
    config = tmp_path / "a.py"
    config.write_text("x = 1\n")
    run = runs.create(str(tmp_path), "name")
    run.copy_configs({"data_config": str(config)})
    same = {"train image_shape": (50, 50, 1)}
    run.begin_session(0, {}, same, {})
    run.check_unchanged({"data_config": str(config)}, same)
    with pytest.raises(UserError, match=r"data's train image_shape is \[9, 9, 1\].*\[50, 50, 1\]"):
        run.check_unchanged({"data_config": str(config)}, {"train image_shape": (9, 9, 1)})
    config.write_text("x = 2\n")
    with pytest.raises(
        UserError,
        match="`data_config=.*a.py` differs from the resumed run's .*; name a file with that content",
    ):
        run.check_unchanged({"data_config": str(config)}, same)
    run.close()


def test_a_run_is_rebuilt_from_configs_of_the_package_or_of_the_user_never_from_its_own(tmp_path):
    run = runs.create(str(tmp_path), "name")
    for recorded in ("seq_mnist_data.py", "mlp_mnist_model.py"):
        run.begin_session(0, {"data_config": recorded}, {}, {})
        found = runs.recorded_config(run.folder, "data_config")
        assert found == config_files.package_path(recorded)
    copy = os.path.join(run.folder, "configs", "data_config.py")
    for recorded in (copy, "configs/data_config.py", "../seq_mnist_data.py", "nowhere.py", ["x"], None):
        run.begin_session(0, {"data_config": recorded}, {}, {})
        with pytest.raises(UserError, match="executed only if you name it: give `data_config`"):
            runs.recorded_config(run.folder, "data_config")
    run.close()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/name cannot be written: Not a directory"):
        runs.create(str(tmp_path / "file"), "name")
