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
    "no_status": b"HTTP/1.1 ok\r\n\r\n",
    "large_status": b"HTTP/1.1 99999999 OK\r\n\r\n",
    "negative_length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcdef",
    "no_number": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    "bad_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "bad_packing": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "long_line": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    "many_lines": b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 500 + b"\r\n",
    "to_no_host": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    # By 1.0, so that each request has a connection of its own.
    "loop": b"HTTP/1.0 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
    "to_a_file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "to_no_port": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
}


def _replies(content):
    """Name -> (status, body, length that is claimed for it; None for no word of it)."""
    size, half = len(content), content[: len(content) // 2]
    return {
        "whole": (200, content, size),
        "gone": (404, content, size),
        "broken": (500, content, size),
        "cut": (200, half, size),
        "empty": (200, b"", 0),
        "page": (200, PAGE, len(PAGE)),
        "other": (200, content[::-1], size),
        "claims_less": (200, content, len(half)),
        "claims_more": (200, content, size + 1),
        # As no length is told, half of it looks like all of it.
        "unsaid": (200, half, None),
        "endless": (200, b"", None),
    }


class _Handler(http.server.BaseHTTPRequestHandler):
    """The name of the file that is asked for says what happens: one of `RAW` or `_replies`, or a method."""

    def do_GET(self):  # the name that http.server asks for
        self.server.requests.append(self.path)
        name = self.path.strip("/").partition(".")[0]
        # The client may be gone before the end.
        with contextlib.suppress(ConnectionError):
            if name in RAW:
                self.wfile.write(RAW[name])
            elif hasattr(self, name):
                getattr(self, name)()
            else:
                self._send(name)

    def endless(self):
        self._send("endless")
        while True:
            self.wfile.write(bytes(2**16))
            self.server.sent += 2**16

    def stall(self):
        self._send("cut")
        self.server.closing.wait()

    def slow(self):
        _, whole, size = self.server.replies["whole"]
        self._send("cut")
        time.sleep(0.5)
        self.wfile.write(whole[size // 2 :])

    def reset(self):
        self._send("cut")
        # Closed this way, a socket says so at once and takes back what is on its way.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def second(self):
        """Breaks off at first, and works when it is asked again."""
        self._send("cut" if self.server.requests.count(self.path) == 1 else "whole")

    def _send(self, name):
        status, body, length = self.server.replies[name]
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
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
        server.replies, server.requests, server.sent, server.closing = _replies(content), [], 0, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
