# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies copies of the package, each in a process of its own; TensorFlow is imported once for all of them.

As a program it reads lines of JSON, [folder of a copy, path of a case, whether to compute gradients], and answers each
with a line of JSON, [exit status of the copy's scripts/verify_reference.py, what it printed, its errors].
"""

import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback


class Verifier:
    """The program as a context: `verify(folder, case)` gives (status, output, errors)."""

    def __enter__(self):
        command = [sys.executable, os.path.abspath(__file__)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._process = subprocess.Popen(command, universal_newlines=True, **pipes)
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def verify(self, folder, case, gradients=True):
        self._process.stdin.write(json.dumps([str(folder), case, gradients]) + "\n")
        self._process.stdin.flush()
        return tuple(json.loads(self._process.stdout.readline()))


def in_child(folder, case, gradients):
    """Runs the copy's script as a fork of this process."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = os.fork()
        if not process:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            os._exit(script(folder, case, gradients))
        _, status = os.waitpid(process, 0)
        output.seek(0)
        errors.seek(0)
        return (
            os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status),
            output.read(),
            errors.read(),
        )


def script(folder, case, gradients):
    """The exit status of the script; without gradients, all of them are 0, which takes half the time."""
    sys.path.insert(0, folder)
    from sqair.graph_mode import tf

    if not gradients:
        tf.gradients = lambda _, parameters, **options: [tf.zeros_like(parameter) for parameter in parameters]
    path = os.path.join(folder, "scripts", "verify_reference.py")
    sys.argv = [path, case]
    try:
        runpy.run_path(path, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
    # TensorFlow and Sonnet as the package imports them, without the package.
    runpy.run_path(
        os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sqair", "graph_mode.py")
    )

    for line in sys.stdin:
        answer = in_child(*json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
