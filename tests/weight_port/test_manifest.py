"""Finding checkpoints: by path, and by their name in the manifest. Downloads are in weight_port/test_download.py."""

import dataclasses
import hashlib
import json
import os
from unittest import mock

import pytest
from support.paths import ROOT
from support.refusals import refused

from weight_port import CheckpointError, manifest

ENTRY = {"urls": [], "layout": "zllrunning", "license": "test"}


def write(folder, **entries):
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder / "manifest.json"


def refuse(name, path, *found):
    """`locate` must refuse a name, in one line with all of `found`."""
    with refused(CheckpointError, *found):
        manifest.locate(name, path)


@pytest.mark.parametrize("name", ["mine.pth", "best.keras"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_path_is_itself_without_a_license(tmp_path, hashed, name, kind):
    (tmp_path / name).write_bytes(b"abc")
    found = manifest.locate(kind(tmp_path / name), write(tmp_path, net=ENTRY))
    # The SHA-256 of "abc" as FIPS 180-4 prints it.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found == manifest.Checkpoint(tmp_path / name, expected, "")
    assert hashed == [name]


def test_neither_a_file_nor_a_name(tmp_path):
    missing = tmp_path / "other.pth"
    refuse(str(missing), write(tmp_path, net=ENTRY), f"{missing}: no such file", "net")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_read(tmp_path, make):
    make(tmp_path / "it")
    refuse(str(tmp_path / "it"), write(tmp_path), f"{tmp_path}/it: is not a file")


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(hashlib, "file_digest", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    (tmp_path / "c.pth").write_bytes(b"abc")
    for name in ("net", str(tmp_path / "c.pth")):
        refuse(name, write(tmp_path, net=ENTRY | {"file": "c.pth"}), tmp_path / "c.pth", "Permission denied")


def test_the_shipped_manifest(hashed):
    listed = ROOT / "checkpoints" / "manifest.json"
    entries = manifest.read(listed)
    assert set(entries) == {"default", "fast", "tiny", "zllrunning", "yakhyo_resnet18", "yakhyo_resnet34"}
    for name in ("default", "fast", "tiny"):
        entry, found = entries[name], manifest.locate(name, listed)
        assert found == manifest.Checkpoint(listed.parent / entry.file, entry.sha256, entry.license)
        assert found.license == "non-commercial research only (CelebAMask-HQ agreement)"
        assert found.path.stat().st_size == entry.bytes
    assert hashed == [entries[name].file for name in ("default", "fast", "tiny")]
    published = entries["zllrunning"]
    assert published.bytes == 53_289_463
    assert published.sha256 == "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567"
    assert all(url.startswith("https://") for entry in entries.values() for url in entry.urls)
    assert all(entry.license for entry in entries.values())


def test_a_shipped_file_that_was_changed(tmp_path, hashed):
    (tmp_path / "c.pth").write_bytes(b"abc")
    listed = write(tmp_path, net=ENTRY | {"file": "c.pth", "bytes": 4, "sha256": "0"})
    refuse("net", listed, f"{tmp_path}/c.pth: is 3 bytes", "'net' has 4")
    assert hashed == []
    (tmp_path / "c.pth").write_bytes(b"abcd")
    found = hashlib.sha256(b"abcd").hexdigest()
    refuse("net", listed, f"{tmp_path}/c.pth: has sha256 {found}", "'net' has 0")
    assert hashed == ["c.pth"]
    (tmp_path / "c.pth").unlink()
    refuse("net", listed, tmp_path / "c.pth", "'net' is missing")


def test_a_name_wins_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net", "c.pth"):
        (tmp_path / name).write_text(name)
    listed = write(tmp_path, net=ENTRY | {"file": "c.pth"})
    assert manifest.locate("net", listed).path == tmp_path / "c.pth"
    assert manifest.locate("./net", listed).path.read_text() == "net"


def test_what_was_found_cannot_be_changed(tmp_path):
    (tmp_path / "c.pth").write_bytes(b"abc")
    found = manifest.locate(str(tmp_path / "c.pth"), write(tmp_path))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.sha256 = ""
