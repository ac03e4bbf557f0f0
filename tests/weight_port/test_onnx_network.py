"""Other people's ONNX files: what is read from them, and what is said of those that cannot be used."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.onnx_models import CLASSES, SIZE, append, check_against_torch, rename, save, small, torch_logits
from support.refusals import refused

from keras_bisenet import HEADS
from weight_port.errors import OnnxError
from weight_port.reference import onnx_file, onnx_network
from weight_port.reference.onnx_network import OnnxReference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "bisenet.onnx"
    onnx_network.export(torch_logits().network, SIZE, path, HEADS)
    return path


@pytest.fixture
def model(exported):
    """The exported model, to be changed into what other people have."""
    return onnx.load(exported)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def refuse(path, *found, size=SIZE, num_classes=CLASSES):
    """A file must not serve as a reference, with a line that names its path and all of `found`."""
    with refused(OnnxError, path, *found):
        OnnxReference(onnx_file.inspect(path), size, num_classes, HEADS)


def test_other_names_are_taken_in_order(model, path):
    rename(model, {"image": "input.1", "logits": "output", "logits16": "1240", "logits32": "1246"})
    check_against_torch(save(model, path))


def test_known_names_are_taken_by_name(model, path):
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])
    check_against_torch(save(model, path))


def test_nhwc_input_and_outputs(model, path):
    rename(model, {"image": "image_nchw"})
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, *SIZE, 3]))
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["image_nchw"], perm=[0, 3, 1, 2]))
    nodes = [helper.make_node("Transpose", [head], [f"{head}_nhwc"], perm=[0, 2, 3, 1]) for head in HEADS]
    kind = (TensorProto.FLOAT, [1, *SIZE, CLASSES])
    append(model, *nodes, outputs={f"{head}_nhwc": kind for head in HEADS})
    save(model, path)
    assert onnx_file.inspect(path).channel_axis() == 3
    check_against_torch(path)


def test_weights_that_are_listed_as_inputs_are_none(model, path):
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    save(model, path)
    assert list(map(str, onnx_file.inspect(path).inputs)) == ["image float32 [1, 3, 65, 97]"]
    check_against_torch(path)


@pytest.mark.filterwarnings("ignore")
def test_dynamic_sizes_of_torchs_older_exporter(path):
    options = {"input_names": ["input"], "dynamic_axes": {"input": {0: "batch", 2: "height", 3: "width"}}}
    image = torch.zeros(1, 3, *SIZE)
    torch.onnx.export(torch_logits().network, (image,), str(path), **options, opset_version=13, dynamo=False)
    file = onnx_file.inspect(path)
    assert str(file.inputs[0]) == "input float32 [batch, 3, height, width]"
    for size in ((64, 96), (97, 64)):
        assert file.image_size(size) == size
        check_against_torch(path, size)


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


def test_weights_in_a_second_file(model, path):
    second = path.with_name("model.onnx.data")
    onnx.save_model(model, str(path), save_as_external_data=True, location=second.name)
    sizes = [file.stat().st_size for file in (path, second)]
    assert sizes[0] < 200_000 < 53_000_000 < sizes[1]
    described = str(onnx_file.inspect(path)).splitlines()[0]
    assert all(f"{size:,}" in described for size in (*sizes, sum(sizes)))
    check_against_torch(path)
    second.write_bytes(b"\0" * 1000)
    refuse(path, second, "truncated", "1000 bytes")
    second.unlink()
    refuse(path, second, "missing", "external_data=False")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 53327182\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"not a model\n", "not an ONNX model"),
        (b"\0" * 1000, "not an ONNX model"),
    ],
    ids=["empty", "lfs", "html", "text", "zeros"],
)
def test_wrong_files(path, content, found):
    path.write_bytes(content)
    refuse(path, found)


def test_what_is_no_onnx_file(path):
    refuse(path, "no such file")
    torch.save({"weight": torch.zeros(3)}, path)
    refuse(path, "not an ONNX model")
    refuse(path.parent, "not a file")


@pytest.mark.parametrize("fraction", [0.0001, 0.5, 0.9999])
def test_truncated(exported, path, fraction):
    content = exported.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    refuse(path, "truncated or damaged")


def test_does_not_pass_the_checker(model, path):
    del model.graph.node[0]
    refuse(save(model, path), "onnx.checker", "topologically sorted")


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
    with refused(OnnxError, path, f"takes {found}"):
        file.image_size(SIZE)


def test_classes_of_another_network(exported):
    refuse(exported, "logits float32 [1, 11, 65, 97]", "[1, 19, 65, 97] or [1, 65, 97, 19]", num_classes=19)


def test_output_is_labels(model, path):
    node = helper.make_node("ArgMax", ["logits"], ["labels"], axis=1, keepdims=0)
    append(model, node, outputs={"labels": (TensorProto.INT64, [1, *SIZE])})
    refuse(save(model, path), "labels int64 [1, 65, 97]")


def test_output_is_probabilities(model, path):
    node = helper.make_node("Softmax", ["logits"], ["scores"], axis=1)
    append(model, node, outputs={"scores": (TensorProto.FLOAT, [1, CLASSES, *SIZE])})
    refuse(save(model, path), "scores", "probabilities")


def test_output_is_no_tensor(tmp_path):
    path = small(tmp_path, {"x": FLOAT_IMAGE}, {}, helper.make_node("SequenceConstruct", ["x"], ["list"]))
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None))
    save(model, path)
    assert str(onnx_file.inspect(path).outputs[0]) == "list sequence of unknown rank"
    refuse(path, "list list")


def test_two_outputs(model, path):
    rename(model, {"logits": "a", "logits16": "b"})
    del model.graph.output[2:]
    refuse(save(model, path), "2 outputs", "a float32 [1, 11, 65, 97]", "b float32 [1, 11, 65, 97]")


def test_size_that_the_file_only_pretends_to_leave_open(model, path):
    """Torch bakes sizes into the resizes of an export without dynamic shapes; renaming its axes does not help."""
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del model.graph.value_info[:]
    refuse(save(model, path), "128x160", size=(128, 160))


def test_onnx_runtime_refuses_the_model(tmp_path):
    node = helper.make_node("Magic", ["x"], ["y"], domain="acme")
    path = small(tmp_path, {"x": FLOAT_IMAGE}, {"y": FLOAT_IMAGE}, node, domain="acme")
    refuse(path, "acme:Magic(-1) is not a registered function/op")
