# SPDX-License-Identifier: GPL-3.0-or-later
"""Web servers on this machine that answer badly, or well."""

import contextlib
import http.server
import re
import threading


@contextlib.contextmanager
def serving(handler):
    """A server with `address`, `asked` (filled by the handler) and `stopped`, an event for handlers that wait."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.asked, server.stopped = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


class FileHandler(http.server.BaseHTTPRequestHandler):
    """`/KIND/NAME` answers with `server.files[NAME]`, spoilt in one of many ways; notes (path, Range) in `asked`."""

    def do_GET(self):
        kind, name = self.path.strip("/").split("/")
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        content = self.server.files.get(name, b"")
        spoil = getattr(self, f"answer_{kind}", None)
        with contextlib.suppress(OSError):
            if spoil is not None:
                spoil(content, name)
            elif wanted is None or kind == "rangeless":
                self.send(content, len(content))
            else:
                start = int(re.fullmatch(r"bytes=(\d+)-", wanted).group(1))
                if kind == "shifted":  # other bytes than those asked for, as it says itself
                    start += 1
                end = content[: start + 1000] if kind == "part" else content
                span = f"bytes {start}-{len(end) - 1}/{len(content)}"
                self.send(end[start:], len(content) - start, 206, {"Content-Range": span})

    def send(self, body, length, status=200, headers=()):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for header in dict(headers).items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def answer_missing(self, content, name):
        self.send_error(404)

    def answer_cut(self, content, name):
        """The first third, then the connection ends."""
        self.send(content[: len(content) // 3], len(content))

    def answer_stalled(self, content, name):
        self.send(content[: len(content) // 3], len(content))
        self.wfile.flush()
        self.server.stopped.wait(20)

    def answer_trickle(self, content, name):
        self.send(b"", len(content))
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self.server.stopped.wait(0.05):
                return

    def answer_headers(self, content, name):
        """One more header every moment, never the last."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not self.server.stopped.wait(0.05):
            self.wfile.write(b"X: y\r\n")

    def answer_silent(self, content, name):
        self.server.stopped.wait(20)

    def answer_wrong(self, content, name):
        self.send(bytes(len(content)), len(content))

    def answer_longer(self, content, name):
        self.send(content + b"x", len(content) + 1)

    def answer_endless(self, content, name):
        self.send(content, None)
        while not self.server.stopped.is_set():
            self.wfile.write(bytes(100_000))

    def answer_unannounced(self, content, name):
        self.send(content, None)

    def answer_page(self, content, name):
        self.send(b"<html>Log in.</html>", None, headers={"Content-Type": "text/html; charset=utf-8"})

    def answer_moved(self, content, name):
        self.send(b"", 0, 302, {"Location": f"/good/{name}"})

    def answer_circle(self, content, name):
        self.send(b"", 0, 302, {"Location": f"/circle/{name}"})

    def answer_elsewhere(self, content, name):
        self.send(b"", 0, 302, {"Location": "file:///etc/passwd"})

    def answer_rude(self, content, name):
        self.wfile.write(b"HTTP/1.0 500 \x1b[31m" + b"very " * 200 + b"bad\r\n\r\n")

    def answer_noise(self, content, name):
        self.wfile.write(b"\0\xff" * 40)

    def log_message(self, *_):
        pass
