# SPDX-License-Identifier: GPL-3.0-or-later
import multiprocessing
import os
import signal

import pytest
import stub_disk
from stub_data_set import content_of, small_set

from sqair.data import publishing
from sqair.errors import UserError


def test_existing_data_is_kept_unless_it_may_be_overwritten(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()  # an empty folder is taken
    small_set(folder)
    before = content_of(folder)
    with pytest.raises(UserError, match="already holds a data set"):
        small_set(folder, seed=1)
    assert content_of(folder) == before
    small_set(folder, seed=1, overwrite=True)
    assert content_of(folder) != before
    assert os.listdir(str(tmp_path)) == ["set"]


def test_foreign_files_are_never_replaced(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"thesis\.tex"):
            small_set(tmp_path / "set", overwrite=overwrite)
        with pytest.raises(UserError, match="not a folder"):
            small_set(tmp_path / "file", overwrite=overwrite)
    small_set(tmp_path / "other")
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        small_set(tmp_path / "other", overwrite=True)


def test_what_may_not_be_replaced_stays(tmp_path):
    folder, check = str(tmp_path / "model"), publishing.check_vacant
    with publishing.staged_folder(folder, check=check) as staging:
        (tmp_path / os.path.basename(staging) / "flags.json").write_text("{}")
    with pytest.raises(UserError, match="model' is in use already"), publishing.staged_folder(
        folder, check=check
    ):
        pass
    with pytest.raises(UserError, match="other' is in use already"), publishing.staged_folder(
        str(tmp_path / "other"), check=check
    ):  # another process was faster
        os.rename(folder, str(tmp_path / "other"))
    assert os.listdir(str(tmp_path)) == ["other"] and os.listdir(str(tmp_path / "other")) == ["flags.json"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), publishing.staged_folder(str(tmp_path / "a" / "set")) as folder:
        (tmp_path / "a" / os.path.basename(folder) / "dataset.json").write_text("{}")
        raise ZeroDivisionError
    assert os.listdir(str(tmp_path / "a")) == []


def test_what_killed_processes_left_is_removed(tmp_path):
    def die():
        with publishing.staged_folder(str(tmp_path / "set")):
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    assert len(os.listdir(str(tmp_path))) == 1 and not (tmp_path / "set").exists()
    small_set(tmp_path / "set")
    assert os.listdir(str(tmp_path)) == ["set"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_several_creators_at_once(tmp_path, overwrite):
    """One wins, or the last one does; the folder holds the whole set of one, and nothing else is left."""
    context = multiprocessing.get_context("fork")
    outcomes = context.Queue()
    barrier = context.Barrier(4)

    def publish(number):
        try:
            with publishing.staged_folder(str(tmp_path / "set"), overwrite) as folder:
                for name in ("dataset.json", "train.tfrecord"):
                    with open(os.path.join(folder, name), "w") as stream:
                        stream.write(str(number))
                barrier.wait()
            outcomes.put("wrote")
        except UserError:
            outcomes.put("refused")

    processes = [context.Process(target=publish, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    results = sorted(outcomes.get(timeout=30) for _ in processes)
    for process in processes:
        process.join()
    assert results == (["wrote"] * 4 if overwrite else ["refused"] * 3 + ["wrote"])
    assert os.listdir(str(tmp_path)) == ["set"]
    assert len(set(content_of(tmp_path / "set").values())) == 1 and len(content_of(tmp_path / "set")) == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody without rights")
def test_a_folder_without_permission(tmp_path):
    def create(sentence):
        os.setuid(65534)
        try:
            small_set(tmp_path / "set")
        except UserError as error:
            sentence.put(str(error))

    context = multiprocessing.get_context("fork")
    sentence = context.Queue()
    process = context.Process(target=create, args=(sentence,))
    process.start()
    assert "cannot be written: Permission denied" in sentence.get(timeout=30)
    process.join()


def test_a_data_set_is_on_the_disk_before_the_one_before_it_is_removed(tmp_path, monkeypatch):
    small_set(tmp_path / "set")
    events = stub_disk.record(monkeypatch)
    small_set(tmp_path / "set", seed=1, overwrite=True)
    names = {name: len(content) for name, content in content_of(tmp_path / "set").items()}
    published = events.index(("replace", str(tmp_path / "set")))
    staging = {os.path.basename(event[1]): event[2] for event in events[:published] if event[0] == "fsync"}
    assert names.items() <= staging.items()  # with their whole sizes
    assert (
        events[published - 2][2] is None and events[published - 1][0] == "replace"
    )  # the folder; the old aside
    assert events[published + 1] == ("fsync", str(tmp_path), None)
    assert [event[0] for event in events[published + 2 :]] == ["remove", "remove"]
