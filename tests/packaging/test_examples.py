"""The examples: both scripts run as a reader runs them, and what the Kotlin and Swift files say of ours is true."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from support import script_runner
from support.files import names
from support.paths import DEFAULT_CHECKPOINT, ROOT
from support.refusals import check_refused

from keras_bisenet import LABELS, BiSeNet, FaceParser, classes
from keras_bisenet.export import convert, deployment, options, pipeline
from keras_bisenet.inference import face_parser
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.utils import images

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
MOBILE = ("android/FaceParsing.kt", "ios/FaceParsing.swift")
LITERT = ("android/LiteRtFaceParsing.kt", "ios/LiteRtFaceParsing.swift")
NPU = ("android/NpuFaceParsing.kt", "ios/NpuFaceParsing.swift")


def shipped():
    """When each file that the examples lie beside or begin with was last written."""
    folders = (EXAMPLES, DEFAULT_CHECKPOINT.parent, face_parser.BUNDLED.parent)
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.glob("*.*")}


def finished(script, folder, *flags):
    """Runs an example that must end well and write nothing outside of its output; returns (what it printed, output)."""
    before = shipped()
    process = script_runner.run_alone(EXAMPLES / script, "--output_dir", "out", *flags, cwd=folder)
    assert process.returncode == 0, process.stderr
    assert names(folder) == ["out"]
    assert shipped() == before
    return process.stdout, folder / "out"


def labels_in_litert(path, photo):
    """Labels `[H, W]` of a photo of the file's size."""
    interpreter = Interpreter(str(path))
    (result,) = interpreter.get_signature_runner()(image=photo[np.newaxis]).values()
    return result[0]


def classes_in_zip(path):
    """The class names in the archive at the end of a file."""
    with zipfile.ZipFile(path) as archive:
        return archive.read("labels.txt").decode().split("\n")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    return finished("port_a_checkpoint.py", tmp_path_factory.mktemp("port"))


def test_port_prints_that_keras_is_pytorch(port):
    errors = re.findall(r"^3\. compared +(\w+): max \|error\| (\S+), same labels (\S+)%$", port[0], re.MULTILINE)
    assert [head for head, _, _ in errors] == ["logits", "logits16", "logits32"]
    assert all(0 < float(error) < 1e-4 and float(agreement) > 99.99 for _, error, agreement in errors)


def test_port_prints_what_the_file_says_of_the_photo(port):
    assert names(port[1]) == ["again.pth", "face_parsing_float16.tflite", "overlay.png"]
    assert Image.open(port[1] / "overlay.png").size == (512, 512)
    file = port[1] / "face_parsing_float16.tflite"
    photo = np.asarray(Image.open(images.BUNDLED).convert("RGB").resize((512, 512), Image.Resampling.BILINEAR))
    shares = np.bincount(labels_in_litert(file, photo).ravel(), minlength=19) / photo[..., 0].size
    printed = re.search(r"same labels as PyTorch (\S+)%; largest parts: (.*)$", port[0], re.MULTILINE)
    assert float(printed[1]) > 99.8
    assert classes_in_zip(file) == list(LABELS)
    largest = [f"{LABELS[label]} {shares[label]:.1%}" for label in np.argsort(-shares)[:4]]
    assert printed[2] == ", ".join(largest)


def test_port_gives_back_the_checkpoint(port):
    before, again = (torch.load(path, weights_only=True) for path in (DEFAULT_CHECKPOINT, port[1] / "again.pth"))
    assert before.keys() == again.keys()
    assert all(torch.equal(before[key].to(again[key].dtype), again[key]) for key in before)
    assert f"{len(before)} of {len(before)} tensors equal" in port[0]


def test_notebook(tmp_path):
    """Its code cells, one after another, beside another checkout's checkpoints."""
    cells = json.loads((EXAMPLES / "port_export_parse_plot.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(cells) == 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    script, folder = tmp_path / "cells.py", tmp_path / "checkout" / "examples"
    script.write_text("\n".join("".join(cell["source"]) for cell in code), encoding="utf-8")
    folder.mkdir(parents=True)
    (folder.parent / "checkpoints").symlink_to(DEFAULT_CHECKPOINT.parent)
    process = script_runner.run_alone(script, cwd=folder, env={**os.environ, "MPLBACKEND": "agg"})
    assert process.returncode == 0, process.stderr
    output = folder.parent / "build" / "notebook"
    assert names(output) == ["face_parsing_float16.tflite", "labels.png"]
    assert len(re.findall(r"^logits\d*: .* same labels (?:100|99\.99\d*)", process.stdout, re.MULTILINE)) == 3
    assert re.search(r"^hair +\d", process.stdout, re.MULTILINE)
    assert "191 of 191 tensors equal" in process.stdout
    assert Image.open(output / "labels.png").width > 1000


@pytest.mark.parametrize("script", ["port_a_checkpoint.py", "fine_tune_on_your_classes.py"])
def test_another_python(script):
    """One that lacks what `make export` installs."""
    code = "import runpy, sys; sys.modules['absl'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    process = subprocess.run([sys.executable, "-c", code, EXAMPLES / script], capture_output=True, text=True)
    check_refused(process, sys.executable, "absl", ".venv/bin/python")


def test_port_refuses_what_is_no_checkpoint(tmp_path):
    (tmp_path / "photo.pth").write_bytes(images.BUNDLED.read_bytes())
    flags = ("--output_dir", "out", "--checkpoint", "photo.pth")
    process = script_runner.run(EXAMPLES / "port_a_checkpoint.py", *flags, cwd=tmp_path)
    check_refused(process, "photo.pth", left=tmp_path / "out")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    return finished("fine_tune_on_your_classes.py", tmp_path_factory.mktemp("tuned"), "--steps", "16")


def read(data, name):
    """Photo and label of the small folder."""
    return [np.asarray(Image.open(data / kind / f"{name}.png")) for kind in ("images", "labels")]


def test_fine_tuning_makes_a_folder_of_the_form_it_explains(tuned):
    data, merged = tuned[1] / "data", set()
    parse = FaceParser()
    for split, count in (("train", 12), ("val", 4)):
        listed = (data / f"{split}.txt").read_text().split()
        assert len(listed) == count
        for name in listed[:2]:
            photo, label = read(data, name)
            assert (photo.dtype, label.dtype, photo.shape[:2]) == (np.uint8, np.uint8, label.shape)
            np.testing.assert_array_equal(label == 2, parse(photo) == LABELS.index("hair"))
            np.testing.assert_array_equal(np.isin(parse(photo), [1, 2, 3, 4, 5, 6, 10, 11, 12, 13]), label == 1)
            merged |= set(np.unique(label))
    assert merged == {0, 1, 2}


def test_fine_tuning_learns_and_prints_how_well(tuned):
    """The figures of the int8 file, computed once more from its own labels."""
    text, output = tuned
    file, data = output / "own_classes_int8.tflite", output / "data"
    photos, labels = zip(*(read(data, name) for name in (data / "val.txt").read_text().split()), strict=True)
    labels, predictions = np.stack(labels), np.stack([labels_in_litert(file, photo) for photo in photos])
    iou = [((labels == k) & (predictions == k)).sum() / ((labels == k) | (predictions == k)).sum() for k in range(3)]
    before, after = text.split("own_classes_int8.tflite on 4 photos")
    for name, value in zip((*classes_in_zip(file), "mean IoU"), (*iou, np.mean(iou)), strict=True):
        printed = re.search(rf"^{name} +(\S+)", after, re.MULTILINE)
        assert float(printed[1]) == pytest.approx(100 * value, abs=0.006)
    # Random heads would reach about 0.2.
    assert np.mean(iou) > 0.75
    assert float(re.search(r"^mean IoU +(\S+)", before, re.MULTILINE)[1]) == pytest.approx(100 * np.mean(iou), abs=2)
    assert classes_in_zip(file) == ["background", "face", "hair"]


def test_fine_tuning_leaves_what_it_tells_of(tuned):
    assert names(tuned[1]) == ["data", "own_classes_int8.tflite", "result.png", "run_of_16_steps"]
    assert (tuned[1] / "run_of_16_steps" / "best.keras").is_file()
    # Three rows of photo, label and what the int8 file says, each under a line of headings.
    assert Image.open(tuned[1] / "result.png").size == (3 * 256, 3 * (256 + 24))


def test_fine_tuning_refuses_labels_of_other_classes(tuned, tmp_path):
    shutil.copytree(tuned[1] / "data", tmp_path / "data")
    (tmp_path / "data" / classes.FILE).write_text(classes.named(["background", "face"]).as_json())
    flags = ("--output_dir", "out", "--data_dir", tmp_path / "data")
    process = script_runner.run(EXAMPLES / "fine_tune_on_your_classes.py", *flags, cwd=tmp_path)
    assert process.returncode == 1
    assert "error: " in process.stderr
    assert "expected classes 0 to 1" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(tmp_path.rglob("*.tflite"))


def text_of(name):
    return (EXAMPLES / name).read_text(encoding="utf-8")


def constants(name):
    """What a Kotlin or Swift file defines: name, in small letters and without _, -> a number or a file."""
    pattern = r"(?:const val|static let) (\w+)(?:: \w+)? = (\d+|\"[\w.]+\")"
    found = re.findall(pattern, text_of(name))
    return {key.lower().replace("_", ""): value.strip('"') for key, value in found}


def tensors_of(content):
    """(dtype, shape) of the inputs and outputs of a file."""
    file = flatbuffer.describe(content)
    return [(tensor["dtype"], tensor["shape"]) for tensor in (*file["inputs"], *file["outputs"])]


def classes_of(name):
    """The list of class names in a Kotlin or Swift file."""
    (block,) = re.findall(r"(?:LABELS = listOf\(|static let labels = \[)(.*?)[)\]]", text_of(name), re.DOTALL)
    return re.findall(r'"(\w+)"', block)


@pytest.fixture(scope="module")
def mediapipe_file():
    """The bytes of a file that `--target mediapipe` writes for the GPU, of a random network."""
    target = options.resolve("mediapipe", (512, 512))
    asked = target.image_size, "float16", target.input_type, target.output
    return convert.to_tflite(BiSeNet(len(LABELS)), *asked, info=metadata.ModelInfo(classes.FACE, "0" * 64))


@pytest.mark.parametrize("name", MOBILE)
def test_segmenter_code_has_the_classes_and_sizes_of_the_file(name, mediapipe_file):
    with zipfile.ZipFile(io.BytesIO(mediapipe_file)) as archive:
        assert classes_of(name) == archive.read("labels.txt").decode().split("\n") == list(LABELS)
    hair = constants(name).get("hair")
    assert classes_of(name)[int(hair)] == "hair" if hair else 'HAIR = LABELS.indexOf("hair")' in text_of(name)
    side, count = int(constants(name)["side"]), len(LABELS)
    assert tensors_of(mediapipe_file) == [("uint8", [1, side, side, 3]), ("float32", [1, side, side, count])]
    # So that the confidence masks reach from 0 to 1, as the code takes them.
    assert metadata.read(mediapipe_file)["activation"] == "SOFTMAX"


@pytest.mark.parametrize("name", LITERT)
def test_litert_code_fits_the_file(name):
    found = constants(name)
    side = int(found["side"])
    tensors = tensors_of(face_parser.BUNDLED.read_bytes())
    assert tensors == [("uint8", [1, side, side, 3]), ("uint8", [1, side, side])]
    assert LABELS[int(found["hair"])] == "hair"


@pytest.mark.parametrize("name", NPU)
def test_npu_code_fits_the_file(name):
    target, found = options.resolve("npu", (512, 512)), constants(name)
    side, grid, count = (int(found[key]) for key in ("side", "grid", "classes"))
    deployed = deployment.deploy(BiSeNet(len(LABELS)), target.image_size, target.input_type, target.output)
    assert deployed.input.shape == (1, side, side, 3)
    assert deployed.output["scores"].shape == (1, grid, grid, count)
    assert LABELS[int(found["hair"])] == "hair"
    assert found["model"] == pipeline.tflite_name(*target.precisions)
    assert "--target npu" in text_of(f"{name.split('/')[0]}/README.md")


@pytest.mark.parametrize("name", MOBILE + LITERT)
def test_code_names_files_that_the_command_of_its_readme_writes(name):
    """int8 for the CPU, float16 for the GPU."""
    target = "mediapipe" if name in MOBILE else "litert"
    asked = []
    for line in re.findall(r"scripts/port_and_export\.py (.*)", text_of(f"{name.split('/')[0]}/README.md")):
        words = shlex.split(line)
        flags = dict(zip(words[::2], words[1::2], strict=True))
        if flags.get("--target", "litert") == target:
            asked += flags["--precisions"].split(",")
    offered = options.resolve(target, (512, 512), precisions=asked).precisions
    models = {key: value for key, value in constants(name).items() if key.endswith("model")}
    assert set(models.values()) == {pipeline.tflite_name(precision, target) for precision in offered}
    cpu, gpu = (pipeline.tflite_name(precision, target) for precision in ("int8", "float16"))
    assert models in ({"cpumodel": cpu, "gpumodel": gpu}, {"model": cpu})


def test_compiled_model_takes_and_gives_bytes_as_the_kotlin_code_does():
    """uint8 is written and read as int8: Kotlin's buffers have no other name for a byte."""
    photo = images.read(images.BUNDLED, (512, 512))
    model = CompiledModel.from_file(str(face_parser.BUNDLED))
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(photo.view(np.int8))
    model.run_by_index(0, inputs, outputs)
    labels = outputs[0].read(512 * 512, np.int8).view(np.uint8).reshape(512, 512)
    np.testing.assert_array_equal(labels, labels_in_litert(face_parser.BUNDLED, photo))


def test_table_names_every_example():
    table = re.findall(r"\]\(([\w/.]+)\)", text_of("README.md"))
    assert all((EXAMPLES / name).exists() for name in table)
    examples = {path.name for path in EXAMPLES.iterdir() if path.is_dir() or path.suffix in (".py", ".ipynb")}
    assert {name.split("/")[0] for name in table} == examples - {"__pycache__"}
