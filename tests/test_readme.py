"""What the README tells a newcomer: the default command at full size, and every Python snippet."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that looks like the checkout and holds what the default command writes, without any flag."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("checkpoints", "keras_bisenet", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "scripts/port_and_export.py"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return folder


def test_default_command_keeps_its_promises(workplace):
    report = json.loads((workplace / "build" / "face_parsing" / "report.json").read_text())
    assert report["holds"]
    assert report["options"]["image_size"] == [512, 512]
    # 13.2 million weights, and 1.3 MB for the larger kernels of the faster convolutions.
    assert report["files"]["face_parsing_float32.tflite"]["bytes"] <= 53_900_000
    assert report["files"]["face_parsing_float16.tflite"]["bytes"] <= 26_400_000
    assert report["peak_memory_bytes"] <= 3 * 2**30


def test_there_are_snippets():
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.split("\n")[0])
def test_snippet(workplace, snippet):
    process = subprocess.run([sys.executable, "-c", snippet], cwd=workplace, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "hair" in process.stdout
