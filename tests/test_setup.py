# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/setup.sh: the search for Python 3.7, and set-up with a stand-in for Python and pip."""

import os
import re
import shutil
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REAL_PYTHON = os.path.realpath(sys.executable)
TOOLS = "bash cat cksum cp dirname env mkdir rm sed sleep tail tee touch tr".split()

# The interpreter that is to be found is the one that runs these tests.
finds_python37 = pytest.mark.skipif(sys.version_info[:2] != (3, 7), reason="run by another Python than 3.7")

# Says of itself that it is Python 3.7, makes "environments", and writes down what pip is asked for.
STAND_IN = """#!/usr/bin/env bash
here=$(dirname "$0")
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo "venv" >>"$CALLS" ;;
  "-m pip") echo "$*" >>"$CALLS"; if [ -e "$PIP_FAILS" ]; then echo "no such package"; exit 1; fi ;;
  "-c "*platform.machine*) echo "${MACHINE:-x86_64}" ;;
  "-c "*realpath*) echo "$0" ;;
esac
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a home, and a path that holds nothing but the few tools that set-up calls."""
    for name in ("home", "bin", "tools"):
        (tmp_path / name).mkdir()
    for tool in TOOLS:
        (tmp_path / "tools" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def python37(path):
    return script(path, f'#!/bin/sh\nexec "{REAL_PYTHON}" "$@"\n')


def run_setup(place, *arguments, root=ROOT, **variables):
    environment = {"HOME": str(place / "home"), "PATH": f"{place}/bin:{place}/tools", **variables}
    return subprocess.run(
        ["bash", os.path.join(str(root), "scripts", "setup.sh"), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def found(place, **variables):
    result = run_setup(place, "--find-python", **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@finds_python37
def test_python_on_the_path_is_found_behind_stubs_that_fail_or_are_another_version(place):
    script(place / "bin" / "python3.7", "#!/bin/sh\necho python3.7: command not found >&2\nexit 127\n")
    script(place / "bin" / "python3", "#!/bin/sh\necho I do nothing at all\n")
    script(place / "bin" / "python", "#!/nowhere/python\n")
    python37(place / "later" / "python3")
    assert found(place, PATH=f"{place}/bin:{place}/later:{place}/tools") == REAL_PYTHON


@finds_python37
@pytest.mark.parametrize(
    "where, variables",
    [
        (".pyenv/versions/3.7.16/bin/python3.7", {}),
        ("elsewhere/versions/3.7.1/bin/python3.7", {"PYENV_ROOT": "{home}/elsewhere"}),
        ("miniconda3/envs/tf1/bin/python", {}),
        ("conda/bin/python", {"CONDA_PREFIX": "{home}/conda"}),
        (".local/share/uv/python/cpython-3.7.9-linux-x86_64-gnu/bin/python3.7", {}),
        (".asdf/installs/python/3.7.17/bin/python3.7", {}),
        ("any where/it is", {"PYTHON": "{home}/any where/it is"}),
    ],
)
def test_python_is_found_where_version_managers_put_it(place, where, variables):
    python37(place / "home" / where)
    variables = {name: value.format(home=place / "home") for name, value in variables.items()}
    assert found(place, **variables) == REAL_PYTHON


@finds_python37
def test_python_is_found_in_an_environment_that_conda_lists(place):
    python37(place / "far" / "away" / "bin" / "python")
    (place / "home" / ".conda").mkdir()
    (place / "home" / ".conda" / "environments.txt").write_text("/gone\n{}\n".format(place / "far" / "away"))
    assert found(place) == REAL_PYTHON


@finds_python37
def test_a_python_named_by_hand_that_is_no_python_3_7_is_reported_and_passed_over(place):
    python37(place / "bin" / "python3.7")
    result = run_setup(place, "--find-python", PYTHON="python2")
    assert result.stdout.strip() == REAL_PYTHON
    assert result.stderr == "PYTHON=python2 is no working Python 3.7: looking elsewhere.\n"


@pytest.fixture
def no_python(place):
    """A place without an interpreter; a skip where this machine has one in a folder that cannot be hidden."""
    if run_setup(place, "--find-python").returncode == 0:
        pytest.skip("this machine has a Python 3.7 in a system folder")
    return place


def test_without_python_one_message_says_how_to_get_it(no_python):
    result = run_setup(no_python, "--find-python")
    assert (result.returncode, result.stdout) == (2, "")
    for way in ("uv ", "pyenv install 3.7", "conda create", "PYTHON=", "macOS", "Linux"):
        assert way in result.stderr


@finds_python37
def test_uv_fetches_python(no_python):
    real = python37(no_python / "fetched" / "python3.7")
    done = no_python / "installed"
    text = '#!/bin/sh\ncase "$2" in\nfind) [ -e "{0}" ] && echo "{1}" ;;\ninstall) : >"{0}" ;;\nesac\n'
    script(no_python / "bin" / "uv", text.format(done, real))
    assert found(no_python) == REAL_PYTHON
    assert done.exists()


@pytest.fixture
def checkout(place):
    """A copy of what set-up reads, with a stand-in for Python 3.7; `calls()` lists what was asked of it."""
    for name in (
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-tf2.txt",
        "requirements-dev-tf2.txt",
        "scripts/setup.sh",
    ):
        target = place / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(ROOT, name), str(target))
    script(place / "bin" / "python3.7", STAND_IN)
    script(place / "bin" / "python3.11", STAND_IN)
    variables = {"CALLS": str(place / "calls"), "PIP_FAILS": str(place / "pip-fails")}

    class Checkout:
        root = place / "checkout"
        pip_fails = place / "pip-fails"

        @staticmethod
        def set_up(*arguments, **more):
            return run_setup(place, *arguments, root=place / "checkout", **variables, **more)

        @staticmethod
        def calls():
            path = place / "calls"
            lines = path.read_text().splitlines() if path.exists() else []
            path.write_text("")
            return [line for line in lines if "--version" not in line]

    return Checkout


def installs(calls):
    return [re.sub(r"^.*--no-input ", "", call) for call in calls if " install " in call]


def test_set_up_installs_once_and_then_does_nothing(checkout):
    first = checkout.set_up()
    assert (first.returncode, first.stderr) == (0, "")
    calls = checkout.calls()
    assert calls[0] == "venv"
    assert "-r requirements.txt -r requirements-dev.txt" in installs(calls)
    second = checkout.set_up()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert checkout.calls() == []


def test_set_up_follows_a_change_of_the_requirements(checkout):
    checkout.set_up()
    checkout.calls()
    with open(str(checkout.root / "requirements-dev.txt"), "a") as file:
        file.write("another==1.0\n")
    assert checkout.set_up().returncode == 0
    calls = checkout.calls()
    assert "venv" not in calls
    assert installs(calls)


def test_set_up_that_failed_or_was_interrupted_starts_anew(checkout):
    checkout.pip_fails.touch()
    result = checkout.set_up()
    assert result.returncode == 2
    assert "no such package" in result.stderr
    assert "run it again" in result.stderr
    checkout.pip_fails.unlink()
    checkout.calls()
    assert checkout.set_up().returncode == 0
    assert checkout.calls()[0] == "venv"
    assert checkout.set_up().stdout == ""


def test_set_up_takes_over_the_lock_of_one_that_is_gone(checkout):
    gone = subprocess.Popen(["true"])
    gone.wait()
    lock = checkout.root / ".venv.lock"
    lock.mkdir()
    (lock / "pid").write_text(f"{gone.pid}\n")
    assert checkout.set_up().returncode == 0
    assert not lock.exists()


def test_set_up_says_when_the_processor_has_no_tensorflow(checkout):
    result = checkout.set_up(MACHINE="arm64")
    assert result.returncode == 2
    assert "x86-64" in result.stderr
    assert not (checkout.root / ".venv").exists()


def test_set_up_makes_an_environment_for_each_tensorflow(checkout):
    """Side by side; that of TensorFlow 2 on any processor, with Sonnet and without what Sonnet asks for."""
    assert checkout.set_up().returncode == 0
    checkout.calls()
    assert checkout.set_up(SQAIR_TF="2", MACHINE="arm64").returncode == 0
    calls = checkout.calls()
    assert calls[0] == "venv"
    asked = installs(calls)
    assert (
        "-r requirements-tf2.txt -r requirements-dev-tf2.txt" in asked
        and "--no-deps dm-sonnet==1.36" in asked
    )
    for variables in ({}, {"SQAIR_TF": "1"}, {"SQAIR_TF": "2"}):
        assert checkout.set_up(**variables).stdout == ""
    assert (checkout.root / ".venv").exists() and (checkout.root / ".venv-tf2").exists()


def test_horovod_is_built_once_where_there_is_a_compiler(checkout):
    """After the packages, or into an environment that has them; what was built otherwise is built anew."""
    refused = checkout.set_up("--horovod")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "there is no g++: get g++ and make with your system's packages" in refused.stderr
    assert not (checkout.root / ".venv").exists()
    for tool in ("g++", "make"):
        script(checkout.root.parent / "bin" / tool, "#!/bin/sh\n")
    assert checkout.set_up("--horovod").returncode == 0
    asked = installs(checkout.calls())
    assert [call for call in asked if "cmake==3" in call]
    assert asked[-1].endswith("--no-binary=horovod horovod==0.28.1") and "--no-build-isolation" in asked[-1]
    for arguments in (("--horovod",), (), ("--horovod",)):
        assert checkout.set_up(*arguments).stdout == ""
    assert checkout.calls() == []
    (checkout.root / ".venv" / ".with-horovod").write_text("another\n")
    assert checkout.set_up().stdout == ""
    assert checkout.set_up("--horovod").returncode == 0
    calls = checkout.calls()
    assert "venv" not in calls and len(installs(calls)) == 2
    assert checkout.set_up("--horovod", HOROVOD_GPU_OPERATIONS="NCCL").returncode == 0
    assert len(installs(checkout.calls())) == 2


def test_horovod_that_failed_to_build_leaves_the_environment_and_is_built_again(checkout):
    for tool in ("g++", "make"):
        script(checkout.root.parent / "bin" / tool, "#!/bin/sh\n")
    assert checkout.set_up().returncode == 0
    checkout.pip_fails.touch()
    assert checkout.set_up("--horovod").returncode == 2
    checkout.pip_fails.unlink()
    checkout.calls()
    assert checkout.set_up().stdout == ""
    assert checkout.set_up("--horovod").returncode == 0
    assert "venv" not in checkout.calls()


def test_horovod_is_for_tensorflow_1(checkout):
    refused = checkout.set_up("--horovod", SQAIR_TF="2")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "does not build against 2" in refused.stderr


def test_without_python_3_7_tensorflow_2_is_offered(no_python):
    newer = script(no_python / "bin" / "python3.11", '#!/bin/sh\n[ "$3" = 3.11 ] && echo "$0"\n')
    refused = run_setup(no_python, "--find-python")
    assert refused.returncode == 2 and f"{newer} runs: make setup TF=2" in refused.stderr
    assert (
        run_setup(no_python, "--find-python", "--tf2", PATH=f"{no_python}/bin:{no_python}/tools").returncode
        == 0
    )


def test_set_up_knows_two_tensorflows(place):
    refused = run_setup(place, SQAIR_TF="3")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1) and "it is 1 or 2" in refused.stderr


def test_set_up_refuses_arguments_it_does_not_know(place):
    result = run_setup(place, "--force")
    assert result.returncode == 2
    assert "--force" in result.stderr
