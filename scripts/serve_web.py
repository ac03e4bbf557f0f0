"""Serves the page that `make web` has built, on this machine alone.

Sends the headers of headers.json with every file: threads need the page isolated from other origins, and the page may
load nothing from elsewhere.

Examples:
  .venv/bin/python scripts/serve_web.py
  .venv/bin/python scripts/serve_web.py --port 8001
"""

import functools
import http.server
import json
import pathlib
from typing import ClassVar

import command
from absl import flags

from keras_bisenet.utils.errors import UserError

FLAGS = flags.FLAGS
flags.DEFINE_integer("port", 8000, "Port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("build_dir", "build/web", "The built page.")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with further headers, and keeps quiet about it.

    Args:
        headers: name -> value, sent with every response.
    """

    # Some systems have no or another type for these.
    extensions_map: ClassVar[dict[str, str]] = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
    }

    def __init__(self, *args, headers, **kwargs):
        self._headers = headers
        super().__init__(*args, **kwargs)

    def end_headers(self):
        for name, value in self._headers.items():
            self.send_header(name, value)
        # After another `make web` the browser asks what has changed.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *args):
        pass


def open_server(build_dir, port):
    """A server that listens already; `serve_forever` answers.

    Args:
        build_dir: folder that `make web` has written.
        port: port of this machine; 0 takes a free one, which is in `server_port`.

    Raises:
        UserError: the page is not there, or the port is taken.
    """
    path = pathlib.Path(build_dir, "headers.json")
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected the built page; build it: make web")
    headers = json.loads(path.read_text(encoding="utf-8"))
    handler = functools.partial(Handler, directory=str(build_dir), headers=headers)
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UserError(
            f"port {port} cannot be opened ({error.strerror}); choose another: make web PORT={port + 1}"
        ) from error


def main(options):
    with open_server(options.build_dir, options.port) as server:
        print(f"The page is at http://localhost:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    command.start(main)
