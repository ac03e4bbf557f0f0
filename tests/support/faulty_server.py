"""A real HTTP server on this machine that does what servers and networks do on bad days."""

import contextlib
import http.server
import socket
import struct
import threading
import time

PAGE = b"<!DOCTYPE html><title>Sign in</title>"
# Answers that are no good HTTP, or lead nowhere.
RAW = {
    "nothing": b"",
    "zeros": bytes(1000),
    "no status": b"HTTP/1.1 ok\r\n\r\n",
    "large status": b"HTTP/1.1 99999999 OK\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcdef",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad packing": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "long line": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    "many lines": b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 500 + b"\r\n",
    "to no host": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "to no port": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
}


class _Handler(http.server.BaseHTTPRequestHandler):
    """The first part of the path says what happens, see the methods."""

    def do_GET(self):  # the name that http.server asks for
        self.server.requests.append(self.path)
        name = self.path.strip("/").partition("/")[0].partition(".")[0]
        # The client may be gone before the end.
        with contextlib.suppress(ConnectionError):
            getattr(self, name)()

    def whole(self, status=200):
        self._send(self.server.content, status=status)

    def gone(self):
        self.whole(404)

    def broken(self):
        self.whole(500)

    def cut(self):
        self._send(self.server.content[: self._half], len(self.server.content))

    def empty(self):
        self._send(b"")

    def page(self):
        self._send(PAGE)

    def other(self):
        self._send(self.server.content[::-1])

    def claims_less(self):
        self._send(self.server.content, self._half)

    def claims_more(self):
        self._send(self.server.content, len(self.server.content) + 1)

    def unsaid(self):
        """Half of it, and as no length is told, that looks like all of it."""
        self._send(self.server.content[: self._half], length=None)

    def endless(self):
        self._send(b"", length=None)
        while True:
            self.wfile.write(bytes(2**16))
            self.server.sent += 2**16

    def stall(self):
        self._send(self.server.content[: self._half], len(self.server.content))
        self.server.closing.wait()

    def slow(self):
        self._send(self.server.content[: self._half], len(self.server.content))
        time.sleep(0.5)
        self.wfile.write(self.server.content[self._half :])

    def reset(self):
        self.cut()
        # Closed this way, a socket says so at once and takes back what is on its way.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def loop(self):
        self.send_response(302)
        self.send_header("Location", self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def second(self):
        """Breaks off at first, and works when it is asked again."""
        self.cut() if self.server.requests.count(self.path) == 1 else self.whole()

    def raw(self):
        self.wfile.write(RAW[self.path.removeprefix("/raw/").replace("_", " ")])

    @property
    def _half(self):
        return len(self.server.content) // 2

    def _send(self, body, length=0, status=200):
        """`length`: what is claimed; 0 for the truth, None for nothing."""
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self):
        with contextlib.suppress(OSError):  # of a connection that was reset
            super().finish()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(content):
    """Serves `content`. Yields the server, with `url`, `requests` (the paths) and `sent` (bytes of endless bodies)."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.content, server.requests, server.sent, server.closing = content, [], 0, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
