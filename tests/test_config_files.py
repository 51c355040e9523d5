# SPDX-License-Identifier: GPL-3.0-or-later
import os
import sys
import textwrap

import pytest
from absl import flags

from sqair import config_files
from sqair.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture()
def global_flags():
    """Removes the flags that a test defines for all."""
    before = set(flags.FLAGS)
    yield flags.FLAGS
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def config(folder, name, text):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


GOOD = """
    '''Cheese.'''
    from absl import flags
    flags.DEFINE_integer('{0}', 5, 'Number of cheeses.')
    def load(flags):
        return flags.{0}
    """


def test_a_config_of_the_package():
    module = config_files.load("seq_mnist_data.py")
    assert module is config_files.load("seq_mnist_data") is sys.modules["sqair.configs.seq_mnist_data"]
    path = os.path.join(ROOT, "sqair", "configs", "seq_mnist_data.py")
    assert config_files.load(path) is module
    assert config_files.load(os.path.relpath(path)) is module


def test_a_config_by_path(tmp_path, global_flags):
    path = config(tmp_path, "cheese.py", GOOD.format("cheeses"))
    module = config_files.load(path)
    assert config_files.load(path) is module
    assert global_flags["cheeses"].default == 5


def test_configs_of_the_same_name(tmp_path, global_flags):
    modules = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        modules.append(config_files.load(config(tmp_path / name, "same.py", GOOD.format(f"cheeses_{name}"))))
    assert modules[0] is not modules[1]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("load = 3", "defines no function `load`"),
        ("", "defines no function `load`"),
        ("import nothing_of_the_kind", "fails to import.*:1: ModuleNotFoundError"),
        ("1 +", "fails to import.*SyntaxError"),
        ("x = 1\nx.y", "fails to import at .*bad.py:2: AttributeError"),
        (
            "from absl import flags, logging\nflags.DEFINE_bool('log_dir', True, 'Taken.')",
            "DuplicateFlagError",
        ),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    ],
)
def test_bad_configs(tmp_path, global_flags, text, sentence):
    path = config(tmp_path, "bad.py", text)
    for _ in range(2):
        with pytest.raises(UserError, match=sentence) as caught:
            config_files.load(path)
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_of_the_package_is_the_package_s_wherever_it_is_used(tmp_path, monkeypatch):
    config(tmp_path, "seq_mnist_data.py", "raise RuntimeError('run')")
    monkeypatch.chdir(tmp_path)
    assert config_files.load("seq_mnist_data.py").__name__ == "sqair.configs.seq_mnist_data"


def test_what_is_recorded_is_a_name_of_the_package_or_a_whole_path(tmp_path, monkeypatch):
    inside = os.path.join(ROOT, "sqair", "configs", "seq_mnist_data.py")
    monkeypatch.chdir(tmp_path)
    assert config_files.name_of(inside) == "seq_mnist_data.py"
    assert config_files.name_of("seq_mnist_data.py") == str(tmp_path / "seq_mnist_data.py")
    assert config_files.package_path("seq_mnist_data.py") == inside
    for name in ("nowhere.py", "__init__.py", "../cli.py", inside, "seq_mnist_data", ""):
        assert config_files.package_path(name) is None


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere", "no/where.py", "/", "."])
def test_missing_configs(name):
    with pytest.raises(UserError, match="does not exist; .* seq_mnist_data.py"):
        config_files.load(name)
