# SPDX-License-Identifier: GPL-3.0-or-later
"""The pins of the requirements, and the package that setup.py makes."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import sqair
from sqair import graph_mode

try:
    from importlib.metadata import version
except ImportError:  # before Python 3.8
    from importlib_metadata import version

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REAL_PYTHON = os.path.realpath(sys.executable)


def requirement_lines(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        lines = [line.split("#")[0].strip() for line in file]
    return [line for line in lines if line]


FILES = {
    1: ("requirements.txt", "requirements-dev.txt"),
    2: ("requirements-tf2.txt", "requirements-dev-tf2.txt"),
}
HERE = FILES[2 if graph_mode.TF2 else 1]


@pytest.mark.parametrize("tensorflow", [1, 2])
def test_requirements_are_pinned(tensorflow):
    lines = [line for name in FILES[tensorflow] for line in requirement_lines(name)]
    for line in lines:
        assert re.match(r"^[A-Za-z0-9_.-]+==[0-9][0-9.]*(\.post[0-9]+)?(; .*)?$", line), line
    names = [line.split("==")[0].lower() for line in lines]
    assert len(names) == len(set(names))
    pins = dict(line.split(";")[0].split("==") for line in lines)
    assert {"numpy", "scipy", "matplotlib", "orderedattrdict", "absl-py", "tensorboard"} <= set(pins)
    if tensorflow == 1:
        assert pins["tensorflow-gpu"] == pins["tensorflow"] == "1.15"
        assert pins["dm-sonnet"] == "1.36"
        assert tuple(int(part) for part in pins["protobuf"].split(".")) < (3, 21)
    else:  # Sonnet would bring packages of TensorFlow 1 along: scripts/setup.sh installs it without
        assert pins["tensorflow"].startswith("2.")
        assert not {"dm-sonnet", "tensorflow-probability", "attrdict"} & set(pins)
        assert {"six", "semantic-version", "contextlib2", "wrapt"} <= set(pins)


@pytest.mark.parametrize(
    "platform, machine, package",
    [
        ("linux", "x86_64", "tensorflow-gpu"),
        ("darwin", "x86_64", "tensorflow"),
        ("win32", "AMD64", "tensorflow"),
        ("linux", "aarch64", "tensorflow"),
    ],
)
def test_one_tensorflow_is_asked_for_on_each_platform(platform, machine, package):
    environment = {"sys_platform": platform, "platform_machine": machine}
    wanted = [Requirement(line) for line in requirement_lines("requirements.txt")]
    wanted = [r.name for r in wanted if r.marker is None or r.marker.evaluate(environment)]
    assert [name for name in wanted if name in ("tensorflow", "tensorflow-gpu")] == [package]


def test_what_is_installed_here_is_what_is_pinned():
    assert version("dm-sonnet") == "1.36"
    for line in [line for name in HERE for line in requirement_lines(name)]:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(version(requirement.name)), line


def test_make_test_leaves_out_what_is_slow_and_nothing_else():
    commands = {}
    # Without what a `make test` around this says.
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("TF", "SQAIR_TF")
    }
    for target in ("test", "test-all"):
        printed = subprocess.check_output(["make", "-n", target], cwd=ROOT, env=environment, text=True)
        setup, commands[target] = printed.splitlines()
        assert setup == "scripts/setup.sh"
    assert commands["test"].split() == commands["test-all"].split() + ["-m", '"not', 'slow"']
    assert " .venv/bin/python " in commands["test"]
    second = subprocess.check_output(["make", "-n", "test", "TF=2"], cwd=ROOT, env=environment, text=True)
    assert second.splitlines()[1] == commands["test"].replace(" .venv/", " .venv-tf2/")


def setup_says(*questions):
    command = [sys.executable, "setup.py", "--quiet", *questions]
    output = subprocess.check_output(command, cwd=ROOT, stderr=subprocess.DEVNULL, universal_newlines=True)
    return output.splitlines()


def test_setup_py_describes_the_package():
    lines = setup_says("--name", "--version", "--license", "--classifiers")
    assert lines[:3] == ["sqair", sqair.__version__, "GPL-3.0-or-later"]
    assert "Programming Language :: Python :: 3.7" in lines
    assert any("GPLv3+" in line for line in lines)


def test_what_the_package_needs_beside_its_modules_is_named_as_package_data(monkeypatch):
    arguments = {}
    monkeypatch.setattr(setuptools, "setup", arguments.update)
    with open(os.path.join(ROOT, "setup.py"), encoding="utf-8") as file:
        code = compile(file.read(), os.path.join(ROOT, "setup.py"), "exec")
    exec(code, {"__file__": os.path.join(ROOT, "setup.py"), "__name__": "setup"})
    for python, file in (
        ("3.7", "requirements.txt"),
        ("3.10", "requirements-tf2.txt"),
        ("3.12", "requirements-tf2.txt"),
    ):
        environment = {"python_version": python}
        wanted = [Requirement(line) for line in arguments["install_requires"]]
        wanted = {(r.name, str(r.specifier)) for r in wanted if r.marker.evaluate(environment)}
        pins = [Requirement(line) for line in requirement_lines(file)]
        assert wanted == {(r.name, str(r.specifier)) for r in pins if r.marker is None or r.marker.evaluate()}
        assert SpecifierSet(arguments["python_requires"]).contains(python + ".1")
    assert not any(
        SpecifierSet(arguments["python_requires"]).contains(python) for python in ("3.6.1", "3.9.1", "3.13.0")
    )
    assert set(arguments["extras_require"]["tf2"]) < set(arguments["install_requires"])
    assert arguments["extras_require"]["gpu"][0].startswith("tensorflow[and-cuda]==2.")
    tracked = subprocess.check_output(["git", "ls-files", "sqair"], cwd=ROOT, universal_newlines=True).split()
    for path in tracked:
        package = os.path.dirname(path).replace("/", ".")
        assert package in arguments["packages"], path
        patterns = ["*.py"] + arguments["package_data"].get(package, [])
        assert any(fnmatch(os.path.basename(path), pattern) for pattern in patterns), path


@pytest.mark.slow
def test_the_package_installs_into_a_clean_environment_and_imports_from_elsewhere(tmp_path):
    python = str(tmp_path / "venv" / "bin" / "python")
    source = tmp_path / "source"
    subprocess.check_call(["git", "clone", "-q", ROOT, str(source)])
    subprocess.check_call([REAL_PYTHON, "-m", "venv", str(tmp_path / "venv")])
    subprocess.check_call([python, "-m", "pip", "install", "-q", "pip==24.0"])
    subprocess.check_call([python, "-m", "pip", "install", "-q", str(source)])
    if graph_mode.TF2:
        refused = subprocess.run([python, "-c", "import sqair.graph_mode"], stderr=subprocess.PIPE, text=True)
        assert "pip install --no-deps dm-sonnet==1.36" in refused.stderr.splitlines()[-1]
        subprocess.check_call([python, "-m", "pip", "install", "-q", "--no-deps", "dm-sonnet==1.36"])
    code = (
        "from sqair import _quiet\n_quiet.quieten()\n"
        "import sqair, sqair.evaluation.metrics, sqair.evaluation.visualization, os\nfrom sqair.graph_mode import tf\n"
        "assert 'site-packages' in sqair.__file__, sqair.__file__\n"
        "assert any(f.endswith('.npz') for f in os.listdir(os.path.join(sqair.__path__[0], 'data')))\n"
        "with tf.Session() as session:\n"
        "    print(session.run(tf.constant(7)))\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("TF_CPP_MIN_LOG_LEVEL", "PYTHONPATH")}
    result = subprocess.run(
        [python, "-c", code],
        cwd=str(tmp_path),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "7\n", "")
