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
from support.networks import random_state
from support.onnx_models import CLASSES, SIZE, check_against_torch, rename, save, small
from support.paths import ROOT

import weight_port
from keras_bisenet import HEADS, BiSeNet
from keras_bisenet.export import convert
from keras_bisenet.utils.errors import OutputError
from weight_port.reference import onnx_file, torch_network

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


def options(checkpoint, onnx, output, tflite, image_size):
    """Values of the flags."""
    return types.SimpleNamespace(
        checkpoint=checkpoint, onnx=onnx, output=output, tflite=tflite, image_size=image_size, verify_images=None
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def state():
    return random_state(layout="yakhyo", num_classes=CLASSES)


@pytest.fixture(scope="module")
def checkpoint(folder, state):
    weight_port.save(folder / "checkpoint.safetensors", state)
    return str(folder / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def torch_logits(state):
    return torch_network.Reference(state, weight_port.recognize(state))


@pytest.fixture(scope="module")
def finished(folder, checkpoint):
    """The script as its user runs it, without --onnx and --tflite."""
    command = [sys.executable, str(ROOT / "scripts" / "check_onnx.py"), f"--checkpoint={checkpoint}"]
    command.append(f"--image_size={SIZE_TEXT}")
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(finished, folder):
    """The file that it writes by default."""
    assert finished.returncode == 0, finished.stderr
    return folder / "build" / "face_parsing" / "bisenet.onnx"


@pytest.fixture(scope="module")
def keras_model(state):
    architecture = weight_port.recognize(state)
    model = BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.apply(state, model.variables, architecture)
    return model


@pytest.fixture(scope="module")
def tflite_file(folder, keras_model):
    path = folder / "face_parsing_float32.tflite"
    path.write_bytes(convert.to_tflite(keras_model, SIZE))
    return str(path)


@pytest.fixture
def model(exported):
    """The exported model, to be changed into what other people have."""
    return onnx.load(exported)


def test_a_run_prints_what_the_file_holds_and_the_table(finished, exported):
    path = exported.relative_to(exported.parents[2])
    assert (
        f"{path}: {exported.stat().st_size:,} bytes\n"
        "  input   image float32 [1, 3, 65, 97]\n"
        "  output  logits float32 [1, 11, 65, 97]\n"
        "  output  logits16 float32 [1, 11, 65, 97]\n"
        "  output  logits32 float32 [1, 11, 65, 97]\n"
        "  opset   18\n"
        "  ops     Conv 36, Relu 27, "
    ) in finished.stdout
    rows = [line.split() for line in finished.stdout.splitlines() if line.endswith("  ok")]
    assert [(row[0], row[2]) for row in rows] == [*(("keras", head) for head in HEADS), ("float32", "logits")]


def test_torch_and_tensorflow_print_nothing_of_their_own(finished):
    assert "torch" not in finished.stdout + finished.stderr
    # LiteRT's line about each file that it opens.
    assert [line for line in finished.stderr.splitlines() if "XNNPACK delegate" not in line] == []


def test_export_is_one_file_that_needs_no_other(exported, tmp_path, torch_logits):
    assert [file.name for file in exported.parent.iterdir()] == ["bisenet.onnx"]
    alone = shutil.copy(exported, tmp_path / "alone.onnx")
    file = onnx_file.inspect(alone)
    assert file.external == {}
    assert file.size == exported.stat().st_size > 53_000_000
    check_against_torch(alone, torch_logits)


def test_export_has_named_inputs_and_outputs(exported):
    file = onnx_file.inspect(exported)
    assert list(map(str, file.inputs)) == ["image float32 [1, 3, 65, 97]"]
    assert list(map(str, file.outputs)) == [f"{head} float32 [1, 11, 65, 97]" for head in HEADS]
    assert file.opsets == {"": 18}
    assert file.ops["Conv"] == 36
    assert "BatchNormalization" not in file.ops


def test_export_names_no_place_on_this_machine(exported):
    content = exported.read_bytes()
    for word in (str(ROOT), sys.prefix, "torch_network", 'File "'):
        assert word.encode() not in content, word


def test_run_fails_if_the_onnx_is_of_other_weights(script, model, checkpoint, tflite_file, tmp_path, capsys):
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "fpn.backbone.conv1.weight")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[0] = -array[0]
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    assert not script.run(options(checkpoint, str(save(model, tmp_path / "other.onnx")), None, tflite_file, SIZE_TEXT))
    failed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert failed == ["keras"] * 3 + ["float32"]


def test_run_fails_if_the_tflite_is_of_other_weights(
    script, exported, checkpoint, state, tflite_file, tmp_path, capsys
):
    head = state["conv_out.conv.weight"]  # a 1x1 kernel, so both frameworks store it in the same order
    content = pathlib.Path(tflite_file).read_bytes()
    assert content.count(head.tobytes()) == 1
    path = tmp_path / "other.tflite"
    path.write_bytes(content.replace(head.tobytes(), (-head).tobytes()))
    assert not script.run(options(checkpoint, str(exported), None, str(path), SIZE_TEXT))
    lines = capsys.readouterr().out.splitlines()
    rows = [(line.split()[0], line.endswith("  ok")) for line in lines if line.endswith("  ok") or "FAILED" in line]
    assert rows == [("keras", True)] * 3 + [("float32", False)]


def test_a_single_output_is_the_main_head(script, model, checkpoint, tflite_file, tmp_path, torch_logits, capsys):
    rename(model, {"logits": "output"})
    del model.graph.output[1:]
    path = save(model, tmp_path / "model.onnx")
    check_against_torch(path, torch_logits, heads=["logits"])
    assert script.run(options(checkpoint, str(path), None, tflite_file, SIZE_TEXT))
    assert sum(line.endswith("  ok") for line in capsys.readouterr().out.splitlines()) == 2


def test_run_reads_photos_in_the_size_of_the_file(script, exported, checkpoint, tflite_file, capsys):
    assert script.run(options(checkpoint, str(exported), None, tflite_file, "512"))
    assert "image size 65x97, which is fixed in the file; --image_size is not used\n" in capsys.readouterr().out


def test_onnx_and_tflite_of_different_sizes(script, checkpoint, tflite_file, tmp_path):
    kind = (TensorProto.FLOAT, [1, 128, 97, 3])
    path = small(tmp_path, {"x": kind}, {"y": kind}, helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(ValueError) as error:
        script.run(options(checkpoint, str(path), None, tflite_file, SIZE_TEXT))
    assert str(error.value) == f"{path} takes images of 128x97, {tflite_file} of 65x97; expected the same"


def test_nothing_half_written_when_the_disk_is_full(script, checkpoint, tflite_file, tmp_path):
    path = tmp_path / "bisenet.onnx"
    path.write_text("old")
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, hard))
    try:
        with pytest.raises(OutputError) as error:
            script.run(options(checkpoint, None, str(path), tflite_file, SIZE_TEXT))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value) == f"cannot write to {tmp_path}: File too large; free it or choose another folder"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"bisenet.onnx": "old"}


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


def test_main_exits_with_one_line(script, exported, checkpoint, tmp_path):
    missing = tmp_path / "missing.onnx"
    assert run_main(script, f"--checkpoint={checkpoint}", f"--onnx={missing}") == f"error: {missing}: no such file"
    assert run_main(script, f"--checkpoint={missing}").startswith(f"error: {missing}: no such file, and no checkpoint")
    assert run_main(script, f"--onnx={exported}", "--checkpoint=default") == (
        f"error: {exported}: returns logits float32 [1, 11, 65, 97] for an image of 65x97; expected float32 logits of "
        "19 classes at every pixel, [1, 19, 65, 97] or [1, 65, 97, 19]"
    )
    assert run_main(script, "--image_size=31").startswith("error: image size is '31'; expected SIDE or HEIGHTxWIDTH")
    photo = tmp_path / "photo.png"
    assert run_main(script, f"--verify_images={photo}").startswith(f"error: {photo}: no such file or folder")


def test_main_tells_a_failed_comparison(script, exported, tflite_file, tmp_path):
    other = tmp_path / "other.safetensors"
    weight_port.save(other, random_state(num_classes=CLASSES, seed=1))
    arguments = [f"--checkpoint={other}", f"--onnx={exported}", f"--tflite={tflite_file}"]
    assert run_main(script, *arguments) == (
        "error: a comparison with ONNX Runtime failed, see the table above: "
        f"is {exported} of this checkpoint, and does it take normalized RGB?"
    )


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_main_tells_what_to_install(script, monkeypatch, checkpoint, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("onnx_file", "onnx_network"):
        monkeypatch.delitem(sys.modules, f"weight_port.reference.{module}")
        monkeypatch.delattr(weight_port.reference, module)
    assert run_main(script, f"--checkpoint={checkpoint}") == (
        f"error: {package} is not installed: pip install 'keras-bisenet[onnx]', or "
        "pip install onnx onnxruntime onnxscript"
    )


def test_main_tells_that_the_exporter_needs_onnxscript(script, monkeypatch, checkpoint, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert run_main(script, f"--checkpoint={checkpoint}", f"--output={tmp_path / 'x.onnx'}") == (
        "error: onnxscript is not installed: pip install 'keras-bisenet[onnx]', or "
        "pip install onnx onnxruntime onnxscript"
    )


def test_main_refuses_stray_arguments(script):
    with pytest.raises(app.UsageError) as error:
        script.command.call(script.main, ["check_onnx.py", "model.onnx"])
    assert str(error.value) == "unexpected arguments: model.onnx; every option is a flag, see --help"
