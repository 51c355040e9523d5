# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the layout by reading the sources: which module may import which, and where flags are read."""

import ast
import os
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# From top to bottom: a module imports from its own layer and those below it. `x` is sqair/x.py or sqair/x/.
LAYERS = (
    ("training", "training_graph", "evaluation", "reporting", "verification", "benchmarking"),
    ("checkpoints", "curriculum", "provenance", "reference_names", "runs", "settings", "stored_case"),
    ("configs",),
    ("common_model_flags", "cli"),
    ("objective",),
    ("model", "baselines", "bounds"),
    ("discovery", "propagation", "decoder", "scoring"),
    ("priors", "spatial_transformer", "networks", "distributions", "static_gradients"),
    ("layers",),
    ("compaction",),
    ("ops", "noise", "lean_graph", "loop_gradients"),
    ("data", "metrics", "visualization"),
    ("structures", "errors", "_quiet"),
)
LAYER_OF = {module: level for level, modules in enumerate(LAYERS) for module in modules}

# Modules that import nothing else of the package.
LEAVES = {
    "bounds": {"structures", "errors"},
    "metrics": {"structures", "errors"},
    "visualization": {"structures", "errors", "metrics"},
    "data": {"data", "structures", "errors"},
    "structures": set(),
    "errors": set(),
    "lean_graph": set(),
    "loop_gradients": set(),
    "_quiet": set(),
}
WITHOUT_TENSORFLOW = ("metrics", "visualization", "structures", "errors", "cli", "_quiet")
TENSORFLOW = ("tensorflow", "tensorflow_core", "tensorflow_probability", "sonnet")
READ_FLAGS = ("configs", "common_model_flags", "cli")


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
    """`sqair/data/mnist.py` is `data`, `sqair/ops.py` is `ops`, `sqair/__init__.py` is None."""
    name = path.split("/")[1]
    return None if name == "__init__.py" else name[: -len(".py")] if name.endswith(".py") else name


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
    """The modules of the package that a module imports."""
    return {name.split(".")[1] for name in imports(tree) if name.startswith("sqair.")}


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


@pytest.mark.parametrize("path", MODULES)
def test_imports_only_go_down(path):
    module = module_of(path)
    assert module in LAYER_OF, f"{path} has no layer in tests/test_architecture.py: give it one"
    for other in own_imports(tree_of(path)):
        assert other in LAYER_OF, f"{path} imports sqair.{other}, which has no layer"
        assert LAYER_OF[other] >= LAYER_OF[module], f"{path} imports sqair.{other}, which stands above it"


def test_no_module_imports_itself_by_way_of_others():
    edges = {}
    for path in MODULES:
        edges.setdefault(module_of(path), set()).update(own_imports(tree_of(path)) - {module_of(path)})
    finished = set()

    def visit(module, trail):
        assert module not in trail, "imports go in a circle: " + " -> ".join(trail + [module])
        if module not in finished:
            for other in sorted(edges.get(module, ())):
                visit(other, trail + [module])
            finished.add(module)

    for module in sorted(edges):
        visit(module, [])


@pytest.mark.parametrize("path", [path for path in MODULES if module_of(path) in LEAVES])
def test_leaves_import_nothing_else_of_the_package(path):
    others = own_imports(tree_of(path)) - LEAVES[module_of(path)]
    assert not others, f"{path} imports {sorted(others)} of the package"


@pytest.mark.parametrize("path", [path for path in MODULES if module_of(path) in WITHOUT_TENSORFLOW])
def test_tensorflow_stays_out_of(path):
    assert not [name for name in imports(tree_of(path)) if name.split(".")[0] in TENSORFLOW]


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
    if module_of(path) in READ_FLAGS:
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
    return name.endswith((".py", ".sh", ".toml")) or name in ("Makefile", "run", "requirements.txt")


def test_every_source_names_its_licence_first():
    line = "# SPDX-License-Identifier: GPL-3.0-or-later"
    for path in filter(is_source, sources()):
        first = [text for text in read(path).splitlines()[:2] if not text.startswith("#!")][:1]
        assert first == [line], path


def test_the_readme_names_every_module():
    named = read("README.md")
    for path in LIBRARY:
        assert os.path.basename(path) == "__init__.py" or f"`{path}`" in named, (
            f"README.md has no line for {path}"
        )


def test_modules_say_what_they_hold():
    for path in LIBRARY:
        assert ast.get_docstring(tree_of(path)), path


def test_the_reader_of_imports_sees_all_forms():
    tree = ast.parse(
        "import sqair.model as m\nfrom sqair import ops, noise\nfrom sqair.data.mnist import x\n"
        "def f():\n    from sqair.priors import y\n    return tf.contrib.rnn\nfrom . import z\n"
    )
    assert own_imports(tree) == {"model", "ops", "noise", "data", "priors"}
    assert "tf.contrib.rnn" in attributes(tree)
    assert "..z" in set(imports(tree))
