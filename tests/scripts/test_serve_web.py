"""`scripts/serve_web.py`: what it sends with every file, and what it says when it cannot serve."""

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from support import script_runner
from support.paths import ROOT
from support.refusals import check_refused

SCRIPT = ROOT / "scripts" / "serve_web.py"
HEADERS = json.loads((ROOT / "web" / "headers.json").read_text(encoding="utf-8"))


def run(*arguments):
    process = script_runner.run_alone(SCRIPT, *arguments, timeout=60)
    assert process.stdout == ""
    return process


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    (folder / "headers.json").write_text(json.dumps(HEADERS))
    for name in ("index.html", "main.js", "a.wasm"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture(scope="module")
def address(page):
    command = [sys.executable, SCRIPT, "--port", "0", "--build_dir", page]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.search(r"http://localhost:\d+/", server.stdout.readline())[0]
        server.terminate()


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("", 200, "text/html"),
        ("main.js", 200, "text/javascript"),
        ("a.wasm", 200, "application/wasm"),
        ("missing.tflite", 404, "text/html;charset=utf-8"),
    ],
)
def test_every_response_has_the_headers_and_its_type(address, path, status, kind):
    try:
        response = urllib.request.urlopen(address + path)
    except urllib.error.HTTPError as error:
        response = error
    assert (response.status, response.headers["Content-Type"]) == (status, kind)
    assert {name: response.headers[name] for name in HEADERS} == HEADERS


def test_the_page_is_isolated_and_loads_nothing_from_elsewhere():
    assert HEADERS["Cross-Origin-Opener-Policy"] == "same-origin"
    assert HEADERS["Cross-Origin-Embedder-Policy"] == "require-corp"
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; script-src 'self' 'wasm-unsafe-eval';")
    assert "unsafe-inline" not in policy
    assert "http" not in policy


def test_a_page_that_is_not_built_names_the_command(tmp_path):
    check_refused(run("--port", 0, "--build_dir", tmp_path), tmp_path / "headers.json", "make web")


def test_a_taken_port_names_another(page):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run("--port", port, "--build_dir", page)
    check_refused(process, f"port {port}", f"make web PORT={port + 1}")
