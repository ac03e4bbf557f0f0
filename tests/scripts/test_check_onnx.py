"""The ONNX check as its user runs it."""

import shutil
import sys

import onnx
import pytest
from onnx import TensorProto, helper
from support import script_runner
from support.files import content, names
from support.onnx_models import SIZE, check_against_torch, rename, save, small, state
from support.paths import ROOT
from support.ported import port
from support.refusals import check_refused

import weight_port
from keras_bisenet import HEADS
from keras_bisenet.export import convert
from weight_port.reference import onnx_file

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "check_onnx.py"
SIZE_TEXT = "65x97"


def command(*arguments, **options):
    return script_runner.run(SCRIPT, *arguments, **options)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    weight_port.save(path, state())
    return path


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "face_parsing_float32.tflite"
    path.write_bytes(convert.to_tflite(port(state()), SIZE))
    return path


@pytest.fixture(scope="module")
def usual(checkpoint, tflite_file):
    """Flags that fit one another; a later flag of the same name wins."""
    return "--checkpoint", checkpoint, "--tflite", tflite_file, "--image_size", SIZE_TEXT


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint):
    """The script as its user runs it, without --onnx and --tflite: (process, the file that it writes by default)."""
    folder = tmp_path_factory.mktemp("finished")
    process = script_runner.run_alone(SCRIPT, "--checkpoint", checkpoint, "--image_size", SIZE_TEXT, cwd=folder)
    assert process.returncode == 0, process.stderr
    return process, folder / "build" / "face_parsing" / "bisenet.onnx"


@pytest.fixture(scope="module")
def exported(finished):
    return finished[1]


@pytest.fixture
def model(exported):
    """The exported model, to be changed into what other people have."""
    return onnx.load(exported)


def test_a_run_prints_what_the_file_holds_and_the_table(finished):
    process, path = finished
    file = onnx_file.inspect(path)
    assert list(map(str, file.inputs)) == ["image float32 [1, 3, 65, 97]"]
    assert list(map(str, file.outputs)) == [f"{head} float32 [1, 11, 65, 97]" for head in HEADS]
    assert (file.opsets, file.ops["Conv"], "BatchNormalization" in file.ops) == ({"": 18}, 36, False)
    for found in (f"{path.stat().st_size:,} bytes", *map(str, (*file.inputs, *file.outputs)), "Conv 36"):
        assert found in process.stdout
    rows = [line.split() for line in process.stdout.splitlines() if line.endswith("  ok")]
    assert [(row[0], row[2]) for row in rows] == [*(("keras", head) for head in HEADS), ("float32", "logits")]
    # TensorFlow and PyTorch print nothing, LiteRT a line about each file that it opens.
    assert "torch" not in process.stdout + process.stderr
    assert [line for line in process.stderr.splitlines() if "XNNPACK delegate" not in line] == []


def test_export_is_one_file_that_needs_no_other(exported, tmp_path):
    assert names(exported.parent) == ["bisenet.onnx"]
    alone = shutil.copy(exported, tmp_path / "alone.onnx")
    file = onnx_file.inspect(alone)
    assert file.external == {}
    assert file.size == exported.stat().st_size > 53_000_000
    check_against_torch(alone)


def test_export_names_no_place_on_this_machine(exported):
    content = exported.read_bytes()
    for word in (str(ROOT), sys.prefix, "torch_network", 'File "'):
        assert word.encode() not in content, word


def failed_and_ok(process):
    """Names of the comparisons that the table tells as failed, and of those that hold."""
    lines = process.stdout.splitlines()
    return (
        [line.split()[0] for line in lines if "FAILED" in line],
        [line.split()[0] for line in lines if line.endswith("  ok")],
    )


def test_an_onnx_file_of_other_weights_fails(usual, model, tmp_path):
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "fpn.backbone.conv1.weight")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[0] = -array[0]
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    path = save(model, tmp_path / "other.onnx")
    process = command(*usual, "--onnx", path)
    check_refused(process, "ONNX Runtime", path)
    assert failed_and_ok(process) == (["keras"] * 3 + ["float32"], [])


def test_a_tflite_file_of_other_weights_fails(usual, exported, tflite_file, tmp_path):
    head = state()["conv_out.conv.weight"]  # a 1x1 kernel, so both frameworks store it in the same order
    content = tflite_file.read_bytes()
    assert content.count(head.tobytes()) == 1
    path = tmp_path / "other.tflite"
    path.write_bytes(content.replace(head.tobytes(), (-head).tobytes()))
    process = command(*usual, "--onnx", exported, "--tflite", path)
    check_refused(process, "ONNX Runtime", exported)
    assert failed_and_ok(process) == (["float32"], ["keras"] * 3)


def test_a_single_output_is_the_main_head(usual, model, tmp_path):
    rename(model, {"logits": "output"})
    del model.graph.output[1:]
    path = save(model, tmp_path / "model.onnx")
    check_against_torch(path, heads=["logits"])
    process = command(*usual, "--onnx", path)
    assert process.returncode == 0, process.stderr
    assert failed_and_ok(process) == ([], ["keras", "float32"])


def test_photos_are_read_in_the_size_of_the_file(usual, exported, tflite_file, tmp_path):
    process = command(*usual, "--onnx", exported, "--image_size", "512")
    assert process.returncode == 0, process.stderr
    assert f"image size {SIZE_TEXT}" in process.stdout
    kind = (TensorProto.FLOAT, [1, 128, 97, 3])
    path = small(tmp_path, {"x": kind}, {"y": kind}, helper.make_node("Relu", ["x"], ["y"]))
    check_refused(command(*usual, "--onnx", path), path, "128x97", tflite_file, SIZE_TEXT)


def test_nothing_half_written_when_the_disk_is_full(usual, tmp_path):
    path = tmp_path / "bisenet.onnx"
    path.write_text("old")
    process = command(*usual, "--output", path, largest_file=10 << 20)
    check_refused(process, tmp_path, "File too large")
    assert content(tmp_path) == {"bisenet.onnx": b"old"}


def test_what_does_not_fit_is_named_in_one_line(exported, checkpoint, tmp_path):
    missing = tmp_path / "missing.onnx"
    for arguments, found in (
        (["--checkpoint", checkpoint, "--onnx", missing], [f"{missing}: no such file"]),
        (["--checkpoint", missing], [f"{missing}: no such file"]),
        (["--onnx", exported, "--checkpoint", "default"], [exported, "[1, 11, 65, 97]", "19 classes"]),
        (["--image_size", "31"], ["'31'"]),
        (["--verify_images", missing], [f"{missing}: no such file"]),
    ):
        check_refused(command(*arguments), *found)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_told_with_how_to_install_it(checkpoint, tmp_path, package):
    script = tmp_path / "without.py"
    script.write_text(f"""
import runpy, sys
sys.modules[{package!r}] = None
sys.path[0] = {str(SCRIPT.parent)!r}
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
""")
    process = script_runner.run(script, "--checkpoint", checkpoint, "--output", tmp_path / "x.onnx")
    check_refused(process, f"error: {package} is not installed", "pip install '.[onnx]'")
