# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of models: zip files of a model's folder, as `models/mlp_sqair` is one, without compression.

Weights hardly get smaller, and without compression the same files give the same bytes with every version of zlib, and
nothing can unpack to more than the archive's own size.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import struct
import zipfile

from sqair.errors import UserError
from sqair.files import atomic_write

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")  # of models, and of files and folders in archives

_MAX_FILES = 1000
_MAX_NAME_LENGTH = 200  # with the folders
_PERMISSIONS = 0o644
_UNIX = 3  # the system that permissions are those of


def pack(folder, path):
    """Writes an archive; the same files give the same bytes.

    Args:
        folder: str, of a model. Files and folders whose names begin with a dot are left out.
        path: str, the archive, which is replaced.

    Raises:
        UserError: if the folder holds no model, or more than files and folders with plain names; or if the archive
            cannot be written.
    """
    names = _files_below(folder)
    try:
        _check_names(names)
    except ValueError as error:
        raise UserError(
            f"Folder {folder!r} {error}; pack a model's folder, as models/mlp_sqair is one."
        ) from None
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name in names:
            member = zipfile.ZipInfo(name)  # of 1980, stored
            member.create_system, member.external_attr = _UNIX, _PERMISSIONS << 16
            with _open(os.path.join(folder, name)) as source:
                member.file_size = os.fstat(source.fileno()).st_size
                with archive.open(member, "w") as target:
                    shutil.copyfileobj(source, target)


def unpack(path, folder):
    """Unpacks a whole archive, or nothing of one that holds anything but files with plain names.

    Args:
        path: str.
        folder: str, an empty folder.

    Raises:
        ValueError: with what is wrong with the archive, the end of a sentence.
        OSError: if it cannot be read, or the files cannot be written.
    """
    with _errors_of_zip(), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_names([member.filename for member in members])
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise ValueError(f"holds {member.filename}, which is no file")
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise ValueError(f"holds {member.filename} compressed")
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("would unpack to more than its own size")
        for member in members:
            target = os.path.join(folder, *member.filename.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(member) as source, open(target, "xb") as file:
                shutil.copyfileobj(source, file)


def _check_names(names):
    """ValueError if these are not the files of a model: paths below its folder, with `/` between."""
    if len(names) > _MAX_FILES:
        raise ValueError(f"holds more than {_MAX_FILES} files")
    folders = set()
    for name in names:
        parts = name.split("/")
        if len(name) > _MAX_NAME_LENGTH or not all(NAME.fullmatch(part) for part in parts):
            raise ValueError(
                f"holds {name!a:.200}, which is no plain name of a file (letters, digits and ._-)"
            )
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if len({*names, *folders}) < len(names) + len(folders):
        raise ValueError("holds a name twice")
    if "flags.json" not in names or not any(re.fullmatch(r"checkpoints/.+\.index", name) for name in names):
        raise ValueError("holds no model (flags.json and a checkpoint in checkpoints/)")


def _files_below(folder):
    """The paths of all files below a folder, relative to it, sorted: list of str."""
    found = []

    def fail(error):
        raise UserError(f"Folder {error.filename!r} cannot be read: {error.strerror}.")

    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in [*folders, *names]:
            path = os.path.join(parent, name)
            mode = os.lstat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(
                    f"{path} is neither a file nor a folder; put a copy in its place, or remove it."
                )
        found += [os.path.relpath(os.path.join(parent, name), folder) for name in names if name[0] != "."]
    return sorted(found)


def _open(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None


@contextlib.contextmanager
def _errors_of_zip():
    damaged = ValueError("is damaged or no zip file of the usual kind")
    try:
        yield
    except (zipfile.BadZipFile, EOFError, UnicodeError, struct.error, NotImplementedError, RuntimeError):
        raise damaged from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # which a position outside the file is
            raise
        raise damaged from None
