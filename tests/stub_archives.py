# SPDX-License-Identifier: GPL-3.0-or-later
"""Small models' folders, and archives that nobody should make."""

import zipfile

MODEL = {
    "README.md": b"# A model",
    "checkpoints/model-7.data-00000-of-00001": bytes(range(256)) * 20,
    "checkpoints/model-7.index": b"index",
    "curve.csv": b"step\n7\n",
    "flags.json": b"{}\n",
}


def write_model(folder, files=MODEL):
    """The path of a folder with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(folder)


def content_of(folder):
    """All files below a folder (`pathlib.Path`): dict of path to bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_archive(path, changes=(), **options):
    """Writes an archive of `MODEL` with more or other members, `(name or ZipInfo, content)`; None leaves one out."""
    with zipfile.ZipFile(str(path), "w", **options) as archive:
        changed = {name for name, _ in changes if isinstance(name, str)}
        for name, content in [*((n, c) for n, c in MODEL.items() if n not in changed), *changes]:
            if content is not None:
                archive.writestr(zipfile.ZipInfo(name) if isinstance(name, str) else name, content)
    return str(path)


def member(name, kind=0, compression=zipfile.ZIP_STORED):
    """A `ZipInfo`; `kind` is the upper part of a file's mode."""
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = kind << 16, compression
    return info
