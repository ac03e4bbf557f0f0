"""The ONNX check as its user runs it."""

import importlib.util
import pathlib
import shutil
import subprocess
import sys
import types

import onnx
import pytest
from absl import app, flags
from onnx import TensorProto, helper
from support.files import content, names
from support.networks import random_state
from support.onnx_models import CLASSES, SIZE, check_against_torch, rename, save, small, state
from support.paths import ROOT
from support.ported import port
from support.refusals import check_line, refused

import weight_port
from keras_bisenet import HEADS
from keras_bisenet.export import convert
from keras_bisenet.utils.errors import OutputError
from weight_port.reference import onnx_file

pytestmark = pytest.mark.slow

SIZE_TEXT = "65x97"
FLAG_NAMES = ("checkpoint", "onnx", "output", "tflite", "image_size", "verify_images")


@pytest.fixture(scope="module")
def script():
    """The script as a module. The flags of another script that are called the same step aside meanwhile."""
    taken = {name: flags.FLAGS[name] for name in FLAG_NAMES if name in flags.FLAGS}
    for name in taken:
        delattr(flags.FLAGS, name)
    spec = importlib.util.spec_from_file_location("check_onnx", ROOT / "scripts" / "check_onnx.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        patch.setattr(sys, "excepthook", sys.excepthook)
        spec.loader.exec_module(module)
    yield module
    for name in FLAG_NAMES:
        delattr(flags.FLAGS, name)
    for name, flag in taken.items():
        flags.FLAGS[name] = flag


@pytest.fixture
def run(script, checkpoint, tflite_file):
    """The function behind the script: called with flags that differ from the usual ones."""
    usual = {"checkpoint": checkpoint, "tflite": tflite_file, "image_size": SIZE_TEXT}
    flags_ = dict.fromkeys(FLAG_NAMES) | usual
    return lambda **changes: script.run(types.SimpleNamespace(**flags_ | changes))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.safetensors"
    weight_port.save(path, state())
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, checkpoint):
    """The script as its user runs it, without --onnx and --tflite: (process, the file that it writes by default)."""
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, str(ROOT / "scripts" / "check_onnx.py"), f"--checkpoint={checkpoint}"]
    command.append(f"--image_size={SIZE_TEXT}")
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process, folder / "build" / "face_parsing" / "bisenet.onnx"


@pytest.fixture(scope="module")
def exported(finished):
    return finished[1]


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "face_parsing_float32.tflite"
    path.write_bytes(convert.to_tflite(port(state()), SIZE))
    return str(path)


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


def test_torch_and_tensorflow_print_nothing_of_their_own(finished):
    process, _ = finished
    assert "torch" not in process.stdout + process.stderr
    # LiteRT's line about each file that it opens.
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


def failed_and_ok(capsys):
    """Names of the comparisons that the table tells as failed, and of those that hold."""
    lines = capsys.readouterr().out.splitlines()
    return [
        [line.split()[0] for line in lines if condition(line)]
        for condition in (lambda line: "FAILED" in line, lambda line: line.endswith("  ok"))
    ]


def test_run_fails_if_the_onnx_is_of_other_weights(run, model, tmp_path, capsys):
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "fpn.backbone.conv1.weight")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[0] = -array[0]
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    assert not run(onnx=str(save(model, tmp_path / "other.onnx")))
    assert failed_and_ok(capsys) == [["keras"] * 3 + ["float32"], []]


def test_run_fails_if_the_tflite_is_of_other_weights(run, exported, tflite_file, tmp_path, capsys):
    head = state()["conv_out.conv.weight"]  # a 1x1 kernel, so both frameworks store it in the same order
    content = pathlib.Path(tflite_file).read_bytes()
    assert content.count(head.tobytes()) == 1
    path = tmp_path / "other.tflite"
    path.write_bytes(content.replace(head.tobytes(), (-head).tobytes()))
    assert not run(onnx=str(exported), tflite=str(path))
    assert failed_and_ok(capsys) == [["float32"], ["keras"] * 3]


def test_a_single_output_is_the_main_head(run, model, tmp_path, capsys):
    rename(model, {"logits": "output"})
    del model.graph.output[1:]
    path = save(model, tmp_path / "model.onnx")
    check_against_torch(path, heads=["logits"])
    assert run(onnx=str(path))
    assert failed_and_ok(capsys) == [[], ["keras", "float32"]]


def test_run_reads_photos_in_the_size_of_the_file(run, exported, tflite_file, tmp_path, capsys):
    assert run(onnx=str(exported), image_size="512")
    assert "image size 65x97" in capsys.readouterr().out
    kind = (TensorProto.FLOAT, [1, 128, 97, 3])
    path = small(tmp_path, {"x": kind}, {"y": kind}, helper.make_node("Relu", ["x"], ["y"]))
    with refused(ValueError, path, "128x97", tflite_file, "65x97"):
        run(onnx=str(path))


def test_nothing_half_written_when_the_disk_is_full(run, tmp_path):
    path = tmp_path / "bisenet.onnx"
    path.write_text("old")
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, hard))
    try:
        with refused(OutputError, tmp_path, "File too large"):
            run(output=str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert content(tmp_path) == {"bisenet.onnx": b"old"}


def run_main(script, *arguments):
    """What the script exits with, run in this process."""
    names = ["check_onnx.py", *arguments]
    try:
        script.command.call(script.main, script.FLAGS(names))
    except SystemExit as exit_:
        return exit_.code
    finally:
        script.FLAGS.unparse_flags()
        for name in FLAG_NAMES:
            script.FLAGS[name].unparse()
    return 0


def test_main_exits_with_one_line(script, exported, checkpoint, tflite_file, tmp_path):
    missing, other = tmp_path / "missing.onnx", tmp_path / "other.safetensors"
    weight_port.save(other, random_state(num_classes=CLASSES, seed=1))
    for arguments, found in (
        ([f"--checkpoint={checkpoint}", f"--onnx={missing}"], [f"{missing}: no such file"]),
        ([f"--checkpoint={missing}"], [f"{missing}: no such file"]),
        ([f"--onnx={exported}", "--checkpoint=default"], [exported, "[1, 11, 65, 97]", "19 classes"]),
        (["--image_size=31"], ["'31'"]),
        ([f"--verify_images={missing}"], [f"{missing}: no such file"]),
        # A comparison that fails.
        ([f"--checkpoint={other}", f"--onnx={exported}", f"--tflite={tflite_file}"], ["ONNX Runtime", exported]),
    ):
        line = run_main(script, *arguments)
        assert line.startswith("error: ")
        check_line(line, found)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_main_tells_what_to_install(script, monkeypatch, checkpoint, tmp_path, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("onnx_file", "onnx_network") if package != "onnxscript" else ():
        monkeypatch.delitem(sys.modules, f"weight_port.reference.{module}")
        monkeypatch.delattr(weight_port.reference, module)
    line = run_main(script, f"--checkpoint={checkpoint}", f"--output={tmp_path / 'x.onnx'}")
    check_line(line, [f"error: {package} is not installed", "pip install '.[onnx]'"])


def test_main_refuses_stray_arguments(script):
    with refused(app.UsageError, "unexpected arguments: model.onnx"):
        script.command.call(script.main, ["check_onnx.py", "model.onnx"])
