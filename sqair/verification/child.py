# SPDX-License-Identifier: GPL-3.0-or-later
"""Another script as a process that is asked to end, and saves, when its time is over or this process has to end."""

import contextlib
import ctypes
import signal
import subprocess
import sys

from sqair import files
from sqair.errors import UserError

POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def run(command, log, is_over=lambda: False):
    """Runs a program and waits for it.

    It is in a session of its own, so that Ctrl-C on a terminal reaches this process alone, which passes it on once: a
    second signal would end a training before it has saved. So this process then takes no more of them until the program
    has ended. Under Linux it also ends when this process is killed.

    It has to be called in the main thread.

    Args:
        command: list of str.
        log: path of the file that its output is added to.
        is_over: function, asked again and again whether the program is to end: then it gets SIGTERM.

    Returns:
        Its exit status.

    Raises:
        UserError: if the log can't be written.
        KeyboardInterrupt: when this process is interrupted, after the program has ended.
    """
    with files.writing(log):
        file = open(log, "a")  # noqa: SIM115, closed below, where other errors may occur
    with file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, preexec_fn=_end_with_parent
        )
        asked = False
        try:
            while True:
                try:
                    return process.wait(POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    if not asked and is_over():
                        asked = True
                        process.terminate()
        except BaseException:
            with _undisturbed():
                if not asked:
                    process.terminate()
                process.wait()
            raise


def check(status, command, log, allowed=(0,)):
    """Raises a `UserError` with the last line of the log if a status is not among those allowed."""
    if status in allowed:
        return
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    raise UserError(
        f"{' '.join(command[1:3])} ended with status {status}: {lines[-1] if lines else 'it said nothing'}"
        f" (all that it said is in {log})"
    )


@contextlib.contextmanager
def _undisturbed():
    """Within it SIGINT and SIGTERM are ignored."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent():
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
