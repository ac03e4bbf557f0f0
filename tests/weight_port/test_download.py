"""Downloads and their faults, against a real HTTP server on this machine."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from support import faulty_server
from support.files import content, names
from support.refusals import refused
from support.running import wait_for

import weight_port
from weight_port import CheckpointError, manifest

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)

# What the server does -> what is said of it; of an answer that is no good HTTP, whatever requests says.
FAULTS = dict.fromkeys(faulty_server.RAW, "") | {
    "gone": "status 404",
    "broken": "status 500",
    "cut": "ChunkedEncodingError",
    "reset": "ChunkedEncodingError",
    "stall": "ConnectionError",
    "empty": "is 0 bytes",
    "page": f"is {len(faulty_server.PAGE)} bytes",
    "other": f"has sha256 {hashlib.sha256(CONTENT[::-1]).hexdigest()}",
    "claims_less": f"is {SIZE // 2} bytes",
    "claims_more": "ChunkedEncodingError",
    "unsaid": f"is {SIZE // 2} bytes",
    "endless": f"sends more than {SIZE} bytes",
    "loop": "TooManyRedirects",
}


@pytest.fixture
def server():
    with faulty_server.serve(CONTENT) as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(manifest.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(manifest, "TIMEOUTS", (5, 0.3))
    return tmp_path / "cache"


def write(tmp_path, *urls, **changes):
    entry = {"urls": urls, "layout": "zllrunning", "license": "test", "sha256": SHA256, "bytes": SIZE} | changes
    (tmp_path / "manifest.json").write_text(json.dumps({"net": entry}))
    return tmp_path / "manifest.json"


def refuse(path, *found):
    """The checkpoint must not be had, and the reason is one line with all of `found`."""
    with refused(CheckpointError, *found):
        manifest.locate("net", path)


def test_downloads_once_with_a_progress_bar_and_checks_the_file_again(server, cache, tmp_path, capfd, hashed):
    listed = write(tmp_path, f"{server.url}/whole.pth")
    found = manifest.locate("net", listed)
    assert found == manifest.Checkpoint(cache / "net.pth", SHA256, "test")
    assert hashed == [".partial-net.pth"]
    assert "100%" in capfd.readouterr().err
    assert manifest.locate("net", listed) == found
    assert hashed == [".partial-net.pth", "net.pth"]
    assert server.requests == ["/whole.pth"]
    assert content(cache) == {"net.pth": CONTENT}
    found.path.write_bytes(CONTENT[::-1])
    refuse(listed, f"{found.path}: has sha256 ")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_leaves_nothing_and_then_the_second_address_is_tried(server, cache, tmp_path, fault):
    address = f"{server.url}/{fault}.pth"
    reason = f"'net' could not be downloaded from {address} ({FAULTS[fault]}"
    refuse(write(tmp_path, address), reason, cache / "net.pth")
    assert names(cache) == []
    # The connection holds as much on its way again.
    assert server.sent < 20e6
    manifest.locate("net", write(tmp_path, address, f"{server.url}/whole.pth"))
    assert server.requests[-1] == "/whole.pth"
    assert content(cache) == {"net.pth": CONTENT}


def test_the_next_call_finishes_what_broke_off(server, cache, tmp_path):
    listed = write(tmp_path, f"{server.url}/second")
    refuse(listed, "ChunkedEncodingError")
    manifest.locate("net", listed)
    assert content(cache) == {"net": CONTENT}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/net.pth", "http://nobody.invalid/net.pth"])
def test_offline_says_where_to_fetch_it(cache, tmp_path, url):
    """Port 1 refuses; no host is called .invalid."""
    refuse(write(tmp_path, url), f"{url} (ConnectionError)", cache / "net.pth")


# Checkpoints whose publisher tells neither size nor hash.


UNKNOWN = {"sha256": None, "bytes": None}


@pytest.fixture
def readable(tmp_path):
    """The content of a small checkpoint."""
    weight_port.save(tmp_path / "a.safetensors", {"a": np.arange(5000.0)})
    return (tmp_path / "a.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("page", "is a web page, not a checkpoint; "),
        ("empty", "is empty (0 bytes); "),
        ("unsaid", "is truncated or damaged "),
        ("claims_less", "is truncated or damaged "),
        ("other", "is truncated or damaged "),
        ("endless", "sends more than 300000 bytes)"),
    ],
)
def test_without_a_published_hash_it_must_be_a_checkpoint(cache, tmp_path, readable, monkeypatch, fault, reason):
    monkeypatch.setattr(manifest, "LARGEST", 300_000)
    with faulty_server.serve(readable) as server:
        first, second = (f"{server.url}/{name}.safetensors" for name in (fault, "whole"))
        refuse(write(tmp_path, first, **UNKNOWN), f"from {first} ({reason}")
        assert names(cache) == []
        listed = write(tmp_path, first, second, **UNKNOWN)
        assert manifest.locate("net", listed).path.read_bytes() == readable
        assert server.sent < 20e6


def test_without_a_published_hash_it_is_that_of_the_file(cache, tmp_path, readable, hashed):
    with faulty_server.serve(readable) as server:
        listed = write(tmp_path, f"{server.url}/whole.safetensors", **UNKNOWN)
        found = manifest.locate("net", listed)
    assert found == manifest.Checkpoint(cache / "net.safetensors", hashlib.sha256(readable).hexdigest(), "test")
    assert manifest.locate("net", listed) == found
    assert hashed == [".partial-net.safetensors", "net.safetensors"]


# The disk, and the end of the process.


def test_a_full_disk_and_a_read_only_one(server, disk, tmp_path, monkeypatch):
    cache = disk(64) / "cache"
    monkeypatch.setenv(manifest.CACHE_VARIABLE, str(cache))
    listed = write(tmp_path, f"{server.url}/whole", f"{server.url}/whole")
    refuse(listed, f"{cache / 'net'}: No space left on device", manifest.CACHE_VARIABLE)
    assert names(cache) == []
    assert server.requests == ["/whole"], "another address would not make room"
    disk(1 << 10, "ro")
    refuse(listed, f"{cache / 'net'}: Read-only file system", manifest.CACHE_VARIABLE)
    disk(1 << 10)
    assert manifest.locate("net", listed).path.read_bytes() == CONTENT
    # A cache that somebody else keeps.
    disk(1 << 10, "ro")
    assert manifest.locate("net", listed).path == cache / "net"


def test_a_file_in_the_place_of_the_cache(server, cache, tmp_path):
    cache.write_text("mine")
    refuse(write(tmp_path, f"{server.url}/whole"), cache / "net")
    assert cache.read_text() == "mine"


def start(listed):
    """Another process that fetches the checkpoint; it prints the path."""
    code = "import sys; from weight_port import manifest; print(manifest.locate('net', sys.argv[1]).path)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, listed], **pipes)


def test_a_killed_download_leaves_no_file_of_that_name_and_the_next_finishes(server, cache, tmp_path):
    partial = cache / ".partial-net.pth"
    for count in (1, 2):
        process = start(write(tmp_path, f"{server.url}/stall.pth"))
        wait_for(lambda n=count: len(server.requests) == n and partial.exists() and partial.stat().st_size)
        process.kill()
        process.communicate()
        # No more of them the second time.
        assert names(cache) == [".net.pth.lock", ".partial-net.pth"]
    manifest.locate("net", write(tmp_path, f"{server.url}/whole.pth"))
    assert content(cache) == {"net.pth": CONTENT}


def test_two_processes_download_once(server, cache, tmp_path):
    listed = write(tmp_path, f"{server.url}/slow.pth")
    first = start(listed)
    wait_for(lambda: server.requests)
    second = start(listed)
    results = [process.communicate() for process in (first, second)]
    assert [out for out, _ in results] == [f"{cache}/net.pth\n"] * 2
    assert server.requests == ["/slow.pth"]
    assert content(cache) == {"net.pth": CONTENT}


def test_who_waits_is_told_and_goes_on_where_the_first_is_killed(server, cache, tmp_path):
    first = start(write(tmp_path, f"{server.url}/stall.pth"))
    wait_for(lambda: server.requests)
    second = start(write(tmp_path, f"{server.url}/whole.pth"))
    assert second.stderr.readline() == f"another process downloads {cache}/net.pth; waiting for it\n"
    assert second.poll() is None
    first.kill()
    first.communicate()
    assert second.communicate()[0] == f"{cache}/net.pth\n"
    assert content(cache) == {"net.pth": CONTENT}
