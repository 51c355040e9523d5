# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser without a window, where Chromium is installed."""

import shutil
import subprocess
import tempfile

import pytest

_QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage"
).split()


def dump(address, *options, timeout=120):
    """The document of an address as HTML, when it has loaded and run its scripts; a skip without a browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *_QUIET, f"--user-data-dir={profile}", *options, "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout
