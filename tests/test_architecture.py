# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the layout by reading the sources: which module may import which, and where flags are read."""

import ast
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# From top to bottom: a module imports from its own layer and those below it, and modules form no circle.
LAYERS = (
    ("training", "evaluation", "verification"),
    ("configs",),
    ("common_model_flags", "framing_flags", "run_flags", "vrnn_flags", "cli"),
    ("model", "baselines"),
    ("engine", "data"),
    ("config_files", "graph_mode", "files", "errors", "_quiet"),
)
LAYER_OF = {package: level for level, packages in enumerate(LAYERS) for package in packages}

# What stays apart from everything but errors, files and itself.
APART = (
    "engine",
    "data",
    "files",
    "errors",
    "_quiet",
    "config_files",
    "graph_mode",
    "model.bounds",
    "model.structures",
    "evaluation.metrics",
)
WITHOUT_TENSORFLOW = (
    "errors",
    "files",
    "cli",
    "_quiet",
    "config_files",
    "model.structures",
    "evaluation.metrics",
    "evaluation.films",
    "evaluation.object_report",
    "evaluation.rendering",
    "evaluation.segmentation",
    "evaluation.sheet",
    "evaluation.tight_boxes",
    "evaluation.tracking",
    "evaluation.visualization",
)
WITHOUT_TEST = ("__init__", "_quiet", "structures")  # nothing to call, or tested where it shows

TENSORFLOW = ("tensorflow", "tensorflow_core", "tensorflow_probability", "sonnet")
DOOR = "sqair/graph_mode.py"  # to TensorFlow
READ_FLAGS = ("configs", "common_model_flags", "framing_flags", "run_flags", "vrnn_flags", "cli")


def sources(*folders):
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    paths = [path for path in listed.splitlines() if os.path.exists(os.path.join(ROOT, path))]
    return [path for path in paths if not folders or path.split("/")[0] in folders]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def tree_of(path):
    return ast.parse(read(path), path)


def module_of(path):
    """`sqair/data/mnist.py` is `data.mnist`, `sqair/errors.py` is `errors`, `sqair/data/__init__.py` is `data`."""
    parts = path[: -len(".py")].split("/")[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module):
    """`data.mnist` is of `data`."""
    return module.split(".")[0]


def imports(tree):
    """Every name that a module imports, in full: `from a.b import c` is `a.b.c`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield "." * node.level + (node.module or "") + "." + alias.name


def own_imports(tree):
    """The modules of the package that a module imports: `from sqair.data import mnist` is `data.mnist`."""
    found = set()
    for name in imports(tree):
        parts = name.split(".")
        while parts[0] == "sqair" and len(parts) > 1 and ".".join(parts[1:]) not in KNOWN:
            parts.pop()
        if parts[0] == "sqair" and len(parts) > 1:
            found.add(".".join(parts[1:]))
    return found


def dotted(node):
    """`a.b.c` of an attribute chain, else None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id] + parts[::-1]) if isinstance(node, ast.Name) else None


def attributes(tree):
    return {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)} - {None}


LIBRARY = [path for path in sources("sqair") if path.endswith(".py")]
PYTHON = [path for path in sources("sqair", "scripts", "tests", "setup.py") if path.endswith(".py")]
MODULES = [path for path in LIBRARY if module_of(path)]
KNOWN = {module_of(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES)
def test_imports_only_go_down(path):
    package = package_of(module_of(path))
    assert package in LAYER_OF, f"{path} has no layer in tests/test_architecture.py: give it one"
    for other in own_imports(tree_of(path)):
        assert LAYER_OF[package_of(other)] >= LAYER_OF[package], (
            f"{path} imports sqair.{other}, which stands above it"
        )


def test_no_module_imports_itself_by_way_of_others():
    edges = {module_of(path): own_imports(tree_of(path)) - {module_of(path)} for path in MODULES}
    finished = set()

    def visit(module, trail):
        assert module not in trail, "imports go in a circle: " + " -> ".join(trail + [module])
        if module not in finished:
            for other in sorted(edges.get(module, ())):
                visit(other, trail + [module])
            finished.add(module)

    for module in sorted(edges):
        visit(module, [])


@pytest.mark.parametrize(
    "path", [path for path in MODULES if module_of(path) in APART or package_of(module_of(path)) in APART]
)
def test_what_stays_apart_imports_nothing_else_of_the_package(path):
    package = package_of(module_of(path))
    others = {
        other
        for other in own_imports(tree_of(path))
        if package_of(other) not in (package, "errors", "files", "graph_mode")
    }
    assert not others, f"{path} imports {sorted(others)} of the package"


@pytest.mark.parametrize("path", [path for path in MODULES if module_of(path) in WITHOUT_TENSORFLOW])
def test_tensorflow_stays_out_of(path):
    names = list(imports(tree_of(path)))
    assert not [
        name for name in names if name.split(".")[0] in TENSORFLOW or name.startswith("sqair.graph_mode")
    ]


@pytest.mark.parametrize("path", PYTHON)
def test_tensorflow_and_sonnet_come_through_one_door(path):
    tree = tree_of(path)
    if path == DOOR:
        return
    allowed = ("tensorflow_probability",) if path.startswith("tests/") else ()  # an oracle
    roots = {name.split(".")[0] for name in imports(tree)}
    assert not roots & set(TENSORFLOW) - set(allowed), f"{path}: from sqair.graph_mode import snt, tf"
    assert not [name for name in attributes(tree) if name.startswith("tf.compat.")], path


def test_figures_keep_no_global_state():
    for path in LIBRARY:
        assert not [name for name in imports(tree_of(path)) if name.startswith("matplotlib.pyplot")], path


@pytest.mark.parametrize("path", LIBRARY)
def test_the_library_imports_neither_scripts_nor_tests(path):
    names = list(imports(tree_of(path)))
    assert not [name for name in names if name.split(".")[0] in ("scripts", "tests", "setup")]
    assert not [name for name in names if name.startswith(".")], "imports are absolute"


@pytest.mark.parametrize("path", MODULES)
def test_flags_are_read_in_scripts_and_configs_only(path):
    if package_of(module_of(path)) in READ_FLAGS:
        return
    tree = tree_of(path)
    assert not [name for name in imports(tree) if name.startswith(("absl.flags", "absl.app", "argparse"))]
    starts = ("flags.FLAGS", "absl.", "tf.flags.", "tf.app.", "FLAGS.")
    read_here = [name for name in attributes(tree) if name.startswith(starts)]
    assert not read_here, f"{path} reads {read_here}"


@pytest.mark.parametrize("path", PYTHON)
def test_nothing_needs_contrib_or_the_folder_it_is_started_in(path):
    tree = tree_of(path)
    assert not [name for name in imports(tree) if "contrib" in name.split(".")]
    used = attributes(tree)
    assert not [name for name in used if name.startswith(("tf.contrib", "tensorflow.contrib"))]
    assert "os.chdir" not in used
    if path.startswith("sqair/"):
        assert not [name for name in used if name.startswith("sys.path")]
    for line in read(path).splitlines():
        if line.startswith(("sys.path.insert(", "sys.path.append(")):  # a script that is not installed
            assert "os.path.abspath(__file__)" in line, f"{path}: {line}"


def is_source(path):
    name = os.path.basename(path)
    return (
        name.endswith((".py", ".sh", ".toml"))
        or name in ("Makefile", "run")
        or name.startswith("requirements")
    )


def test_every_source_names_its_licence_first():
    line = "# SPDX-License-Identifier: GPL-3.0-or-later"
    for path in filter(is_source, sources()):
        first = [text for text in read(path).splitlines()[:2] if not text.startswith("#!")][:1]
        assert first == [line], path


def test_every_module_has_a_test_file():
    wanted = {module_of(path): os.path.basename(path)[: -len(".py")] for path in LIBRARY}
    tests = {os.path.basename(path) for path in sources("tests")}
    missing = {
        module
        for module, name in wanted.items()
        if name not in WITHOUT_TEST and "test_{}.py".format(name) not in tests
    }
    assert not missing


def test_modules_say_what_they_hold():
    for path in LIBRARY:
        assert ast.get_docstring(tree_of(path)), path


def test_the_reader_of_imports_sees_all_forms():
    tree = ast.parse(
        "import sqair.model.sqair as m\nfrom sqair import errors, cli\nfrom sqair.data.mnist import x\n"
        "def f():\n    from sqair.model import priors\n    return tf.contrib.rnn\nfrom . import z\n"
    )
    assert own_imports(tree) == {"model.sqair", "errors", "cli", "data.mnist", "model.priors"}
    assert "tf.contrib.rnn" in attributes(tree)
    assert "..z" in set(imports(tree))
