# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a run, `results_dir/run_name/N`: what it holds; one process at a time writes into it.

flags.json    every flag as used last, with the names of the config files
run.json      sizes of the data; for each session: when, from which step, versions, what it changed
configs/      copies of both config files, to read
checkpoints/  see `sqair.training.checkpoints`
metrics.csv   every reported number
times.csv     see `sqair.training.times`
events/       the same for TensorBoard, a folder for each source
figures/      pictures of validation sequences
"""

import fcntl
import filecmp
import json
import os
import platform
import time

from sqair import config_files
from sqair.errors import UserError
from sqair.files import atomic_write, make_folder, sync, writing
from sqair.training import provenance, times

_LOCK = ".lock"


class Run:
    """An open run folder, locked until `close` or the end of the process, however that ends."""

    def __init__(self, folder, reads_only=False):
        """Locks an existing folder, or leaves it to the process that writes.

        Raises:
            UserError: if another process holds it, or it can't be written.
        """
        self.folder = folder
        self.checkpoints = os.path.join(folder, "checkpoints")
        self.figures = os.path.join(folder, "figures")
        self.events = os.path.join(folder, "events")
        self.metrics = os.path.join(folder, "metrics.csv")
        self.times = os.path.join(folder, times.NAME)
        self._lock = None if reads_only else _locked(folder)

    def close(self):
        """Lets another process have the folder."""
        if self._lock is not None:
            self._lock.close()

    @property
    def flags(self):
        """The flags as they were used last: dict."""
        return read_json(os.path.join(self.folder, "flags.json"))

    @property
    def record(self):
        """The contents of `run.json`: dict."""
        return read_json(os.path.join(self.folder, "run.json"))

    @property
    def failure(self):
        """What the last session stopped at, dict of step and message; None if it did not fail."""
        return self.record["sessions"][-1].get("failure")

    def begin_session(self, step, flags, data, changed):
        """Records that training starts or goes on, and with what.

        Args:
            step: int, updates done before.
            flags: dict of flag name -> value that can be written as JSON.
            data: dict of what describes the data's sizes -> value.
            changed: dict of flag name -> [before, now]; empty for a new run.
        """
        commit, dirty = provenance.git_state()
        session = {
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": platform.node(),
            "step": step,
            "changed": changed,
            "git_commit": commit,
            "git_dirty": dirty,
            "versions": provenance.versions(),
        }
        is_new = not os.path.exists(os.path.join(self.folder, "run.json"))
        sessions = [] if is_new else self.record["sessions"]
        self._write_json("run.json", {"data": data, "sessions": [*sessions, session]})
        self._write_json("flags.json", flags)

    def record_failure(self, step, message):
        """Notes that training stopped because of numbers that are not finite."""
        record = self.record
        record["sessions"][-1]["failure"] = {"step": step, "message": message}
        self._write_json("run.json", record)

    def copy_configs(self, paths):
        """Copies the config files, dict of flag name -> path, into the run, as a record that is never executed."""
        with writing(self.folder):
            make_folder(os.path.join(self.folder, "configs"))
        for name, path in paths.items():
            with open(path, "rb") as config, atomic_write(config_copy(self.folder, name), "wb") as copy:
                copy.write(config.read())

    def check_unchanged(self, paths, data):
        """Refuses other configs or other data than the run has; arguments as above.

        Raises:
            UserError: if something differs.
        """
        for name, path in paths.items():
            copy = config_copy(self.folder, name)
            if not os.path.isfile(copy) or not filecmp.cmp(path, copy, shallow=False):
                raise UserError(
                    f"`{name}={path}` differs from the resumed run's {copy}; name a file with that content."
                )
        before, now = self.record["data"], json.loads(json.dumps(data))
        for name, value in before.items():
            if now.get(name) != value:
                raise UserError(
                    f"The data's {name} is {now.get(name)}, but {value} in what the resumed run trained on;"
                    " let `data_dir` be the data that it was trained on."
                )

    def _write_json(self, name, content):
        with atomic_write(os.path.join(self.folder, name)) as file:
            json.dump(content, file, indent=2, sort_keys=True)
            file.write("\n")


def _locked(folder):
    """The file whose lock is held until it is closed."""
    with writing(folder):
        lock = open(os.path.join(folder, _LOCK), "a")  # noqa: SIM115  held until `close`
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UserError(
            f"Run {folder} is in use by another process; wait for it to end, or start a new run."
        ) from None
    return lock


def create(results_dir, run_name):
    """Makes the next numbered folder; two processes at once get different ones.

    Returns:
        A new `Run`.

    Raises:
        UserError: if it can't be written.
    """
    parent = os.path.join(results_dir, run_name)
    with writing(parent):
        make_folder(parent)
        number = max(_numbers(parent), default=0) + 1
        while True:
            folder = os.path.join(parent, str(number))
            try:
                os.mkdir(folder)
                sync(parent)
                break
            except FileExistsError:  # another process was faster
                number += 1
    return Run(folder)


def find(results_dir, run_name, which=""):
    """The folder of an existing run.

    Args:
        results_dir: str.
        run_name: str.
        which: str, the number of a run or the path of its folder; empty for the last run.

    Raises:
        UserError: if there is none.
    """
    parent = os.path.join(results_dir, run_name)
    existing = [number for number in _numbers(parent) if _is_run(os.path.join(parent, str(number)))]
    if which:
        for folder in (os.path.join(parent, which), which):
            if _is_run(folder):
                return folder
        known = ", ".join(map(str, existing)) or "none"
        raise UserError(f"There is no run {which!r}; in {parent} there are these runs: {known}.")
    if not existing:
        raise UserError(
            f"There is no run in {parent}; set `results_dir` and `run_name`, or leave out `resume` to train one."
        )
    return os.path.join(parent, str(existing[-1]))


def config_copy(folder, name):
    """Where a run folder keeps its copy of a config file; `name` is that of its flag."""
    return os.path.join(folder, "configs", f"{name}.py")


def recorded_config(folder, name):
    """The path of the package's config file that a run was made with; `name` is that of its flag.

    A run folder is data: neither its copies of config files nor other files that it names are ever executed.

    Raises:
        UserError: if it was made with a file of its user, who has to name that again.
    """
    recorded = read_json(os.path.join(folder, "flags.json")).get(name)
    path = config_files.package_path(recorded)
    if path is None:
        raise UserError(
            f"Run {folder} was made with the config file {recorded or '(not recorded)'}, which is executed only if"
            f" you name it: give `{name}` (the run keeps a copy to read, {config_copy(folder, name)})."
        )
    return path


def differences(before, now, changeable):
    """What a resumed run changes.

    Args:
        before: dict of flag name -> value of the run.
        now: dict of flag name -> value asked for.
        changeable: names of flags that may differ.

    Returns:
        Dict of name -> [before, now] of changeable flags that differ.

    Raises:
        UserError: if another flag differs.
    """
    changed = {name: [before.get(name), now.get(name)] for name in {**before, **now}}
    changed = {name: values for name, values in changed.items() if values[0] != values[1]}
    for name, (old, new) in changed.items():
        if name not in changeable:
            raise UserError(
                f"`{name}={new}` differs from the resumed run's {old}; start a new run for that (resuming may"
                f" change {', '.join(changeable)})."
            )
    return changed


def read_json(path):
    """Reads a JSON file of a run.

    Raises:
        UserError: if it is missing or damaged.
    """
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; is this the folder of a run?") from None


def _is_run(folder):
    return os.path.isfile(os.path.join(folder, "flags.json"))


def _numbers(parent):
    names = os.listdir(parent) if os.path.isdir(parent) else []
    return sorted(int(name) for name in names if name.isdigit())
