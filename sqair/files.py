# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that appear complete or not at all, and that are on the disk before anything relies on them.

A rename alone protects from a process that ends; a machine that stops may still lose what the system has not written
out, the contents of a file as well as its name in the folder.
"""

import contextlib
import errno
import os
import tempfile

from sqair.errors import UserError


@contextlib.contextmanager
def atomic_write(path, mode="w"):
    """A file to write that takes the place of `path` once it is complete, and vanishes if that fails.

    Args:
        path: str.
        mode: str, as of `open`.

    Raises:
        UserError: if it can't be written.
    """
    partial = f"{path}.{os.getpid()}.partial"
    with writing(path):
        try:
            with open(partial, mode) as file:
                yield file
            publish(partial, path)
        finally:
            with contextlib.suppress(OSError):
                os.remove(partial)


def publish(partial, path):
    """Gives a complete file its name, in the same file system; both are on the disk afterwards."""
    sync(partial)
    os.replace(partial, path)
    sync(os.path.dirname(path) or ".")


def make_folder(path):
    """Makes a folder that may exist, and those above it; their names are on the disk afterwards."""
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.exists(path):
        make_folder(parent)
        os.makedirs(path, exist_ok=True)
        sync(parent)


def check_writable(folder):
    """Makes a folder, unless it exists, and sees whether files can be made in it.

    Raises:
        UserError: if they can't.
    """
    with writing(folder):
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass


def sync(path):
    """Waits until a file's contents, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that can't do this for folders
            raise
    finally:
        os.close(descriptor)


def sync_folder(path):
    """Waits until a folder's names and the contents of the files in it, and in folders below, are on the disk."""
    for folder, _, names in os.walk(path, topdown=False):
        for name in names:
            sync(os.path.join(folder, name))
        sync(folder)


@contextlib.contextmanager
def writing(path, remedy="check free space and permissions, or write elsewhere"):
    """Turns an error of the system while writing into a `UserError` that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}; {remedy}.") from None
