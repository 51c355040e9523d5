# SPDX-License-Identifier: GPL-3.0-or-later
"""The MNIST digits: from a folder, the cache, a mirror, or the bundle that comes with the package."""

import contextlib
import hashlib
import io
import os
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from sqair.data.download import download
from sqair.errors import UserError
from sqair.files import atomic_write, make_folder, writing

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
TIMEOUT_SECONDS = 120.0  # for one file from one mirror
BUNDLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mnist_bundle.npz")

_SIDE = 28


class IdxFile(NamedTuple):
    """One of MNIST's files."""

    name: str  # without .gz
    num_bytes: int  # unpacked
    md5: str  # of the unpacked bytes


FILES = {
    "train_images": IdxFile("train-images-idx3-ubyte", 47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": IdxFile("train-labels-idx1-ubyte", 60_008, "a25bea736e30d166cdddb491f175f624"),
    "test_images": IdxFile("t10k-images-idx3-ubyte", 7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "test_labels": IdxFile("t10k-labels-idx1-ubyte", 10_008, "27ae3e4e09519cfbb04c329615203637"),
}


class Digits(NamedTuple):
    """Images of digits and what they show."""

    images: np.ndarray  # [P, 28, 28] uint8
    labels: np.ndarray  # [P] uint8, 0 to 9


class DigitSplits(NamedTuple):
    """The digits that training sequences and validation sequences are made of."""

    train: Digits
    valid: Digits


def load(mnist_dir=None, cache=None, mirrors=MIRRORS, timeout=TIMEOUT_SECONDS, files=None):
    """Reads MNIST's training set.

    Args:
        mnist_dir: path of a folder that holds the idx files, gzipped or not; if given, nothing else is tried.
        cache: path of the folder that downloaded files are kept in; `default_cache()` by default.
        mirrors: addresses below which the gzipped files lie, tried in this order.
        timeout: seconds that one file may take from one mirror.
        files: dict like `FILES` (for tests, which have a smaller MNIST).

    Returns:
        `DigitSplits`: the first 55,000 digits for training and the last 5,000 for validation.

    Raises:
        UserError: if a file is missing or damaged, and no mirror serves it.
    """
    files = FILES if files is None else files
    images, labels = (
        _unpacked(files[name], mnist_dir, cache or default_cache(), mirrors, timeout)
        for name in ("train_images", "train_labels")
    )
    images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, _SIDE, _SIDE)
    labels = np.frombuffer(labels, np.uint8, offset=8)
    split = len(images) * 11 // 12  # 55,000 of the 60,000
    return DigitSplits(Digits(images[:split], labels[:split]), Digits(images[split:], labels[split:]))


def load_bundle():
    """The bundled digits: `DigitSplits` of 5,000 training digits, and 1,000 test digits for validation.

    Raises:
        UserError: if the file is missing from the installation or damaged.
    """
    try:
        with open(BUNDLE, "rb") as file, np.load(file) as bundle:
            train = Digits(bundle["train_images"], bundle["train_labels"])
            valid = Digits(bundle["test_images"], bundle["test_labels"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise UserError(
            f"The bundled digits {BUNDLE} are missing or damaged; install the package again."
        ) from None
    return DigitSplits(train, valid)


def default_cache():
    """The folder that downloads are kept in: `$XDG_CACHE_HOME/sqair/mnist`, usually below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "sqair", "mnist")


def _unpacked(file, folder, cache, mirrors, timeout):
    """The bytes of one idx file."""
    if folder is not None:
        return _from_folder(file, folder)
    try:
        return _from_folder(file, cache)
    except UserError:
        return _from_mirrors(file, cache, mirrors, timeout)


def _from_folder(file, folder):
    if not os.path.isdir(folder):
        raise UserError(f"MNIST folder {folder!r} does not exist; name a folder that holds {file.name}.gz.")
    for name in (file.name, file.name + ".gz"):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            continue
        try:
            with open(path, "rb") as stream:
                return _check(file, stream.read(), packed=name.endswith(".gz"))
        except OSError as error:
            raise UserError(f"MNIST file {path!r} cannot be read: {error.strerror or error}.") from None
        except ValueError as error:
            raise UserError(f"MNIST file {path!r} {error}; replace it by an intact copy.") from None
    raise UserError(f"MNIST folder {folder!r} holds neither {file.name} nor {file.name}.gz.")


def _check(file, data, packed):
    """The unpacked bytes; ValueError with what is wrong (the end of a sentence) if they are not MNIST's."""
    if packed:
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            data = unpacker.decompress(data, file.num_bytes + 1)
        except zlib.error:
            raise ValueError("is not a gzip file or is corrupt") from None
    if len(data) < file.num_bytes:
        raise ValueError(f"is truncated ({len(data)} of {file.num_bytes} bytes after unpacking)")
    if len(data) != file.num_bytes or hashlib.md5(data).hexdigest() != file.md5:
        raise ValueError(f"is not MNIST's (its MD5 is not {file.md5})")
    return data


def _from_mirrors(file, cache, mirrors, timeout):
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip("/") + f"/{file.name}.gz"
        try:
            content = io.BytesIO()
            download(url, content.write, timeout, limit=2 * file.num_bytes)
            packed = content.getvalue()
            data = _check(file, packed, packed=True)
        except ValueError as error:
            failures.append(f"{url} {error}")
            continue
        _keep(packed, os.path.join(cache, file.name + ".gz"))
        return data
    tried = "; ".join(failures) or "there is no mirror to try"
    raise UserError(
        f"MNIST could not be downloaded ({tried}): check the network, "
        "or give a folder that holds its files (`mnist_dir`), or use `bundled_digits`."
    )


def _keep(packed, path):
    """Writes a file to the cache, wholly or not at all; a cache that cannot be written does without."""
    with contextlib.suppress(UserError), writing(path):
        make_folder(os.path.dirname(path))
        with atomic_write(path, "wb") as stream:
            stream.write(packed)


def write_bundle(folder, path=BUNDLE, num_train=5_000, num_test=1_000):
    """Makes the bundle: MNIST's first `num_train` training and `num_test` test digits, as an npz file.

    Args:
        folder: holds MNIST's four files.
        path: the file to write.
        num_train: at most 55,000.
        num_test: at most 10,000.
    """
    arrays = {}
    for name, count in (("train", num_train), ("test", num_test)):
        images = np.frombuffer(_from_folder(FILES[name + "_images"], folder), np.uint8, offset=16)
        labels = np.frombuffer(_from_folder(FILES[name + "_labels"], folder), np.uint8, offset=8)
        arrays[name + "_images"] = images.reshape(-1, _SIDE, _SIDE)[:count]
        arrays[name + "_labels"] = labels[:count]
    with atomic_write(path, "wb") as stream:
        np.savez_compressed(stream, **arrays)
