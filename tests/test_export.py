"""The TFLite files against PyTorch: every input, output and precision, odd sizes, both backbones."""

import numpy as np
import pytest
from conftest import DEFAULT_CHECKPOINT, random_state
from keras import ops

import weight_port
from keras_bisenet import HEADS, BiSeNet, normalize
from keras_bisenet.export import flatbuffer, graph, tflite
from keras_bisenet.export.errors import ExportError
from keras_bisenet.inference import images
from keras_bisenet.inference.runner import TFLiteRunner
from weight_port import parity, torch_reference

# The ops that this network needs; any other (Flex, custom, TRANSPOSE, ...) would be a regression.
BUILTINS = {
    *("ADD", "ARG_MAX", "CAST", "CONCATENATION", "CONV_2D", "DEQUANTIZE", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL"),
    *("PAD", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX"),
}
SIZE = (96, 160)


class Network:
    def __init__(self, state):
        architecture = weight_port.recognise(state)
        self.model = BiSeNet(architecture.num_classes, architecture.backbone)
        weight_port.apply(state, self.model.variables, architecture)
        self.reference = torch_reference.Reference(state, architecture)

    def expected(self, photo):
        return dict(zip(HEADS, self.reference(inputs(photo)), strict=True))


def inputs(photo):
    return ops.convert_to_numpy(normalize(photo[np.newaxis]))


@pytest.fixture(scope="module")
def trained():
    return Network(weight_port.load(DEFAULT_CHECKPOINT))


@pytest.fixture(scope="module")
def photo():
    return images.read(images.BUNDLED, SIZE)


@pytest.fixture(scope="module")
def labels_file(trained):
    return tflite.convert(trained.model, SIZE)


def test_labels_file(trained, photo, labels_file):
    description = flatbuffer.describe(labels_file)
    assert description["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "uint8"}]
    assert description["outputs"] == [{"name": "labels", "shape": [1, *SIZE], "dtype": "uint8"}]
    assert set(description["ops"]) <= BUILTINS
    assert description["ops"]["CONV_2D"] == 32
    results = TFLiteRunner(flatbuffer.expose(labels_file, "logits"))(photo[np.newaxis])
    difference = parity.compare(trained.expected(photo)["logits"], results["logits"], results["labels"])
    assert parity.TOLERANCES["float32"].holds(difference), difference


def test_exposing_a_tensor_changes_nothing_else(photo, labels_file):
    exposed = flatbuffer.expose(labels_file, "logits")
    assert abs(len(exposed) - len(labels_file)) < 2000
    results = TFLiteRunner(exposed)(photo[np.newaxis])
    np.testing.assert_array_equal(results["labels"], TFLiteRunner(labels_file)(photo[np.newaxis])["labels"])
    np.testing.assert_array_equal(results["labels"], results["logits"].argmax(-1))
    assert flatbuffer.expose(labels_file, "labels") == labels_file
    with pytest.raises(KeyError):
        flatbuffer.expose(labels_file, "no such tensor")


def test_signature_has_the_same_names(photo, labels_file):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=labels_file)
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["image"], "outputs": ["labels"]}}
    labels = interpreter.get_signature_runner("serving_default")(image=photo[np.newaxis])["labels"]
    np.testing.assert_array_equal(labels, TFLiteRunner(labels_file)(photo[np.newaxis])["labels"])


def test_auxiliary_heads_are_not_in_the_file(labels_file):
    names = {tensor.name.decode() for tensor in flatbuffer.unpack(labels_file).subgraphs[0].tensors}
    assert not any("conv_out16" in name or "conv_out32" in name for name in names)
    # 13,148,672 weights of the main path in 4 bytes each, and little else.
    assert len(labels_file) < 52_700_000


@pytest.mark.parametrize("output", ["logits", "probabilities"])
def test_float_outputs_of_a_normalised_input(trained, photo, output):
    content = tflite.convert(trained.model, SIZE, input_type="float32", output=output)
    description = flatbuffer.describe(content)
    assert description["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "float32"}]
    assert description["outputs"] == [{"name": output, "shape": [1, *SIZE, 19], "dtype": "float32"}]
    assert set(description["ops"]) <= BUILTINS - {"CAST", "ARG_MAX"}
    result = TFLiteRunner(content)(inputs(photo))[output]
    expected = trained.expected(photo)["logits"].astype(np.float64)
    if output == "probabilities":
        expected = np.exp(expected - expected.max(-1, keepdims=True))
        expected /= expected.sum(-1, keepdims=True)
        np.testing.assert_allclose(result.sum(-1), 1, rtol=0, atol=1e-5)
    difference = parity.compare(expected, result)
    assert parity.TOLERANCES["float32"].holds(difference), difference


@pytest.mark.parametrize(
    ("backbone", "layout", "size"), [("resnet18", "yakhyo", (133, 97)), ("resnet34", "zllrunning", (161, 65))]
)
def test_all_heads_at_odd_sizes(backbone, layout, size):
    network = Network(random_state(backbone, layout, num_classes=7))
    content = tflite.convert(network.model, size, output="all_heads")
    description = flatbuffer.describe(content)
    assert [entry["name"] for entry in description["outputs"]] == list(HEADS)
    assert set(description["ops"]) <= BUILTINS
    photo = images.read(images.BUNDLED, size)
    results = TFLiteRunner(content)(photo[np.newaxis])
    for head, expected in network.expected(photo).items():
        difference = parity.compare(expected, results[head])
        assert parity.TOLERANCES["float32"].holds(difference), (head, difference)


def test_float16_file(trained, photo, labels_file):
    content = tflite.convert(trained.model, SIZE, "float16")
    assert len(content) < 0.51 * len(labels_file)
    description = flatbuffer.describe(content)
    assert set(description["ops"]) <= BUILTINS
    # Weights are stored in half precision; the interface stays that of the float32 file.
    assert description["inputs"] + description["outputs"] == [
        {"name": "image", "shape": [1, *SIZE, 3], "dtype": "uint8"},
        {"name": "labels", "shape": [1, *SIZE], "dtype": "uint8"},
    ]
    results = TFLiteRunner(flatbuffer.expose(content, "logits"))(photo[np.newaxis])
    difference = parity.compare(trained.expected(photo)["logits"], results["logits"], results["labels"])
    assert parity.TOLERANCES["float16"].holds(difference), difference
    assert difference.max_abs > 1e-4, "no rounding at all: these are not half-precision weights"


def test_dynamic_file(trained, photo, labels_file):
    content = tflite.convert(trained.model, SIZE, "dynamic")
    assert len(content) < 0.26 * len(labels_file)
    description, float_description = flatbuffer.describe(content), flatbuffer.describe(labels_file)
    assert description["ops"] == float_description["ops"]
    assert description["activations"] == float_description["activations"]
    kernels = [
        array
        for key, array in weight_port.load(DEFAULT_CHECKPOINT).items()
        if array.ndim == 4 and not key.startswith(("conv_out16.", "conv_out32."))
    ]
    assert description["weights"]["int8"] == sum(kernel.size for kernel in kernels)
    # One bias a channel, the mean of the photos, and the 1 that is added to the fusion's gate.
    assert description["weights"]["float32"] == 4 * (sum(len(kernel) for kernel in kernels) + 3 + 1)
    results = TFLiteRunner(flatbuffer.expose(content, "logits"))(photo[np.newaxis])
    difference = parity.compare(trained.expected(photo)["logits"], results["logits"], results["labels"])
    assert parity.TOLERANCES["dynamic"].holds(difference), difference
    assert difference.max_abs > 1e-2, "no rounding at all: these are not 8-bit kernels"


def test_every_quantised_kernel_is_within_half_a_step_per_channel(trained):
    """The whole numbers times their scales are the folded kernels, to half a step of each channel's own scale."""
    models = [
        flatbuffer.unpack(tflite.convert(trained.model, (64, 64), precision)) for precision in ("float32", "dynamic")
    ]
    constants = []
    for model in models:
        (file,) = model.subgraphs
        constants.append({tensor.name: (tensor, model.buffers[tensor.buffer].data) for tensor in file.tensors})
    kernels = [name for name in constants[0] if name.endswith(b"_kernel")]
    assert len(kernels) == 32
    for name in kernels:
        tensor, data = constants[0][name]
        exact = data.view(np.float32).reshape(tensor.shape)
        tensor, data = constants[1][name]
        scale = np.asarray(tensor.quantization.scale)[:, np.newaxis, np.newaxis, np.newaxis]
        rounded = data.view(np.int8).reshape(tensor.shape)
        assert tensor.quantization.quantizedDimension == 0
        assert np.abs(rounded).max() <= 127
        assert (np.abs(rounded * scale - exact) <= scale * 0.5001).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "precision is 'int4'; expected one of float32, float16, dynamic"),
        ({"output": "masks"}, "output is 'masks'; expected one of labels, logits, probabilities, all_heads"),
        ({"input_type": "int8"}, "input is 'int8'; expected one of uint8, float32"),
        ({"image_size": (64, 31)}, "image size is 64x31; each side must be at least 32"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ExportError) as error:
        tflite.convert(BiSeNet(2), **{"image_size": (64, 64), **arguments})
    assert str(error.value) == message


def test_too_many_classes_for_labels():
    with pytest.raises(ExportError) as error:
        graph.build(BiSeNet(257), (64, 64))
    assert str(error.value) == "257 classes do not fit into uint8 labels; use the output 'logits'"
