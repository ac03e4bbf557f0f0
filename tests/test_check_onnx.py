"""The ONNX check: the export, other people's exports, and what it says of files that cannot be used."""

import importlib.util
import io
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch
from absl import flags
from conftest import ROOT, random_images, random_state
from onnx import TensorProto, helper

import weight_port
from keras_bisenet import HEADS, BiSeNet
from keras_bisenet.export import flatbuffer, labels_file, tflite
from keras_bisenet.export.errors import ExportError
from weight_port import onnx_file, torch_reference
from weight_port.errors import OnnxError
from weight_port.onnx_reference import OnnxReference

SIZE = (65, 97)
SIZE_TEXT = "65x97"
CLASSES = 11
FLAG_NAMES = ("checkpoint", "onnx", "output", "tflite", "image_size", "verify_images")


@pytest.fixture(scope="module")
def script():
    """The script as a module. The flags of another script that are called the same step aside meanwhile."""
    taken = {name: flags.FLAGS[name] for name in FLAG_NAMES if name in flags.FLAGS}
    for name in taken:
        delattr(flags.FLAGS, name)
    spec = importlib.util.spec_from_file_location("check_onnx", ROOT / "scripts" / "check_onnx.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in FLAG_NAMES:
        delattr(flags.FLAGS, name)
    for name, flag in taken.items():
        flags.FLAGS[name] = flag


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
    return torch_reference.Reference(state, weight_port.recognise(state))


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
    architecture = weight_port.recognise(state)
    model = BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.port(state, model.variables, architecture)
    return model


@pytest.fixture(scope="module")
def tflite_file(folder, keras_model):
    path = folder / "face_parsing_float32.tflite"
    path.write_bytes(tflite.convert(keras_model, SIZE))
    return str(path)


@pytest.fixture
def model(exported):
    """The exported model, to be changed into what other people have."""
    return onnx.load(exported)


def save(model, path):
    onnx.save_model(model, str(path))
    return path


def rename(model, names):
    """Renames inputs and outputs."""
    for node in model.graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


def append(model, *nodes, outputs):
    """Adds ops behind the model, and replaces its outputs by `outputs`: name -> (type, shape)."""
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items())


def small(folder, inputs, outputs, *nodes, domain=None):
    """A model of a few ops; `inputs` and `outputs`: name -> (type, shape)."""
    values = [[helper.make_tensor_value_info(name, *kind) for name, kind in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "small", *values)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")


def check_against_torch(path, torch_logits, size=SIZE, heads=HEADS):
    reference = OnnxReference(onnx_file.inspect(path), size, CLASSES, HEADS)
    assert reference.heads == tuple(heads)
    images = random_images(*size)
    results = reference(images)
    assert tuple(results) == tuple(heads)
    for head, expected in zip(HEADS, torch_logits(images), strict=True):
        if head in results:
            assert results[head].dtype == np.float32
            np.testing.assert_allclose(results[head], expected, rtol=0, atol=2e-4)


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


def test_torch_prints_nothing_of_its_own(finished):
    assert "torch" not in finished.stdout + finished.stderr


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
    for word in (str(ROOT), sys.prefix, "torch_reference", 'File "'):
        assert word.encode() not in content, word


def test_run_fails_if_the_onnx_is_of_other_weights(script, model, checkpoint, tflite_file, tmp_path, capsys):
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "fpn.backbone.conv1.weight")
    array = onnx.numpy_helper.to_array(kernel).copy()
    array[0] = -array[0]
    kernel.CopyFrom(onnx.numpy_helper.from_array(array, kernel.name))
    assert not script.run(checkpoint, str(save(model, tmp_path / "other.onnx")), None, tflite_file, SIZE_TEXT, None)
    lines = capsys.readouterr().out.splitlines()
    assert sum("FAILED: allowed are max |error| <= 0.0001, same labels >= 99.99%" in line for line in lines) == 3
    assert sum("FAILED: allowed are max |error| <= 0.001, same labels >= 99.98%" in line for line in lines) == 1


def test_run_fails_if_the_tflite_is_of_other_weights(
    script, exported, checkpoint, state, tflite_file, tmp_path, capsys
):
    head = state["conv_out.conv.weight"]  # a 1x1 kernel, so both frameworks store it in the same order
    content = pathlib.Path(tflite_file).read_bytes()
    assert content.count(head.tobytes()) == 1
    path = tmp_path / "other.tflite"
    path.write_bytes(content.replace(head.tobytes(), (-head).tobytes()))
    assert not script.run(checkpoint, str(exported), None, str(path), SIZE_TEXT, None)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.endswith("  ok") or "FAILED" in line]
    assert [(row[0], row[6]) for row in rows] == [("keras", "ok")] * 3 + [("float32", "FAILED:")]


def test_other_names_are_taken_in_order(model, tmp_path, torch_logits):
    rename(model, {"image": "input.1", "logits": "output", "logits16": "1240", "logits32": "1246"})
    check_against_torch(save(model, tmp_path / "model.onnx"), torch_logits)


def test_known_names_are_taken_by_name(model, tmp_path, torch_logits):
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])
    check_against_torch(save(model, tmp_path / "model.onnx"), torch_logits)


def test_a_single_output_is_the_main_head(script, model, checkpoint, tflite_file, tmp_path, torch_logits, capsys):
    rename(model, {"logits": "output"})
    del model.graph.output[1:]
    path = save(model, tmp_path / "model.onnx")
    check_against_torch(path, torch_logits, heads=["logits"])
    assert script.run(checkpoint, str(path), None, tflite_file, SIZE_TEXT, None)
    assert sum(line.endswith("  ok") for line in capsys.readouterr().out.splitlines()) == 2


def test_nhwc_input_and_outputs(model, tmp_path, torch_logits):
    rename(model, {"image": "image_nchw"})
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *SIZE, 3]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["image_nchw"], perm=[0, 3, 1, 2]))
    nodes = [helper.make_node("Transpose", [head], [f"{head}_nhwc"], perm=[0, 2, 3, 1]) for head in HEADS]
    kind = (TensorProto.FLOAT, [1, *SIZE, CLASSES])
    append(model, *nodes, outputs={f"{head}_nhwc": kind for head in HEADS})
    path = save(model, tmp_path / "model.onnx")
    assert onnx_file.inspect(path).channel_axis() == 3
    check_against_torch(path, torch_logits)


def test_weights_that_are_listed_as_inputs_are_none(model, tmp_path, torch_logits):
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    path = save(model, tmp_path / "model.onnx")
    assert list(map(str, onnx_file.inspect(path).inputs)) == ["image float32 [1, 3, 65, 97]"]
    check_against_torch(path, torch_logits)


@pytest.mark.parametrize("size", [(64, 96), (97, 64)])
def test_dynamic_sizes_of_torchs_older_exporter(folder, state, torch_logits, size):
    path = folder / "dynamic.onnx"
    if not path.exists():
        network = torch_reference.BiSeNet(CLASSES, layout="yakhyo")
        network.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        axes = {"input": {0: "batch", 2: "height", 3: "width"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.eval(),
                (torch.zeros(1, 3, *SIZE),),
                str(path),
                input_names=["input"],
                dynamic_axes=axes,
                opset_version=13,
                dynamo=False,
            )
    file = onnx_file.inspect(path)
    assert str(file.inputs[0]) == "input float32 [batch, 3, height, width]"
    assert file.image_size(size) == size
    check_against_torch(path, torch_logits, size)


@pytest.mark.parametrize(
    ("shape", "axis", "size"),
    [
        ([1, 3, 65, 97], 1, (65, 97)),
        ([1, 65, 97, 3], 3, (65, 97)),
        (["n", 3, "h", 97], 1, (480, 97)),
        ([None, None, None, 3], 3, (480, 640)),
        (["n", "c", "h", "w"], 1, (480, 640)),
        ([1, 65, 97, "c"], 3, (65, 97)),
        ([0, 3, 0, 0], 1, (480, 640)),
    ],
)
def test_sizes_that_the_file_fixes_win(tmp_path, shape, axis, size):
    kind = (TensorProto.FLOAT, shape)
    file = onnx_file.inspect(small(tmp_path, {"x": kind}, {"y": kind}, helper.make_node("Relu", ["x"], ["y"])))
    assert file.channel_axis() == axis
    assert file.image_size((480, 640)) == size


def test_run_reads_photos_in_the_size_of_the_file(script, exported, checkpoint, tflite_file, capsys):
    assert script.run(checkpoint, str(exported), None, tflite_file, "512", None)
    assert "image size 65x97, which is fixed in the file; --image_size is not used\n" in capsys.readouterr().out


def test_weights_in_a_second_file(model, tmp_path, torch_logits):
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="model.onnx.data")
    first, second = path.stat().st_size, (tmp_path / "model.onnx.data").stat().st_size
    assert first < 200_000 < 53_000_000 < second
    file = onnx_file.inspect(path)
    assert str(file).splitlines()[0] == (
        f"{path}: 2 files that belong together, {first + second:,} bytes: "
        f"model.onnx {first:,} + model.onnx.data {second:,}"
    )
    check_against_torch(path, torch_logits)

    (tmp_path / "model.onnx.data").write_bytes(b"\0" * 1000)
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(path)
    end = str(error.value).rpartition(" ")[2]
    assert 52_000_000 < int(end) <= second
    assert str(error.value) == (
        f"{path}: its weights lie in {tmp_path / 'model.onnx.data'}, which is truncated: found 1000 bytes, "
        f"expected at least {end}"
    )

    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(path)
    assert str(error.value) == (
        f"{path}: its weights lie in a second file, model.onnx.data, which is missing; expected it at "
        f"{tmp_path / 'model.onnx.data'}: put it there (torch >= 2.9 writes both, and both must be shipped), or "
        "export again with external_data=False"
    )


def torch_file():
    content = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, content)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty (0 bytes); export or download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 53327182\n",
            "is a git-lfs pointer, not the model; run 'git lfs pull' to fetch it",
        ),
        (
            b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
            "is a web page, not a model; the link led to a download page: fetch it with a browser",
        ),
        (b"not a model\n", "is not an ONNX model"),
        (b"\0" * 1000, "is not an ONNX model"),
        (torch_file(), "is not an ONNX model"),
    ],
    ids=["missing", "empty", "lfs", "html", "text", "zeros", "torch"],
)
def test_wrong_files(tmp_path, content, message):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_folder(tmp_path):
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(tmp_path)
    assert str(error.value) == f"{tmp_path}: is not a file; expected an .onnx model"


@pytest.mark.parametrize("fraction", [0.0001, 0.5, 0.9999])
def test_truncated(exported, tmp_path, fraction):
    content = exported.read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(path)
    assert str(error.value) == f"{path}: is truncated or damaged; export or download it again"


def test_does_not_pass_the_checker(model, tmp_path):
    del model.graph.node[0]
    path = save(model, tmp_path / "model.onnx")
    with pytest.raises(OnnxError) as error:
        onnx_file.inspect(path)
    message = str(error.value)
    assert message.startswith(f"{path}: does not pass onnx.checker: Nodes in a graph must be topologically sorted")
    assert "\n" not in message


FLOAT_IMAGE = (TensorProto.FLOAT, [1, 3, 65, 97])


@pytest.mark.parametrize(
    ("inputs", "found"),
    [
        ({"ids": (TensorProto.INT64, [1, 128])}, "ids int64 [1, 128]"),
        ({"x": (TensorProto.FLOAT, [1, 1, 65, 97])}, "x float32 [1, 1, 65, 97]"),
        ({"x": (TensorProto.FLOAT, [4, 3, 65, 97])}, "x float32 [4, 3, 65, 97]"),
        ({"x": (TensorProto.FLOAT, ["n", 3, None])}, "x float32 [n, 3, ?]"),
        ({"x": (TensorProto.FLOAT16, [1, 3, 65, 97])}, "x float16 [1, 3, 65, 97]"),
        ({"x": (TensorProto.UINT8, [1, 65, 97, 3])}, "x uint8 [1, 65, 97, 3]"),
        ({"x": FLOAT_IMAGE, "mask": FLOAT_IMAGE}, "x float32 [1, 3, 65, 97], mask float32 [1, 3, 65, 97]"),
    ],
)
def test_input_is_not_one_image(tmp_path, inputs, found):
    (name, kind), *_ = inputs.items()
    path = small(tmp_path, inputs, {"y": kind}, helper.make_node("Identity", [name], ["y"]))
    file = onnx_file.inspect(path)
    with pytest.raises(OnnxError) as error:
        file.image_size(SIZE)
    assert str(error.value) == (
        f"{path}: takes {found}; expected one normalised image, float32 [1, 3, H, W] or [1, H, W, 3]"
    )


def refusal(path, size=SIZE, num_classes=CLASSES):
    with pytest.raises(OnnxError) as error:
        OnnxReference(onnx_file.inspect(path), size, num_classes, HEADS)
    return str(error.value)


def test_classes_of_another_network(exported):
    assert refusal(exported, num_classes=19) == (
        f"{exported}: returns logits float32 [1, 11, 65, 97] for an image of 65x97; expected float32 logits of 19 "
        "classes at every pixel, [1, 19, 65, 97] or [1, 65, 97, 19]"
    )


def test_output_is_labels(model, tmp_path):
    node = helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0)
    append(model, node, outputs={"labels": (TensorProto.INT64, [1, *SIZE])})
    path = save(model, tmp_path / "model.onnx")
    assert refusal(path) == (
        f"{path}: returns labels int64 [1, 65, 97] for an image of 65x97; expected float32 logits of 11 classes at "
        "every pixel, [1, 11, 65, 97] or [1, 65, 97, 11]"
    )


def test_output_is_probabilities(model, tmp_path):
    node = helper.make_node("Softmax", ["logits"], ["scores"], axis=1)
    append(model, node, outputs={"scores": (TensorProto.FLOAT, [1, CLASSES, *SIZE])})
    path = save(model, tmp_path / "model.onnx")
    assert refusal(path) == (
        f"{path}: the output scores holds probabilities (they sum to 1 at every pixel); expected logits, from before "
        "the softmax"
    )


def test_output_is_no_tensor(tmp_path):
    path = small(tmp_path, {"x": FLOAT_IMAGE}, {}, helper.make_node("SequenceConstruct", ["x"], ["list"]))
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    save(model, path)
    assert str(onnx_file.inspect(path).outputs[0]) == "list sequence of unknown rank"
    assert refusal(path) == (
        f"{path}: returns list list for an image of 65x97; expected float32 logits of 11 classes at every pixel, "
        "[1, 11, 65, 97] or [1, 65, 97, 11]"
    )


def test_two_outputs(model, tmp_path):
    rename(model, {"logits": "a", "logits16": "b"})
    del model.graph.output[2:]
    path = save(model, tmp_path / "model.onnx")
    assert refusal(path) == (
        f"{path}: has 2 outputs, a float32 [1, 11, 65, 97]; b float32 [1, 11, 65, 97]; expected 1 (the logits of the "
        "main head) or 3 (those of all heads)"
    )


def test_size_that_the_file_only_pretends_to_leave_open(model, tmp_path):
    """Torch bakes sizes into the resizes of an export without dynamic shapes; renaming its axes does not help."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    path = save(model, tmp_path / "model.onnx")
    message = refusal(path, (128, 160))
    assert message.startswith(f"{path}: ONNX Runtime fails on an image of 128x160: ")
    assert "\n" not in message


def test_onnx_runtime_refuses_the_model(tmp_path):
    node = helper.make_node("Magic", ["x"], ["y"], domain="acme")
    path = small(tmp_path, {"x": FLOAT_IMAGE}, {"y": FLOAT_IMAGE}, node, domain="acme")
    message = refusal(path)
    assert message.startswith(f"{path}: ONNX Runtime cannot load it: ")
    assert "acme:Magic(-1) is not a registered function/op" in message
    assert "\n" not in message


def test_onnx_and_tflite_of_different_sizes(script, checkpoint, tflite_file, tmp_path):
    kind = (TensorProto.FLOAT, [1, 128, 97, 3])
    path = small(tmp_path, {"x": kind}, {"y": kind}, helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(ValueError) as error:
        script.run(checkpoint, str(path), None, tflite_file, SIZE_TEXT, None)
    assert str(error.value) == f"{path} takes images of 128x97, {tflite_file} of 65x97; expected the same"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "cannot be read: No such file or directory"),
        (lambda _: b"", "is not a TFLite model"),
        (lambda _: b"<!DOCTYPE html>", "is not a TFLite model"),
        (lambda content: content[:1000], "is truncated or damaged; export it again"),
        (lambda content: content[: len(content) // 2], "is truncated or damaged; export it again"),
        (lambda content: content[:-1], "is truncated or damaged; export it again"),
    ],
    ids=["missing", "empty", "html", "head", "half", "almost"],
)
def test_wrong_tflite_files(tflite_file, tmp_path, make, message):
    path = tmp_path / "model.tflite"
    content = make(pathlib.Path(tflite_file).read_bytes())
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == f"{path}: {message}"


def test_tflite_of_another_kind(tflite_file, tmp_path):
    path = tmp_path / "model.tflite"
    content = pathlib.Path(tflite_file).read_bytes()
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    graph.tensors[graph.outputs[0]].name = "probabilities"
    path.write_bytes(flatbuffer.pack(model))
    with pytest.raises(ValueError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == (
        f"{path}: takes image uint8 and returns probabilities uint8; expected a file that port_and_export.py wrote "
        "with --input uint8 --output labels"
    )
    path.write_bytes(content.replace(b"logits", b"legits"))
    with pytest.raises(ValueError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == f"{path}: has no tensor 'logits'; expected a file that port_and_export.py wrote"
    with pytest.raises(ValueError) as error:
        labels_file.read(tflite_file, 19)
    assert str(error.value) == f"{tflite_file}: has 11 classes, the checkpoint 19; it is of another checkpoint"


def test_tflite_of_half_precision_is_told_apart(keras_model, tflite_file, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.convert(keras_model, (32, 48), "float16"))
    assert labels_file.read(path, CLASSES)[1:] == ((32, 48), "float16")
    assert labels_file.read(tflite_file, CLASSES)[1:] == (SIZE, "float32")


def test_nothing_half_written_when_the_disk_is_full(script, checkpoint, tflite_file, tmp_path):
    path = tmp_path / "bisenet.onnx"
    path.write_text("old")
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, hard))
    try:
        with pytest.raises(ExportError) as error:
            script.run(checkpoint, None, str(path), tflite_file, SIZE_TEXT, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(error.value) == f"cannot write to {tmp_path}: File too large; free it or choose another folder"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"bisenet.onnx": "old"}


def run_main(script, *arguments):
    """What the script exits with, run in this process."""
    names = ["check_onnx.py", *arguments]
    try:
        script.main(script.FLAGS(names))
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
        f"is {exported} of this checkpoint, and does it take normalised RGB?"
    )


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_main_tells_what_to_install(script, monkeypatch, checkpoint, package):
    monkeypatch.setitem(sys.modules, package, None)
    for module in ("onnx_file", "onnx_reference"):
        monkeypatch.delitem(sys.modules, f"weight_port.{module}")
        monkeypatch.delattr(weight_port, module)
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
    with pytest.raises(script.app.UsageError) as error:
        script.main(["check_onnx.py", "model.onnx"])
    assert str(error.value) == "unexpected arguments: model.onnx; every option is a flag, see --help"
