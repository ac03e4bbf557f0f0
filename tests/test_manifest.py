"""Names of checkpoints, and what is known of them. Downloads are in test_download.py."""

import json

import pytest
from conftest import ROOT

from weight_port import CheckpointError, manifest


def message(name, path):
    with pytest.raises(CheckpointError) as error:
        manifest.locate(name, path)
    return str(error.value)


def test_a_path_is_itself(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"x")
    listed = tmp_path / "manifest.json"
    listed.write_text(json.dumps({"net": {"urls": [], "layout": "zllrunning", "licence": "test"}}))
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
