# SPDX-License-Identifier: GPL-3.0-or-later
"""Models from the network: the manifest that lists their archives, and their way into a folder of models.

A manifest is a JSON file, {"models": [{"name": ..., "address": ..., "size": bytes, "sha256": hex digits}, ...]}. The
address is that of an archive (`sqair.data.archives`), absolute or relative to the manifest's own address.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import urllib.parse
from typing import NamedTuple

from sqair import files
from sqair.data import archives
from sqair.data.download import download
from sqair.data.publishing import check_vacant, staged_folder
from sqair.errors import UserError

MANIFEST = "manifest.json"

_MANIFEST_SECONDS = 60.0
_MAX_MANIFEST_BYTES = 1 << 18
_MAX_BYTES = 1 << 50  # of an archive
_ADDRESS = re.compile("[!-~]+")
_SHA256 = re.compile("[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class Entry(NamedTuple):
    """What a manifest says of a model."""

    name: str  # of its folder
    address: str  # of its archive
    size: int  # of the archive, in bytes
    sha256: str  # of the archive, in hexadecimal digits


def read_manifest(source):
    """Reads which models there are.

    Args:
        source: str, path or http(s) address of a manifest.

    Returns:
        List of `Entry`.

    Raises:
        UserError: if it cannot be read or is none.
    """
    is_address = "://" in source
    try:
        if is_address:
            content = io.BytesIO()
            download(source, content.write, _MANIFEST_SECONDS, _MAX_MANIFEST_BYTES)
            content = content.getvalue()
        else:
            with open(source, "rb") as file:
                content = file.read(_MAX_MANIFEST_BYTES + 1)
        entries = _parse(content, base=source if is_address else "")
    except OSError as error:
        raise UserError(
            f"Manifest {source} cannot be read: {error.strerror}; give `manifest`, the path or address of one."
        ) from None
    except ValueError as error:
        raise UserError(f"Manifest {source} {error}; give `manifest`, the path or address of one.") from None
    return entries


def choose(entries, names, source):
    """The entries of these names, or all without names.

    Args:
        entries: list of `Entry`.
        names: list of str.
        source: str, where the entries come from, for messages.

    Raises:
        UserError: if there is none.
    """
    if not entries:
        raise UserError(f"Manifest {source} lists no model; give `manifest`, the path or address of another.")
    by_name = {entry.name: entry for entry in entries}
    for name in names:
        if name not in by_name:
            raise UserError(f"`models={name}` is refused: {source} lists {', '.join(by_name)}.")
    return [by_name[name] for name in dict.fromkeys(names or by_name)]


def fetch(entry, models_dir, timeout, progress):
    """Downloads a model's archive, checks it, and unpacks it into `models_dir/name`.

    What has arrived of an archive is kept in `models_dir` if the rest does not come, and the next call goes on with it.

    Args:
        entry: `Entry`.
        models_dir: str.
        timeout: seconds that the download may take.
        progress: function of `total` and `initial`, numbers of bytes, that gives a context whose value has a method
            `update`, e.g. `tqdm`.

    Returns:
        The path of the model's folder, and whether it is new: what is in use is left as it is.

    Raises:
        UserError: if the server does not send what the manifest lists, or something cannot be written.
    """
    folder = os.path.join(models_dir, entry.name)
    if os.path.isfile(os.path.join(folder, "flags.json")):
        return folder, False
    check_vacant(folder)
    partial = os.path.join(models_dir, f"{entry.name}-{entry.sha256[:12]}.zip.partial")
    with files.writing(partial):
        files.make_folder(models_dir)
        with open(partial, "ab") as file:
            _lock(file)
            _complete(entry, file, timeout, progress)
            _check(entry, partial)
            with staged_folder(folder, check=check_vacant) as staging:
                _unpack(entry, partial, staging)
            os.remove(partial)
    return folder, True


def publish(folder, out_dir, address=""):
    """Makes an archive of a model's folder, and its entry in the manifest beside it.

    Args:
        folder: str, of a model; its name is the model's.
        out_dir: str, where `NAME.zip` and `manifest.json` go, to be put on a server as they are.
        address: str, of the folder that the archive will be in; beside the manifest by default.

    Returns:
        `Entry`.

    Raises:
        UserError: if the folder is not a model's, there is another archive of that name, or it cannot be written.
    """
    name = os.path.basename(os.path.abspath(folder))
    path, manifest = os.path.join(out_dir, f"{name}.zip"), os.path.join(out_dir, MANIFEST)
    address = f"{address.rstrip('/')}/{name}.zip" if address else f"{name}.zip"
    if not archives.NAME.fullmatch(name) or not _ADDRESS.fullmatch(address):
        raise UserError(
            f"The name {name!r} or {address!r} is refused: names are letters, digits and ._- here."
        )
    if os.path.exists(path):
        raise UserError(f"{path} exists already; remove it, or choose another `out_dir`.")
    entries = read_manifest(manifest) if os.path.exists(manifest) else []
    with files.writing(out_dir):
        files.make_folder(out_dir)
    archives.pack(folder, path)
    entry = Entry(name, address, os.path.getsize(path), _sha256(path))
    entries = [other for other in entries if other.name != name] + [entry]
    with files.atomic_write(manifest) as file:
        json.dump({"models": [other._asdict() for other in entries]}, file, indent=2)
        file.write("\n")
    return entry


def _parse(content, base):
    """The entries of a manifest; ValueError with what is wrong, the end of a sentence."""
    try:
        if len(content) > _MAX_MANIFEST_BYTES:
            raise ValueError("too large")
        listed = json.loads(content.decode("utf-8"))["models"]
        if not isinstance(listed, list):
            raise ValueError("no list")
    except (ValueError, TypeError, LookupError, RecursionError):
        raise ValueError('is no manifest (a JSON file that holds {"models": [...]})') from None
    entries = [_entry(item, base, position) for position, item in enumerate(listed, 1)]
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("lists a name twice")
    return entries


def _entry(item, base, position):
    item = item if isinstance(item, dict) else {}
    values = [item.get(field) for field in Entry._fields]
    name, address, size, sha256 = values
    checks = {
        "name": (isinstance(name, str) and archives.NAME.fullmatch(name), "letters, digits and ._-"),
        "address": (isinstance(address, str) and _ADDRESS.fullmatch(address), "that of an archive"),
        "size": (type(size) is int and 0 < size < _MAX_BYTES, "its number of bytes"),
        "sha256": (isinstance(sha256, str) and _SHA256.fullmatch(sha256), "64 hexadecimal digits"),
    }
    for field, (holds, wanted) in checks.items():
        if not holds:
            raise ValueError(f"is wrong in its model {position}: its {field} must be {wanted}")
    return Entry(name, urllib.parse.urljoin(base, address), size, sha256)


def _lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{file.name} is being downloaded by another process; wait for it to end.") from None


def _complete(entry, file, timeout, progress):
    """Appends what is missing of the archive."""
    offset = file.tell()
    if offset >= entry.size:
        return
    try:
        with progress(total=entry.size, initial=offset) as bar:

            def write(chunk):
                file.write(chunk)
                bar.update(len(chunk))

            download(entry.address, write, timeout, entry.size, offset, exact=True)
    except ValueError as error:
        kept = file.tell()
        remedy = (
            f"run this again to go on after the {kept} of {entry.size} bytes that are kept in {file.name}"
        )
        if not kept:
            _discard(file.name)
            remedy = "check the network and the manifest"
        raise UserError(
            f"Model {entry.name} was not downloaded: {entry.address} {error}; {remedy}."
        ) from None
    file.flush()


def _check(entry, path):
    found = _sha256(path)
    if found != entry.sha256:
        _discard(path)
        raise UserError(
            f"Model {entry.name} was not downloaded: {entry.address} sent other bytes than the manifest lists (their"
            f" SHA-256 is {found}, not {entry.sha256}); nothing was kept, run this again or give another `manifest`."
        )


def _unpack(entry, path, folder):
    try:
        archives.unpack(path, folder)
    except ValueError as error:
        _discard(path)
        raise UserError(
            f"Model {entry.name} was not unpacked: the archive {entry.address} {error}; nothing was kept, give"
            " another `manifest`."
        ) from None


def _discard(path):
    with contextlib.suppress(OSError):
        os.remove(path)


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()
