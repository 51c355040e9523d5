# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the scripts as a user would, with the configs of the tests in reach, no GPU and no proxy."""

import os
import subprocess
import sys

TESTS = os.path.dirname(os.path.abspath(__file__))
SCRIPTS = os.path.join(os.path.dirname(TESTS), "scripts")
STUB_MODEL = f"--model_config={os.path.join(TESTS, 'stub_config.py')}"


def run_script(name, *arguments, **options):
    """A script's exit status, what it printed, and what it complained about; `options` as of `subprocess.run`."""
    path = os.path.join(SCRIPTS, name)
    command = [path] if name.endswith(".sh") else [sys.executable, path]
    tensorflow = "1" if sys.version_info < (3, 8) else "2"
    change = {
        "PYTHON": sys.executable,
        "SQAIR_TF": tensorflow,
        "PYTHONPATH": TESTS,
        "CUDA_VISIBLE_DEVICES": "",
        "no_proxy": "*",
    }
    done = subprocess.run(
        [*command, *arguments], env={**os.environ, **change}, capture_output=True, text=True, **options
    )
    return done.returncode, done.stdout, done.stderr
