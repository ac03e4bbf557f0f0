"""Names, downloads and their faults, against a real HTTP server on this machine."""

import hashlib
import http.server
import json
import threading

import pytest
from conftest import ROOT

from weight_port import CheckpointError, manifest

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


class Handler(http.server.BaseHTTPRequestHandler):
    """`/whole` serves the file, `/cut` hangs up half-way, `/page` serves HTML, `/other` other bytes of that length."""

    def do_GET(self):  # the name that http.server asks for
        self.server.requests.append(self.path)
        body = {"/page": b"<html>sign in</html>", "/other": CONTENT[::-1]}.get(self.path, CONTENT)
        self.send_response(404 if self.path == "/gone" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(manifest.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(tmp_path, *urls, sha256=SHA256, size=SIZE):
    entry = {"urls": urls, "layout": "zllrunning", "licence": "test", "sha256": sha256, "bytes": size}
    (tmp_path / "manifest.json").write_text(json.dumps({"net": entry}))
    return tmp_path / "manifest.json"


def message(name, path):
    with pytest.raises(CheckpointError) as error:
        manifest.locate(name, path)
    return str(error.value)


def test_downloads_once_with_a_progress_bar(server, cache, tmp_path, capfd):
    listed = write(tmp_path, f"{server.url}/whole.pth")
    path = manifest.locate("net", listed)
    assert path == cache / "net.pth"
    assert path.read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err
    assert manifest.locate("net", listed) == path
    assert server.requests == ["/whole.pth"]


def test_second_address_is_tried(server, cache, tmp_path):
    listed = write(tmp_path, f"{server.url}/gone", f"{server.url}/whole")
    assert manifest.locate("net", listed).read_bytes() == CONTENT
    assert server.requests == ["/gone", "/whole"]
    assert len(list(cache.iterdir())) == 1


def test_a_cut_connection_leaves_nothing_and_the_next_try_starts_over(server, cache, tmp_path):
    text = message("net", write(tmp_path, f"{server.url}/cut"))
    assert text == (
        f"the checkpoint 'net' could not be downloaded from {server.url}/cut (ChunkedEncodingError); "
        f"fetch it by hand and save it as {cache}/net"
    )
    assert list(cache.iterdir()) == []
    assert manifest.locate("net", write(tmp_path, f"{server.url}/whole")).read_bytes() == CONTENT


def test_offline_says_where_to_fetch_it(cache, tmp_path):
    # Port 1 refuses.
    text = message("net", write(tmp_path, "http://127.0.0.1:1/net.pth"))
    assert text == (
        "the checkpoint 'net' could not be downloaded from http://127.0.0.1:1/net.pth (ConnectionError); "
        f"fetch it by hand and save it as {cache}/net.pth"
    )


def test_a_file_of_another_size(server, cache, tmp_path):
    text = message("net", write(tmp_path, f"{server.url}/page"))
    assert text == f"{server.url}/page: is 20 bytes; the checkpoint 'net' has {SIZE}"
    assert list(cache.iterdir()) == []


def test_a_file_of_another_hash(server, cache, tmp_path):
    text = message("net", write(tmp_path, f"{server.url}/other"))
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    assert text == f"{server.url}/other: has sha256 {found}; the checkpoint 'net' has {SHA256}"
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_cached_file_is_checked_again(server, tmp_path):
    listed = write(tmp_path, f"{server.url}/whole")
    path = manifest.locate("net", listed)
    path.write_bytes(CONTENT[::-1])
    assert message("net", listed).startswith(f"{path}: has sha256 ")


def test_without_a_published_hash_any_file_is_taken(server, cache, tmp_path):
    listed = write(tmp_path, f"{server.url}/other", sha256=None, size=None)
    assert manifest.locate("net", listed).read_bytes() == CONTENT[::-1]
    assert (cache / "net").exists()


def test_a_path_is_itself(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"x")
    listed = write(tmp_path)
    assert manifest.locate(str(tmp_path / "mine.pth"), listed) == tmp_path / "mine.pth"
    missing = tmp_path / "other.pth"
    assert message(str(missing), listed) == f"{missing}: no such file, and no checkpoint of the manifest: net"


def test_the_shipped_manifest():
    listed = ROOT / "checkpoints" / "manifest.json"
    entries = manifest.read(listed)
    assert set(entries) == {"default", "zllrunning", "yakhyo_resnet18", "yakhyo_resnet34"}
    assert manifest.locate("default", listed).parent == listed.parent
    published = entries["zllrunning"]
    assert published.bytes == 53_289_463
    assert published.sha256 == "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567"
    assert all(url.startswith("https://") for entry in entries.values() for url in entry.urls)


def test_a_shipped_file_that_was_changed(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"abc")
    entry = {"file": "c.pth", "layout": "zllrunning", "licence": "test", "bytes": 4, "sha256": "0"}
    (tmp_path / "manifest.json").write_text(json.dumps({"net": entry}))
    assert message("net", tmp_path / "manifest.json") == f"{tmp_path}/c.pth: is 3 bytes; the checkpoint 'net' has 4"
    (tmp_path / "c.pth").unlink()
    assert message("net", tmp_path / "manifest.json") == (
        f"{tmp_path}/c.pth: the checkpoint 'net' is missing; expected 4 bytes"
    )
