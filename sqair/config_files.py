# SPDX-License-Identifier: GPL-3.0-or-later
"""Config files: modules with a function `load`, found by name among the package's own or by path."""

import importlib
import importlib.util
import os
import sys
import traceback

from sqair.errors import UserError

_PACKAGE = "sqair.configs"
_FOLDER = os.path.join(os.path.dirname(os.path.realpath(__file__)), "configs")


def load(path_or_name):
    """Imports a config file: a path, or the bare name of a file in `sqair/configs` (with or without `.py`).

    Returns:
        The module; the same one when called again for the same file.

    Raises:
        UserError: if the file is missing, fails to import, defines a flag twice, or defines no `load`.
    """
    path = find(path_or_name)
    stem = os.path.splitext(os.path.basename(path))[0]
    try:
        if os.path.dirname(path) == _FOLDER:
            module = importlib.import_module(f"{_PACKAGE}.{stem}")
        else:
            module = _import_file(path, stem)
    except UserError:
        raise
    except Exception as error:  # whatever the user's file raises is reported as the file's fault
        line = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split()).rstrip(".")
        where = f" at {line.filename}:{line.lineno}" if not isinstance(error, SyntaxError) else ""
        raise UserError(
            f"Config file {path} fails to import{where}: {type(error).__name__}: {text}."
        ) from None
    if not callable(getattr(module, "load", None)):
        raise UserError(
            f"Config file {path} defines no function `load`, which is what a config is used through."
        )
    return module


def name_of(path):
    """What to record of a config file: its bare name if it is one of the package, else its whole path."""
    path = os.path.realpath(path)
    return os.path.basename(path) if os.path.dirname(path) == _FOLDER else path


def package_path(name):
    """The path of the package's config file of this bare name; None if there is none."""
    return os.path.join(_FOLDER, name) if name in package_names() else None


def package_names():
    """The names of the package's config files: sorted list of str."""
    return sorted(name for name in os.listdir(_FOLDER) if name.endswith(".py") and name[0] != "_")


def find(path_or_name):
    """The path of a config file, as `load` takes it, without importing it.

    Raises:
        UserError: if there is no such file.
    """
    names = [path_or_name] if path_or_name.endswith(".py") else [path_or_name, path_or_name + ".py"]
    for candidate in [*filter(None, map(package_path, names)), *names]:
        if candidate.endswith(".py") and os.path.isfile(candidate):
            return os.path.realpath(candidate)
    raise UserError(
        f"Config file {path_or_name!r} does not exist; "
        f"give the path of a Python file or one of {', '.join(package_names())}."
    )


def _import_file(path, stem):
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) and os.path.realpath(module.__file__) == path:
            return module
    name = f"sqair_config_{stem}"
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
