"""Other people's ONNX files: what is read from them, and what is said of those that cannot be used."""

import io
import warnings

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.networks import random_state
from support.onnx_models import CLASSES, SIZE, append, check_against_torch, rename, save, small

import weight_port
from keras_bisenet import HEADS
from weight_port.errors import OnnxError
from weight_port.reference import onnx_file, onnx_network, torch_network
from weight_port.reference.onnx_network import OnnxReference

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def state():
    return random_state(layout="yakhyo", num_classes=CLASSES)


@pytest.fixture(scope="module")
def torch_logits(state):
    return torch_network.Reference(state, weight_port.recognize(state))


@pytest.fixture(scope="module")
def exported(folder, torch_logits):
    onnx_network.export(torch_logits.network, SIZE, folder / "bisenet.onnx", HEADS)
    return folder / "bisenet.onnx"


@pytest.fixture
def model(exported):
    """The exported model, to be changed into what other people have."""
    return onnx.load(exported)


def test_other_names_are_taken_in_order(model, tmp_path, torch_logits):
    rename(model, {"image": "input.1", "logits": "output", "logits16": "1240", "logits32": "1246"})
    check_against_torch(save(model, tmp_path / "model.onnx"), torch_logits)


def test_known_names_are_taken_by_name(model, tmp_path, torch_logits):
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[::-1])
    check_against_torch(save(model, tmp_path / "model.onnx"), torch_logits)


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
        network = torch_network.BiSeNet(CLASSES, layout="yakhyo")
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
        (b"", "is empty (0 bytes); download it again"),
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
        f"{path}: takes {found}; expected one normalized image, float32 [1, 3, H, W] or [1, H, W, 3]"
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
