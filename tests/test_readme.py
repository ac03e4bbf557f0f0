"""What the documents tell a newcomer works: the default command at full size, every Python snippet, every command."""

import itertools
import json
import shlex
import subprocess
import sys

import documented
import numpy as np
import pytest
import script_runner
import videos
from conftest import DEFAULT_CHECKPOINT, ROOT
from PIL import Image

from keras_bisenet.inference import face_parser
from keras_bisenet.utils import images

SNIPPETS = documented.snippets("README.md", "python")
COMMANDS = list(dict.fromkeys([*documented.of_documents(), *documented.of_docstrings()]))

# Commands that the tests here do not run: how they begin, why, and the test of the same.
NOT_RUN = {
    "make": ("installs, or does what other commands here do", "test_first_hour.py"),
    ".venv/bin/pip": ("needs a network", "test_first_hour.py"),
    "sudo": ("needs rights", None),
    "docker": ("needs Docker", "test_saved_model.py"),
    "python -c": ("overwrites the default checkpoint", "test_checkpoint.py"),
    "python scripts/check_onnx.py": ("takes half a minute", "test_check_onnx.py"),
    "python scripts/prepare_celebamask.py": ("needs the download", "test_celebamask.py"),
    "python scripts/serve_web.py": ("does not end", "test_serve_web.py"),
    "python scripts/train.py": ("takes minutes to hours", "test_train.py"),
    "python scripts/parse_faces.py /shared/photos": ("starts a Ray cluster", "test_ray.py"),
    "python examples/": ("takes a minute", "test_examples.py"),
    "python -m benchmarks": ("takes minutes to hours", "test_first_hour.py"),
    "python fuzzing/": ("takes minutes to hours", "test_first_hour.py"),
}
# What makes a command that is run quick; the default command is run at full size.
QUICKER = {"scripts/port_and_export.py": ("--image_size", "64"), "scripts/evaluate.py": ("--image_size", "64")}
# A .tflite file says its size itself.
FIXED_SIZE = (".tflite",)


def plain(command):
    """The command as text, whichever Python runs it."""
    return shlex.join(command).removeprefix(".venv/bin/") if command[0] == ".venv/bin/python" else shlex.join(command)


def reason(command):
    """Why a command is not run; None if it is."""
    return next((start for start in NOT_RUN if plain(command).startswith(start)), None)


RUN = [command for command in COMMANDS if reason(command) is None]


def link(folder):
    """Makes a folder look like the checkout."""
    for name in ("checkpoints", "docs", "keras_bisenet", "scripts"):
        (folder / name).symlink_to(ROOT / name)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder that looks like the checkout and holds what the default command writes, without any flag."""
    folder = tmp_path_factory.mktemp("checkout")
    link(folder)
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


@pytest.fixture
def filled(tmp_path, workplace):
    """A checkout with all that the commands name: photos, a video, labelled photos, checkpoints, files made before."""
    link(tmp_path)
    made = workplace / "build" / "face_parsing"
    files = {
        "79999_iter.pth": DEFAULT_CHECKPOINT,
        "fine_tuned.keras": made / "bisenet.keras",
        "build/run/best.keras": made / "bisenet.keras",
        "build/full/best.keras": made / "bisenet.keras",
        "build/face_parsing/bisenet.keras": made / "bisenet.keras",
        "build/face_parsing/face_parsing_float32.tflite": made / "face_parsing_float32.tflite",
        "build/face_parsing/face_parsing_int8.tflite": face_parser.BUNDLED,
    }
    for name, path in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(path)
    # Large enough for lips to be found in it, and small enough for the slow commands.
    photo = images.read(images.BUNDLED, (160, 160))
    labels = np.full((160, 160), 17, np.uint8)
    for name in ("photo.jpg", "party.jpg", "holidays/summer/lake.jpg", "photos/anna.jpg", "DATA/images/anna.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(tmp_path / name)
    for name in ("labels.png", "DATA/labels/anna.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(labels).save(tmp_path / name)
    for name in ("train.txt", "val.txt", "test.txt"):
        (tmp_path / "DATA" / name).write_text("anna\n")
    (tmp_path / "celebamask").symlink_to("DATA")
    videos.write(tmp_path / "clip.mp4", [photo])
    return tmp_path


@pytest.mark.parametrize("command", RUN, ids=plain)
def test_command(filled, command):
    script, *arguments = command[1:]
    extra = () if any(word.endswith(FIXED_SIZE) for word in arguments) else QUICKER.get(script, ())
    process = script_runner.run(filled / script, *arguments, *extra, cwd=filled)
    assert process.returncode == 0, process.stderr
    flags = dict(itertools.pairwise(arguments))
    for name in {"--output", "--output_dir"} & flags.keys():
        assert (filled / flags[name]).exists()


def test_every_reason_has_its_command_and_its_test():
    assert {reason(command) for command in COMMANDS} == {*NOT_RUN, None}
    assert all(test is None or (ROOT / "tests" / test).exists() for _, test in NOT_RUN.values())
