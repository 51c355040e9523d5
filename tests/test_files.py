# SPDX-License-Identifier: GPL-3.0-or-later
import errno
import os

import pytest
import stub_disk

from sqair import files
from sqair.errors import UserError


@pytest.fixture
def disk(monkeypatch):
    return stub_disk.record(monkeypatch)


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "numbers"
    for content in ("old", "new"):
        with files.atomic_write(str(path)) as file:
            file.write(content)
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == content
    assert os.listdir(str(tmp_path)) == ["numbers"]


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(str(path), "wb") as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old" and os.listdir(str(tmp_path)) == ["numbers"]


def test_contents_are_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path, disk):
    path = str(tmp_path / "numbers")
    with files.atomic_write(path) as file:
        file.write("new")
    partial = f"{path}.{os.getpid()}.partial"
    assert disk == [("fsync", partial, 3), ("replace", path), ("fsync", str(tmp_path), None)]


def test_new_folders_are_on_the_disk(tmp_path, disk):
    folder = str(tmp_path / "a" / "b")
    files.make_folder(folder)
    files.make_folder(folder)
    assert disk == [("fsync", str(tmp_path), None), ("fsync", str(tmp_path / "a"), None)]
    assert os.path.isdir(folder)


def test_a_folder_is_on_the_disk_with_its_files(tmp_path, disk):
    (tmp_path / "x").write_text("12")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "y").write_text("123")
    files.sync_folder(str(tmp_path))
    below = [("fsync", str(tmp_path / "below" / "y"), 3), ("fsync", str(tmp_path / "below"), None)]
    assert disk == [*below, ("fsync", str(tmp_path / "x"), 2), ("fsync", str(tmp_path), None)]


def test_a_file_system_that_cannot_sync_folders_is_no_reason_to_fail(tmp_path, monkeypatch):
    def fail(number):
        def fsync(descriptor):
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", fail(errno.EINVAL))
    files.sync(str(tmp_path))
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    refused = pytest.raises(UserError, match="x cannot be written: Input/output error")
    with refused, files.atomic_write(str(tmp_path / "x")):
        pass
    assert os.listdir(str(tmp_path)) == []


def test_what_cannot_be_written_is_named_with_a_remedy(tmp_path):
    path = str(tmp_path / "none" / "x")
    sentence = f"{path} cannot be written: No such file or directory; check free space and permissions"
    with pytest.raises(UserError, match=sentence), files.atomic_write(path):
        pass
    refused = pytest.raises(UserError, match="x cannot be written: No such file or directory; pray.")
    with refused, files.writing("x", remedy="pray"):
        open(path)  # noqa: SIM115


def test_a_folder_that_no_file_can_be_made_in_is_found_out_before(tmp_path):
    folder = tmp_path / "new" / "folder"
    files.check_writable(str(folder))
    assert os.listdir(str(folder)) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/x cannot be written"):
        files.check_writable(str(tmp_path / "file" / "x"))
