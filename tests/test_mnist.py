# SPDX-License-Identifier: GPL-3.0-or-later
import contextlib
import gzip
import hashlib
import http.server
import os
import time

import numpy as np
import pytest
from stub_server import serving

from sqair.data import mnist
from sqair.errors import UserError

NUM_DIGITS = 24


def small_mnist():
    """Bytes of the two training files of an MNIST of 24 digits, by name."""
    rng = np.random.default_rng(0)
    images = b"\0\0\x08\x03" + np.array([NUM_DIGITS, 28, 28], ">i4").tobytes() + rng.bytes(NUM_DIGITS * 784)
    labels = (
        b"\0\0\x08\x01" + np.array([NUM_DIGITS], ">i4").tobytes() + bytes(i % 10 for i in range(NUM_DIGITS))
    )
    return {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}


CONTENT = small_mnist()
FILES = {
    key: mnist.IdxFile(name, len(CONTENT[name]), hashlib.md5(CONTENT[name]).hexdigest())
    for key, name in (
        ("train_images", "train-images-idx3-ubyte"),
        ("train_labels", "train-labels-idx1-ubyte"),
    )
}
IMAGES = np.frombuffer(CONTENT["train-images-idx3-ubyte"], np.uint8)[16:].reshape(-1, 28, 28)


class Handler(http.server.BaseHTTPRequestHandler):
    """`/KIND/FILE.gz` answers with the file, spoilt in one of several ways."""

    def do_GET(self):
        kind, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)
        packed = gzip.compress(CONTENT[name[: -len(".gz")]])
        if kind == "missing":
            self.send_error(404)
            return
        if kind == "headers":  # one more header every moment, never the last
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.0 200 OK\r\n")
                while not self.server.stopped.wait(0.05):
                    self.wfile.write(b"X: y\r\n")
            return
        if kind == "silent":
            self.server.stopped.wait(20)
            return
        bodies = {
            "truncated": packed[: len(packed) // 2],
            "wrong": gzip.compress(CONTENT[name[: -len(".gz")]][:-1] + b"\xff"),
            "page": b"<html>Log in to this network.</html>",
            "endless": b"x" * 10_000_000,
        }
        body = bodies.get(kind, packed)
        self.send_response(200)
        self.send_header("Content-Length", str(len(packed) if kind == "short" else len(body)))
        self.end_headers()
        if kind == "short":  # the connection ends before what was announced
            body = packed[:-100]
        with contextlib.suppress(OSError):
            if kind == "trickle":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    if self.server.stopped.wait(0.05):
                        break
            else:
                self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture()
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving(Handler) as server:
        yield server


def write(folder, packed=True):
    folder.mkdir(exist_ok=True)
    for name, content in CONTENT.items():
        (folder / (name + ".gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )
    return str(folder)


def check_splits(splits):
    assert [len(part.images) for part in splits] == [22, 2]
    np.testing.assert_array_equal(np.concatenate([part.images for part in splits]), IMAGES)
    np.testing.assert_array_equal(
        np.concatenate([part.labels for part in splits]), np.arange(NUM_DIGITS) % 10
    )


@pytest.mark.parametrize("packed", [True, False])
def test_a_folder_that_holds_the_files(tmp_path, packed):
    check_splits(mnist.load(write(tmp_path / "mnist", packed), mirrors=(), files=FILES))


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda path: path.unlink(), "holds neither"),
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "is truncated"),
        (lambda path: path.write_bytes(b""), "is truncated"),
        (lambda path: path.write_bytes(b"not gzip at all"), "is not a gzip file"),
        (lambda path: path.write_bytes(gzip.compress(IMAGES.tobytes() + bytes(16))), "is not MNIST's"),
        (lambda path: path.write_bytes(gzip.compress(bytes(10_000_000))), "is not MNIST's"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
)
def test_a_folder_given_must_be_right(tmp_path, server, spoil, sentence):
    """Nothing else is tried: the user means this folder."""
    folder = write(tmp_path / "mnist")
    spoil(tmp_path / "mnist" / "train-images-idx3-ubyte.gz")
    with pytest.raises(UserError, match=sentence) as caught:
        mnist.load(folder, str(tmp_path / "cache"), [server.address + "/good"], files=FILES)
    assert "train-images-idx3-ubyte" in str(caught.value) and folder in str(caught.value)
    assert not server.asked


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        mnist.load(str(tmp_path / "nowhere"), files=FILES)


@pytest.mark.parametrize(
    "kind, sentence",
    [
        ("missing", "answers 404"),
        ("truncated", "is truncated"),
        ("short", "does not answer|is truncated"),
        ("wrong", "is not MNIST's"),
        ("page", "is not a gzip file"),
        ("endless", "sends more than"),
        ("trickle", "is too slow"),
        ("silent", "does not answer .*timed out"),
        ("headers", "is too slow|headers"),
    ],
)
def test_the_next_mirror_is_tried(tmp_path, server, kind, sentence):
    cache = tmp_path / "cache"
    begin = time.monotonic()
    with pytest.raises(UserError, match=sentence) as caught:
        mnist.load(None, str(cache), [f"{server.address}/{kind}"], timeout=0.5, files=FILES)
    assert time.monotonic() - begin < 4  # it takes 1
    assert "`bundled_digits`" in str(caught.value) and f"/{kind}/train-images" in str(caught.value)
    assert not cache.exists()

    mirrors = [f"{server.address}/{kind}", f"{server.address}/good/"]
    check_splits(mnist.load(None, str(cache), mirrors, timeout=0.5, files=FILES))
    assert sorted(os.listdir(str(cache))) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_what_was_downloaded_is_kept(tmp_path, server):
    cache = tmp_path / "new" / "cache"
    for _ in range(2):
        check_splits(mnist.load(None, str(cache), [server.address + "/good"], files=FILES))
    assert len(server.asked) == 2  # one request a file
    (cache / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    check_splits(mnist.load(None, str(cache), [server.address + "/good"], files=FILES))
    assert len(server.asked) == 3
    check_splits(mnist.load(str(cache), mirrors=(), files=FILES))


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, server):
    (tmp_path / "file").write_text("")
    check_splits(mnist.load(None, str(tmp_path / "file" / "cache"), [server.address + "/good"], files=FILES))


@pytest.mark.parametrize(
    "mirrors", [(), ["ftp://127.0.0.1/"], ["file:///etc"], ["http://127.0.0.1:1"], ["nonsense"]]
)
def test_without_a_mirror_there_is_one_sentence(tmp_path, mirrors, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match="could not be downloaded") as caught:
        mnist.load(None, str(tmp_path / "cache"), mirrors, files=FILES)
    assert "\n" not in str(caught.value)


def test_default_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert mnist.default_cache() == "/somewhere/sqair/mnist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert mnist.default_cache() == "/home/somebody/.cache/sqair/mnist"


def test_the_bundle_is_the_beginning_of_mnist():
    train, valid = mnist.load_bundle()
    assert train.images.shape == (5000, 28, 28) and valid.images.shape == (1000, 28, 28)
    assert train.images.dtype == valid.images.dtype == train.labels.dtype == np.uint8
    assert list(train.labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert list(valid.labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    digest = hashlib.md5(b"".join(array.tobytes() for part in (train, valid) for array in part)).hexdigest()
    assert digest == "b8ec3ffd59b14015550d307206bda3ef"
    assert os.path.getsize(mnist.BUNDLE) < 2_000_000


def test_the_bundle_is_attributed():
    with open(mnist.BUNDLE.replace(".npz", ".txt")) as stream:
        text = stream.read()
    for word in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0"):
        assert word in text


def test_a_damaged_bundle_is_named(tmp_path, monkeypatch):
    with open(mnist.BUNDLE, "rb") as stream:
        content = stream.read()
    damaged = [content[:-1000], b"", b"text", content[:500_000] + bytes(1000) + content[501_000:]]
    for number, spoilt in enumerate(damaged):
        (tmp_path / f"{number}.npz").write_bytes(spoilt)
        monkeypatch.setattr(mnist, "BUNDLE", str(tmp_path / f"{number}.npz"))
        with pytest.raises(UserError, match="install the package again"):
            mnist.load_bundle()


def test_write_bundle(tmp_path, monkeypatch):
    folder = write(tmp_path / "mnist")
    monkeypatch.setattr(
        mnist, "FILES", {**FILES, "test_images": FILES["train_images"], "test_labels": FILES["train_labels"]}
    )
    monkeypatch.setattr(mnist, "BUNDLE", str(tmp_path / "bundle.npz"))
    mnist.write_bundle(folder, mnist.BUNDLE, num_train=7, num_test=3)
    train, valid = mnist.load_bundle()
    np.testing.assert_array_equal(train.images, IMAGES[:7])
    np.testing.assert_array_equal(valid.labels, [0, 1, 2])
