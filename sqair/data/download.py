# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads over http that end in time, whatever the server does, and that can go on where they stopped.

What is wrong is told as a ValueError with the end of a sentence that begins with the address.
"""

import contextlib
import http.client
import re
import textwrap
import threading
import time
import urllib.error
import urllib.request

STALL_SECONDS = 15.0  # without a byte

_SCHEMES = ("http://", "https://")
_CHUNK_BYTES = 1 << 16
_GRACE_SECONDS = 0.5  # after which an answer that keeps no deadline is given up


def download(url, write, timeout, limit, offset=0, exact=False):
    """Passes the bytes behind an address on, piece by piece.

    Args:
        url: str, an http or https address; it may redirect, but not from https to http.
        write: function of bytes, called from another thread; what it raises ends the download and is raised here.
        timeout: seconds until the last byte.
        limit: int, the most bytes that may be behind the address.
        offset: int, how many of them to leave out, as they are there already.
        exact: bool, whether there must be `limit` bytes; a web page is refused then, whatever its size: so do
            networks answer that want a login first.

    Raises:
        ValueError: if something else comes, or takes too long: the end of a sentence. What came before was passed on.
    """
    if not url.startswith(_SCHEMES):
        raise ValueError("is not an http or https address")
    outcomes = []

    def fetch():
        try:
            _fetch(url, write, timeout, limit, offset, exact)
            outcomes.append(None)
        except Exception as error:
            outcomes.append(error)

    # A thread, because name servers and a trickle of headers keep no deadline.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(timeout + _GRACE_SECONDS)
    if not outcomes:
        raise ValueError(f"is too slow (no complete answer in {timeout:.3g} s)")
    if outcomes[0] is not None:
        raise outcomes[0]


def _fetch(url, write, timeout, limit, offset, exact):
    deadline = time.monotonic() + timeout
    with _errors_of_the_network():
        request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"} if offset else {})
        answer = urllib.request.urlopen(request, timeout=min(timeout, STALL_SECONDS))
    with answer:
        start = position = _first_byte(url, answer, offset)
        if exact:
            _check_kind_and_size(answer, start, limit)
        while True:
            with _errors_of_the_network():
                chunk = answer.read1(_CHUNK_BYTES)  # what there is, so that a trickle meets the deadline
            if time.monotonic() > deadline:
                raise ValueError(f"is too slow ({position - start} bytes in {timeout:.3g} s)")
            if not chunk:
                break
            if position + len(chunk) > limit:
                raise ValueError(f"sends more than {limit} bytes")
            write(chunk[max(offset - position, 0) :])
            position += len(chunk)
    if exact and position < limit:
        raise ValueError(f"ends after {position} of {limit} bytes")


def _first_byte(url, answer, offset):
    """Which byte an answer begins with: `offset`, or 0 from a server that knows no ranges."""
    if not answer.geturl().startswith("https://" if url.startswith("https://") else _SCHEMES):
        raise ValueError("redirects to an address that is less safe")
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if found is None or int(found.group(1)) != offset:
        raise ValueError(f"sends other bytes than those asked for (from {offset} on)")
    return offset


def _check_kind_and_size(answer, start, size):
    if answer.headers.get_content_type() == "text/html":
        raise ValueError("answers with a web page instead of the file")
    announced = answer.headers.get("Content-Length", "")
    if announced.isdecimal() and start + int(announced) != size:
        raise ValueError(f"announces {start + int(announced)} bytes instead of {size}")


@contextlib.contextmanager
def _errors_of_the_network():
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(_line(f"answers {error.code} {error.reason}")) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and timeouts are OSErrors
        reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise ValueError(_line(f"does not answer ({reason}") + ")") from None


def _line(text):
    """What a server had a say in, on one short line."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return textwrap.shorten(printable, 200, placeholder="...")
