# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that appear complete or not at all."""

import contextlib
import errno
import os
import shutil
import socket
import tempfile

from sqair import files
from sqair.data.storage import INDEX, SHARD_ENDING
from sqair.errors import UserError

_SWAP_TRIES = 20


def check_target(directory, overwrite=False):
    """Raises UserError if a data set cannot go into this folder; `overwrite` allows to replace one."""
    target = os.path.realpath(directory)
    content = _content(target)
    foreign = [name for name in content if name != INDEX and not name.endswith(SHARD_ENDING)]
    if content and (foreign or INDEX not in content):
        raise UserError(
            f"Folder {target!r} holds files that are not a data set ({(foreign or content)[0]}); "
            "name another one for the data set."
        )
    if content and not overwrite:
        raise UserError(
            f"Folder {target!r} already holds a data set; "
            "name another one, or give `overwrite` to replace it."
        )


def check_vacant(directory, overwrite=False):
    """Raises UserError if there is anything in this folder, which nothing may replace: the other `check`."""
    if _content(os.path.realpath(directory)):
        raise UserError(f"Folder {directory!r} is in use already; name another one, or remove it.")


@contextlib.contextmanager
def staged_folder(directory, overwrite=False, check=check_target):
    """Gives a temporary folder beside `directory`, which takes its place when the block ends well.

    When the block fails, or the process is killed, `directory` is as it was; a temporary folder left by a
    process that was killed is removed by the next one. Several processes may do this at once: one wins.

    Args:
        directory: path of a folder that does not exist or is empty, or that `check` lets be replaced.
        overwrite: bool, for `check`.
        check: function of a path and `overwrite`, which raises UserError if the folder may not take its place.

    Raises:
        UserError: if the folder is in use or cannot be written.
    """
    target = os.path.realpath(directory)
    check(target, overwrite)
    with files.writing(f"Folder {directory!r}", "nothing was kept"):
        files.make_folder(os.path.dirname(target))
        _remove_abandoned(target)
        staging = tempfile.mkdtemp(prefix=_prefix(target), dir=os.path.dirname(target))
        try:
            yield staging
            os.chmod(staging, 0o777 & ~_umask())
            _publish(staging, target, overwrite, check)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _content(target):
    if os.path.exists(target) and not os.path.isdir(target):
        raise UserError(f"{target!r} is not a folder; name another one.")
    try:
        return sorted(os.listdir(target))
    except OSError:  # there is none, another process is just replacing it, or writing will tell
        return []


def _publish(staging, target, overwrite, check):
    """Renames `staging` to `target`; what is there and may be replaced moves aside until this one is on the disk."""
    files.sync_folder(staging)
    for _ in range(_SWAP_TRIES):
        try:
            os.rename(staging, target)
            files.sync(os.path.dirname(target))
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        check(target, overwrite)  # another process may have published since the start
        aside = tempfile.mkdtemp(prefix=_prefix(target), dir=os.path.dirname(target))
        try:
            with contextlib.suppress(FileNotFoundError):  # another process is just replacing it
                os.rename(target, aside)
            try:
                os.rename(staging, target)
            except OSError:  # another process was faster
                continue
            files.sync(os.path.dirname(target))
            return
        finally:
            if not os.path.exists(target) and os.listdir(aside):
                with contextlib.suppress(OSError):  # another process was faster
                    os.rename(aside, target)
            shutil.rmtree(aside, ignore_errors=True)
    raise UserError(f"Folder {target!r} is being replaced by other processes all the time; name another one.")


def _prefix(target, process=None):
    process = os.getpid() if process is None else process
    return f".{os.path.basename(target)}.partial-{socket.gethostname()}-{process}-"


def _remove_abandoned(target):
    """Removes temporary folders of processes of this machine that are no more."""
    parent = os.path.dirname(target)
    start = f".{os.path.basename(target)}.partial-{socket.gethostname()}-"
    for name in os.listdir(parent):
        process = name[len(start) :].split("-")[0]
        if not name.startswith(start) or not process.isdigit():
            continue
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        except OSError:
            continue  # alive, and another user's


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
