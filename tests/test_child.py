# SPDX-License-Identifier: GPL-3.0-or-later
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from sqair.errors import UserError
from sqair.verification import child

# Notes every SIGTERM, goes on for a while after the first, and ends with its number. Arguments: seconds until it ends
# by itself, and those that it goes on for.
PROGRAM = """
import signal, sys, time
got = []
signal.signal(signal.SIGTERM, lambda *_: got.append(1))
signal.signal(signal.SIGINT, lambda *_: got.append("int"))
print("ready", flush=True)
end = time.time() + float(sys.argv[1])
while not got and time.time() < end:
    time.sleep(0.01)
print("saving", flush=True)
time.sleep(float(sys.argv[2]))
print("got", *got, flush=True)
sys.exit(143 if got else 0)
"""


def command(seconds, saving=0.3):
    return [sys.executable, "-c", PROGRAM, str(seconds), str(saving)]


def text_of(log):
    return pathlib.Path(log).read_text() if os.path.exists(log) else ""


def wait_for(log, text):
    end = time.time() + 60
    while text not in text_of(log):
        assert time.time() < end
        time.sleep(0.02)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "POLL_SECONDS", 0.02)
    return str(tmp_path / "log.txt")


def test_what_ends_by_itself_is_waited_for_and_its_output_kept(log):
    assert child.run(command(0), log) == 0
    assert child.run(command(0), log) == 0
    assert text_of(log) == "ready\nsaving\ngot\n" * 2


def test_what_is_over_is_asked_once_to_end(log):
    status = child.run(command(60), log, lambda: "ready" in text_of(log))
    assert status == 143 and text_of(log) == "ready\nsaving\ngot 1\n"


def test_interruptions_are_passed_on_once_and_what_they_interrupt_may_end_well(log):
    def interrupt():
        wait_for(log, "ready")
        signal.pthread_kill(waiting, signal.SIGINT)
        wait_for(log, "saving")
        for number in numbers:
            signal.pthread_kill(waiting, number)

    numbers, waiting = (signal.SIGINT, signal.SIGTERM), threading.get_ident()
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            child.run(command(60, saving=1.5), log)
        assert [signal.getsignal(number) for number in numbers] == [signal.default_int_handler] * 2
    finally:
        thread.join()
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    assert text_of(log) == "ready\nsaving\ngot 1\n"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process that its parent was killed")
def test_it_ends_when_its_parent_is_killed(log):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.insert(0, {root!r})\nfrom sqair.verification import child\n"
    code += f"child.run({command(60)!r}, {log!r})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(log, "ready")
    finally:
        parent.kill()
        parent.wait()
    wait_for(log, "got 1")


def test_a_failure_is_told_by_the_last_line_of_the_log(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("begin\n`seed=-1` is refused: it must be at least 0.\n\n")
    child.check(143, [], str(log), allowed=(0, 143))
    with pytest.raises(UserError, match=r"train.py --seed=-1 ended with status 2: `seed=-1` is refused"):
        child.check(2, ["python", "train.py", "--seed=-1", "--x"], str(log))
