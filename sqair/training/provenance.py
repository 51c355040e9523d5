# SPDX-License-Identifier: GPL-3.0-or-later
"""Which code and which packages made a run."""

import importlib
import os
import platform
import subprocess

_PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_MODULES = ("tensorflow", "sonnet", "numpy")


def versions():
    """Versions of Python and of the packages that numbers depend on: dict of str."""
    found = {name: getattr(importlib.import_module(name), "__version__", "unknown") for name in _MODULES}
    return dict(found, python=platform.python_version())


def git_state():
    """The commit of this code and whether files differ from it: (str, bool); (None, None) outside git."""
    try:
        if os.path.realpath(_git("rev-parse", "--show-toplevel")) != os.path.dirname(_PACKAGE_FOLDER):
            return None, None  # installed somewhere below a repository that is not ours
        return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*arguments):
    command = ["git", "-C", _PACKAGE_FOLDER, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return done.stdout.decode().strip()
