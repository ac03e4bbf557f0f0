"""What the documents tell a newcomer works: the default command at full size, every snippet, command and link."""

import itertools
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from support import documented, labeled, script_runner, videos
from support.exports import link
from support.paths import DEFAULT_CHECKPOINT, ROOT
from support.ported import port

import weight_port
from keras_bisenet import classes
from keras_bisenet.inference import face_parser
from keras_bisenet.utils import images

# The commands are about flags and files, which a narrow network shows faster than the default one.
NARROW = DEFAULT_CHECKPOINT.with_name("bisenet_resnet18_w25_celebamask1k_fp16.pth")
SNIPPETS = [text for document in documented.DOCUMENTS for text in documented.snippets(document, "python")]
# Snippets that the tests here do not run: their first line, why, and the test of the same.
SNIPPETS_NOT_RUN = {
    "import mediapipe as mp": ("needs an export for MediaPipe", "export/test_mediapipe.py"),
    "import base64, json, pathlib, urllib.request": ("needs TF Serving", "export/test_saved_model.py"),
}

# Commands that the tests here do not run: how they begin, why, and the test of the same.
NOT_RUN = {
    "make": ("installs, or does what other commands here do", "packaging/test_commands.py"),
    ".venv/bin/pip": ("needs a network", "packaging/test_commands.py"),
    ".venv/bin/pre-commit": ("changes the checkout", None),
    "sudo": ("needs rights", None),
    "docker": ("needs Docker", "export/test_saved_model.py"),
    "python -m pytest": ("runs these tests", None),
    "python -c": ("overwrites the default checkpoint", "weight_port/test_checkpoint.py"),
    "python scripts/check_onnx.py": ("takes half a minute", "scripts/test_check_onnx.py"),
    "python scripts/prepare_celebamask.py": ("needs the download", "data/test_celebamask.py"),
    "python scripts/serve_web.py": ("does not end", "scripts/test_serve_web.py"),
    "python scripts/train.py": ("takes minutes to hours", "scripts/test_train.py"),
    "python scripts/parse_faces.py /shared/photos": ("starts a Ray cluster", "inference/test_ray_cluster.py"),
    "python examples/": ("takes a minute", "packaging/test_examples.py"),
    "python -m benchmarks": ("takes minutes to hours", "packaging/test_commands.py"),
    "python fuzzing/": ("takes minutes to hours", "packaging/test_commands.py"),
}


def plain(command):
    """The command as text, whichever Python runs it."""
    return shlex.join(command).removeprefix(".venv/bin/") if command[0] == ".venv/bin/python" else shlex.join(command)


def first_line(snippet):
    return snippet.partition("\n")[0]


def reason(command):
    """Why a command is not run; None if it is."""
    return next((start for start in NOT_RUN if plain(command).startswith(start)), None)


def effect(command):
    """The command as text without the folder that it writes into: commands of one effect are run once."""
    return re.sub(r" --output_dir \S+", "", plain(command))


def quicker(script, arguments):
    """Flags that make a command quick; the default command is run at full size and with all that it writes."""
    # A .tflite file says its size itself.
    sized = script in ("scripts/port_and_export.py", "scripts/evaluate.py")
    flags = ["--image_size", "64"] if sized and not any(word.endswith(".tflite") for word in arguments) else []
    if script == "scripts/port_and_export.py" and not {"--precisions", "--target"} & {*arguments}:
        flags += ["--precisions", "float32"]
    return flags


_ALL = [*documented.of_documents(), *documented.of_docstrings()]
COMMANDS = {effect(command): command for command in reversed(_ALL)}.values()
RUN = [command for command in COMMANDS if reason(command) is None]
# `make test` runs the commands and snippets of the README; those of other documents alone are slow.
IN_README = {command for text in documented.snippets("README.md", "sh") for command in documented.split(text)}
SNIPPETS_OF_README = documented.snippets("README.md", "python")
RUN_SNIPPETS = [snippet for snippet in SNIPPETS if first_line(snippet) not in SNIPPETS_NOT_RUN]


def test_default_command_keeps_its_promises(default_export):
    report = default_export.report
    assert report["holds"]
    assert report["options"]["image_size"] == [512, 512]
    # 13.2 million weights, and 1.3 MB for the larger kernels of the faster convolutions.
    assert report["files"]["face_parsing_float32.tflite"]["bytes"] <= 53_900_000
    assert report["files"]["face_parsing_float16.tflite"]["bytes"] <= 26_400_000
    assert report["peak_memory_bytes"] <= 2.3e9


@pytest.mark.parametrize(
    "snippet",
    [pytest.param(text, marks=[] if text in SNIPPETS_OF_README else pytest.mark.slow) for text in RUN_SNIPPETS],
    ids=first_line,
)
def test_snippet(default_export, tmp_path, snippet):
    script = tmp_path / "snippet.py"
    script.write_text(snippet, encoding="utf-8")
    process = script_runner.run(script, cwd=default_export.checkout)
    assert process.returncode == 0, process.stderr
    assert "hair" in process.stdout


@pytest.fixture(scope="module")
def narrow_keras(tmp_path_factory):
    path = tmp_path_factory.mktemp("narrow") / "best.keras"
    port(weight_port.load(NARROW)).save(path)
    return path


@pytest.fixture
def filled(tmp_path, default_export, narrow_keras):
    """A checkout with all that the commands name: photos, a video, labeled photos, checkpoints, files made before."""
    link(tmp_path)
    runs = [f"build/{name}/best.keras" for name in ("run", "full", "fast", "tiny")]
    files = dict.fromkeys(["fine_tuned.keras", *runs, "build/face_parsing/bisenet.keras"], narrow_keras) | {
        "79999_iter.pth": NARROW,
        "build/face_parsing/face_parsing_float32.tflite": default_export.out / "face_parsing_float32.tflite",
        "build/face_parsing/face_parsing_int8.tflite": face_parser.BUNDLED,
    }
    for name, path in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).symlink_to(path)
    # Large enough for lips to be found in it, and small enough for the slow commands.
    photo = images.read(images.BUNDLED, (160, 160))
    labels = np.full((160, 160), 17, np.uint8)
    for name in ("photo.jpg", "party.jpg", "holidays/summer/lake.jpg", "photos/anna.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(tmp_path / name)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    labeled.write(tmp_path / "DATA", {"anna": (photo, labels)}, train=["anna"], val=["anna"], test=["anna"])
    (tmp_path / "celebamask").symlink_to("DATA")
    videos.write(tmp_path / "clip.mp4", [photo])
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=[] if command in IN_README else pytest.mark.slow) for command in RUN],
    ids=plain,
)
def test_command(filled, command):
    script, *arguments = command[1:]
    process = script_runner.run(filled / script, *arguments, *quicker(script, arguments), cwd=filled)
    assert process.returncode == 0, process.stderr
    flags = dict(itertools.pairwise(arguments))
    for name in {"--output", "--output_dir"} & flags.keys():
        assert (filled / flags[name]).exists()


def test_every_reason_has_its_command_and_its_test():
    assert {reason(command) for command in COMMANDS} == {*NOT_RUN, None}
    assert SNIPPETS_NOT_RUN.keys() == {*map(first_line, SNIPPETS)} - {*map(first_line, RUN_SNIPPETS)}
    tests = {test for _, test in (*NOT_RUN.values(), *SNIPPETS_NOT_RUN.values())} - {None}
    assert {test for test in tests if not (ROOT / "tests" / test).exists()} == set()


@pytest.mark.parametrize("document", documented.DOCUMENTS)
def test_every_block_is_one_that_is_tested(document):
    """`text` is for what nobody types, and `json` states classes."""
    assert {*documented.languages(document)} <= {"sh", "python", "text", "json"}
    for text in documented.snippets(document, "json"):
        assert len(classes.of_json(json.loads(text))) > 1


@pytest.mark.parametrize("document", documented.LINKED)
def test_links_lead_somewhere(document):
    assert documented.broken_links(ROOT / document) == []


def test_broken_links_are_found(tmp_path):
    """Otherwise the test above would show nothing."""
    (tmp_path / "other.md").write_text("# A `b`, c\n## Twice\n## Twice\n```sh\n# no heading\n```\n", encoding="utf-8")
    good = ("other.md", "other.md#a-b-c", "other.md#twice-1", "https://example.com/x", "#here")
    bad = ("another.md", "other.md#no-heading", "other.md#twice-2", "#there")
    page = tmp_path / "page.md"
    page.write_text("# Here\n" + "".join(f"[`x`]({link})\n" for link in (*good, *bad)), encoding="utf-8")
    assert documented.broken_links(page) == list(bad)


def test_every_page_is_one_click_away():
    assert {*documented.DOCUMENTS, "CHANGELOG.md"} - {"README.md"} <= {*documented.links(ROOT / "README.md")}
