# SPDX-License-Identifier: GPL-3.0-or-later
import os
import platform
import subprocess

import numpy as np

from sqair.graph_mode import tf
from sqair.training import provenance

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def test_versions_are_those_that_run():
    found = provenance.versions()
    assert found["numpy"] == np.__version__ and found["tensorflow"] == tf.__version__
    assert found["python"] == platform.python_version() and "sonnet" in found


def repository(folder):
    def git(*arguments):
        command = [
            "git",
            "-C",
            str(folder),
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.com",
            *arguments,
        ]
        return subprocess.check_output(command, universal_newlines=True).strip()

    (folder / "package").mkdir(parents=True)
    (folder / "package" / "file").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "x")
    return git("rev-parse", "HEAD")


def test_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    commit = repository(tmp_path)
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", str(tmp_path / "package"))
    assert provenance.git_state() == (commit, False)
    (tmp_path / "untracked").write_text("")
    assert provenance.git_state() == (commit, False)
    (tmp_path / "package" / "file").write_text("2")
    assert provenance.git_state() == (commit, True)


def test_a_repository_around_an_installed_package_is_not_its_own(tmp_path, monkeypatch):
    repository(tmp_path)
    (tmp_path / "venv" / "package").mkdir(parents=True)
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", str(tmp_path / "venv" / "package"))
    assert provenance.git_state() == (None, None)


def test_outside_of_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(provenance, "_PACKAGE_FOLDER", str(tmp_path / "package"))
    assert provenance.git_state() == (None, None)
