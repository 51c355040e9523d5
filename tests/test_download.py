# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from servers that cut, stall and lie; whole ones, and the rest of one that was begun."""

import time

import numpy as np
import pytest
from stub_server import FileHandler, serving

from sqair.data import download as module
from sqair.data.download import download

CONTENT = np.random.RandomState(0).bytes(200_000)
SIZE = len(CONTENT)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with serving(FileHandler) as server:
        server.files = {"file": CONTENT}
        yield server


def fetched(server, kind, offset=0, limit=SIZE, exact=True, timeout=5):
    """What arrives, and what is said in the end."""
    arrived = bytearray()
    try:
        download(f"{server.address}/{kind}/file", arrived.extend, timeout, limit, offset, exact)
    except ValueError as error:
        return bytes(arrived), str(error)
    return bytes(arrived), None


@pytest.mark.parametrize("kind", ["good", "rangeless", "unannounced", "moved"])
@pytest.mark.parametrize("offset", [0, 1, 70_000, SIZE - 1])
def test_the_rest_of_a_file_arrives(server, kind, offset):
    assert fetched(server, kind, offset) == (CONTENT[offset:], None)
    assert server.asked[-1][1] == (f"bytes={offset}-" if offset else None)


REFUSED = {
    "missing": "answers 404 Not Found",
    "cut": f"ends after 66666 of {SIZE} bytes",
    "longer": f"announces {SIZE + 1} bytes instead of {SIZE}",
    "endless": f"sends more than {SIZE} bytes",
    "page": "answers with a web page instead of the file",
    "circle": "answers 302 The HTTP server returned a redirect error that would lead to an infinite loop.",
    "elsewhere": "answers 302 Found - Redirection to url 'file:///etc/passwd' is not allowed",
    "rude": "answers 500 [31mvery very",
    "noise": "does not answer (",
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_else_comes_is_told_in_one_line(server, kind):
    arrived, said = fetched(server, kind)
    assert said.startswith(REFUSED[kind])
    assert len(said) < 250 and said.isprintable()
    assert CONTENT.startswith(arrived) and (kind != "cut" or len(arrived) == 66_666)


@pytest.mark.parametrize(
    "kind, said",
    [
        ("shifted", "sends other bytes than those asked for (from 50000 on)"),
        ("part", f"ends after 51000 of {SIZE} bytes"),
    ],
)
def test_other_ranges_than_asked_for(server, kind, said):
    arrived, found = fetched(server, kind, offset=50_000)
    assert found == said
    assert arrived == (CONTENT[50_000:51_000] if kind == "part" else b"")


@pytest.mark.parametrize(
    "kind, stall, said",
    [
        ("stalled", 0.2, "does not answer (timed out)"),
        ("silent", 0.2, "does not answer (timed out)"),
        ("silent", 15, "does not answer (timed out)"),
        ("trickle", 15, "is too slow"),
        ("headers", 15, "is too slow (no complete answer in 0.4 s)"),
    ],
)
def test_a_server_that_is_slow(server, kind, stall, said, monkeypatch):
    monkeypatch.setattr(module, "STALL_SECONDS", stall)
    begin = time.monotonic()
    arrived, found = fetched(server, kind, timeout=0.4 if stall > 1 else 5)
    assert time.monotonic() - begin < 3
    assert found.startswith(said) and ("bytes in 0.4 s" in found) == (kind == "trickle")
    assert CONTENT.startswith(arrived)
    assert len(arrived) == 66_666 or kind != "stalled"


def test_the_limit_of_a_file_of_unknown_size(server):
    assert fetched(server, "good", exact=False, limit=SIZE + 5) == (CONTENT, None)
    assert fetched(server, "good", exact=False, limit=SIZE - 5)[1] == f"sends more than {SIZE - 5} bytes"
    assert fetched(server, "page", exact=False)[1] is None


def test_what_the_receiver_raises_is_raised(server):
    def write(chunk):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        download(f"{server.address}/good/file", write, 5, SIZE)


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "ftp://host/x", "http://[", "http://a b", "http://"]
)
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match="is not an http or https address|does not answer"):
        download(url, print, 1, 10)
    with pytest.raises(ValueError, match="does not answer"):
        download("http://127.0.0.1:1/x", print, 1, 10)


class Answer:
    def __init__(self, url):
        self.url, self.status = url, 200

    def geturl(self):
        return self.url


def test_redirections_never_give_up_encryption():
    for start, end in [("https://a", "https://b"), ("http://a", "https://b"), ("http://a", "http://b")]:
        assert module._first_byte(start, Answer(end), 7) == 0
    for start, end in [("https://a", "http://b"), ("http://a", "ftp://b")]:
        with pytest.raises(ValueError, match="less safe"):
            module._first_byte(start, Answer(end), 7)
