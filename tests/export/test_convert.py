"""The TFLite files against PyTorch: every input, output and precision, odd sizes, both backbones."""

import collections
import functools

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import ops
from scipy import special
from support.fresh_python import run_without
from support.graphs import WIDTHS
from support.networks import narrow
from support.ported import default_model, default_reference, normalized
from support.refusals import refused

import weight_port
from keras_bisenet import HEADS, preprocessing
from keras_bisenet.export import convert, deployment
from keras_bisenet.export.options import PRECISIONS
from keras_bisenet.export.quantization import calibration
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images
from keras_bisenet.utils.errors import ConversionError, ExportError
from weight_port import parity

# The ops that this network needs; any other (Flex, custom, TRANSPOSE, ...) would be a regression.
BUILTINS = {
    *("ADD", "ARG_MAX", "CAST", "CONCATENATION", "CONV_2D", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD"),
    *("RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX"),
}
# What a precision adds to them: the rewritten convolutions of float32, the weights in half precision of float16, the
# subsampling of dynamic, and the rounded photo and the float logits of int8.
ADDED_BUILTINS = {
    "float32": {"DEPTH_TO_SPACE", "SLICE", "SUB"},
    "float16": {"DEQUANTIZE"},
    "dynamic": {"DEPTHWISE_CONV_2D"},
    "int8": {"DEQUANTIZE", "QUANTIZE"},
}
SIZE = (96, 160)
FEW_PHOTOS = calibration.variations(SIZE, 4).images


@functools.cache
def exported(precision="float32"):
    """The trained network as a file of labels."""
    return convert.to_tflite(default_model(), SIZE, precision, photos=FEW_PHOTOS)


@functools.cache
def run_exported(precision):
    """What that file computes of the bundled photo, its logits too; and how far it is from PyTorch."""
    photo, content = images.read(images.BUNDLED, SIZE), exported(precision)
    model = flatbuffer.unpack(content)
    (index,) = model.subgraphs[0].outputs
    results = TFLiteRunner(content, inner={"logits": flatbuffer.find_scores(model, index)})(photo[np.newaxis])
    expected, *_ = default_reference()(normalized(photo))
    return results, parity.compare(expected, results["logits"], results["labels"])


# From 1024 numbers on the converter stores a kernel in 8 bits.
NARROW_WIDTHS = (16, 13, 18, 21, 16, 24, 5, 17)
# Largest and mean error of a logit, as fractions of the largest logit, of narrow networks with random weights.
NARROW_ERRORS = {"float32": (2e-5, 2e-5), "float16": (5e-3, 1e-3), "dynamic": (0.15, 0.03), "int8": (0.15, 0.03)}


@functools.cache
def narrow_model(backbone="resnet18"):
    return narrow(NARROW_WIDTHS, 5, backbone)


@functools.cache
def exported_narrow(precision, input_type, output, backbone="resnet18", size=(33, 47)):
    photos = [images.read(images.BUNDLED, size), *calibration.variations(size, 4).images]
    return convert.to_tflite(narrow_model(backbone), size, precision, input_type, output, photos)


def run_narrow(precision, input_type, output, backbone="resnet18", size=(33, 47)):
    """What such a file returns for the bundled photo, and what the network computes of it."""
    photo = images.read(images.BUNDLED, size)
    image = photo[np.newaxis] if input_type == "uint8" else normalized(photo)
    expected = narrow_model(backbone)(normalized(photo), training=False)
    results = TFLiteRunner(exported_narrow(precision, input_type, output, backbone, size))(image)
    return results, {head: ops.convert_to_numpy(logits) for head, logits in expected.items()}


def check_narrow(result, expected, precision):
    difference = parity.compare(expected, result)
    largest, mean = NARROW_ERRORS[precision]
    assert difference.relative < largest, difference
    assert difference.mean_abs < mean * difference.reference_max_abs, difference


def described(name, shape, dtype):
    return {"name": name, "shape": [1, *shape], "dtype": dtype}


def constants(content):
    """The constants of a file: list of (tensor, array)."""
    model = flatbuffer.unpack(content)
    return [
        (tensor, np.asarray(data).view(flatbuffer.DTYPES[tensor.type]).reshape(tensor.shape))
        for tensor in model.subgraphs[0].tensors
        if (data := model.buffers[tensor.buffer].data) is not None
    ]


def operators(content):
    """The ops of a file, in order: list of (name, input tensors, output tensors)."""
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    return [
        (
            flatbuffer.op_name(model, operator),
            [graph.tensors[index] for index in operator.inputs if index >= 0],
            [graph.tensors[index] for index in operator.outputs],
        )
        for operator in graph.operators
    ]


def dtype(tensor):
    return flatbuffer.DTYPES[tensor.type]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_labels_file(precision):
    content = exported(precision)
    description = flatbuffer.describe(content)
    assert description["inputs"] == [described("image", (*SIZE, 3), "uint8")]
    assert description["outputs"] == [described("labels", SIZE, "uint8")]
    assert set(description["ops"]) <= BUILTINS | ADDED_BUILTINS[precision]
    signatures = Interpreter(model_content=content).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["labels"]}}
    model = flatbuffer.unpack(content)
    assert len(model.subgraphs) == 1
    assert all(code.customCode is None for code in model.operatorCodes)
    # The converter's own metadata stay, none twice: a reader of the file would take either.
    half = ["reduced_precision_support"] if precision == "float16" else []
    names = [entry.name.decode() for entry in model.metadata]
    assert sorted(names) == ["CONVERSION_METADATA", "min_runtime_version", *half]
    results, difference = run_exported(precision)
    np.testing.assert_array_equal(results["labels"], results["logits"].argmax(-1))
    assert parity.TOLERANCES[precision].holds(difference), difference


def test_weights_are_rounded():
    """Else the files would not be of their precision."""
    float16, dynamic, int8 = (run_exported(precision)[1] for precision in ("float16", "dynamic", "int8"))
    assert float16.max_abs > 1e-4
    assert dynamic.max_abs > 1e-2
    # Logits reach 8. Measured were 0.015 to 0.024, depending on the photos that were calibrated on.
    assert 0.005 < int8.mean_abs < 0.04


def test_auxiliary_heads_are_not_in_the_file():
    names = {tensor.name.decode() for tensor in flatbuffer.unpack(exported()).subgraphs[0].tensors}
    assert not any("conv_out16" in name or "conv_out32" in name for name in names)
    # 13,148,672 weights of the main path in 4 bytes each, fewer than 360,000 more for speed, and little else.
    assert len(exported()) < 54_100_000


def outside_of_delegate(content):
    """How many ops of each kind LiteRT runs outside of XNNPACK, and how many parts XNNPACK's graph has."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()
    # Ops that XNNPACK took stay in the list, so follow the tensors from the outputs; a delegate's come last.
    producers = {index: node for node in nodes for index in node["outputs"]}
    found, open_tensors = {}, [output["index"] for output in interpreter.get_output_details()]
    while open_tensors:
        node = producers.get(open_tensors.pop())
        if node is not None and node["index"] not in found:
            found[node["index"]] = node["op_name"]
            open_tensors += node["inputs"].tolist()
    counts = collections.Counter(found.values())
    return counts.pop("DELEGATE"), dict(counts)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_delegate_takes_all_but_a_few_ops(precision):
    """XNNPACK has no RESIZE_NEAREST_NEIGHBOR, each of which parts its graph in two."""
    resizes = flatbuffer.describe(exported(precision))["ops"].get("RESIZE_NEAREST_NEIGHBOR", 0)
    assert resizes < 2 if precision == "float32" else resizes == 2
    found, outside = outside_of_delegate(exported(precision))
    assert found == resizes + 1
    assert outside.pop("RESIZE_NEAREST_NEIGHBOR", 0) == resizes
    # The photo becomes float32, or int8; the labels uint8.
    assert outside == ({"QUANTIZE": 1, "CAST": 1, "ARG_MAX": 1} if precision == "int8" else {"CAST": 2, "ARG_MAX": 1})


@pytest.mark.parametrize(
    ("precision", "input_type", "backbone", "size"),
    [
        *((precision, "uint8", "resnet18", (33, 47)) for precision in PRECISIONS),
        ("float32", "float32", "resnet34", (75, 130)),
        ("int8", "float32", "resnet34", (64, 97)),
        *(
            pytest.param(precision, "uint8", "resnet34", size, marks=pytest.mark.slow)
            for precision in PRECISIONS
            for size in ((75, 130), (64, 97))
        ),
    ],
)
def test_all_heads_of_every_precision_at_any_size(precision, input_type, backbone, size):
    description = flatbuffer.describe(exported_narrow(precision, input_type, "all_heads", backbone, size))
    assert description["inputs"] == [described("image", (*size, 3), input_type)]
    assert description["outputs"] == [described(head, (*size, 5), "float32") for head in HEADS]
    assert set(description["ops"]) <= BUILTINS | ADDED_BUILTINS[precision]
    results, expected = run_narrow(precision, input_type, "all_heads", backbone, size)
    for head in HEADS:
        check_narrow(results[head], expected[head], precision)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_logits_and_probabilities_of_a_normalized_photo(precision):
    """The probabilities are the softmax of the logits."""
    for output in ("logits", "probabilities"):
        description = flatbuffer.describe(exported_narrow(precision, "float32", output))
        assert description["outputs"] == [described(output, (33, 47, 5), "float32")]
        assert not {"CAST", "ARG_MAX"} & {*description["ops"]}
    logits, expected = run_narrow(precision, "float32", "logits")
    check_narrow(logits["logits"], expected["logits"], precision)
    probabilities, _ = run_narrow(precision, "float32", "probabilities")
    softmax = special.softmax(logits["logits"].astype(np.float64), -1)
    np.testing.assert_allclose(probabilities["probabilities"], softmax, rtol=0, atol=1e-5)


def test_float16_file():
    content = exported("float16")
    # Without the weights of the float32 file's rewritten convolutions.
    assert len(content) < 0.51 * len(exported())
    # Every kernel and bias is stored in half precision.
    assert set(flatbuffer.describe(content)["weights"]) == {"float16", "int32"}
    stored = [array for tensor, array in constants(content) if dtype(tensor) == "float16" and array.ndim == 4]
    kernels = folded_kernels(default_model())
    assert len(stored) == len(kernels) == 32
    for name, kernel in kernels.items():
        np.testing.assert_allclose(closest(stored, kernel), kernel, rtol=2**-11, atol=1e-7, err_msg=name)


def folded_kernels(model):
    """Name of a convolution of the main path -> its kernel `[O, h, w, I]` times what batch norm scales it by."""
    arrays = weight_port.keras_weights(model.variables)
    found = {}
    for path, kernel in arrays.items():
        name, _, weight = path.rpartition("/")
        if weight != "kernel" or name.startswith(("conv_out16", "conv_out32")):
            continue
        kernel = kernel.astype(np.float64)
        # `conv_out_conv` and `conv_out_bn`, `arm16_conv_atten` and `arm16_bn_atten`: the last one counts.
        norm = "bn".join(name.rsplit("conv", 1))
        if f"{norm}/gamma" in arrays:
            variance = arrays[f"{norm}/moving_variance"].astype(np.float64)
            kernel *= arrays[f"{norm}/gamma"] / np.sqrt(variance + 1e-5)
        if name == "backbone_conv1":
            kernel /= 255 * np.array(preprocessing.STD)[:, np.newaxis]
        found[name] = kernel.transpose(3, 0, 1, 2)
    return found


def closest(stored, kernel):
    """Of the arrays of a kernel's shape the closest."""
    return min(
        (array for array in stored if array.shape == kernel.shape), key=lambda array: np.abs(array - kernel).max()
    )


def test_dynamic_file():
    content = exported("dynamic")
    description = flatbuffer.describe(content)
    kernels = folded_kernels(default_model())
    assert len(content) < 0.26 * 4 * sum(kernel.size for kernel in kernels.values())
    assert "int8" not in description["activations"]
    # The convolution of pairs of columns has one column of zeros more.
    zeros = 64 * 7 * 3
    assert description["weights"]["int8"] == sum(kernel.size for kernel in kernels.values()) + zeros


def test_dynamic_has_no_strided_convolution_of_single_pixels():
    """LiteRT's GPU delegates lose the stride of a 1x1 convolution whose kernel is int8."""
    picks = []
    for name, (image, *weights), (result,) in operators(exported("dynamic")):
        if name == "CONV_2D" and tuple(weights[0].shape[1:3]) == (1, 1):
            assert tuple(image.shape[1:3]) == tuple(result.shape[1:3])
        if name == "DEPTHWISE_CONV_2D":
            picks.append((tuple(image.shape[1:3]), tuple(result.shape[1:3])))
    assert picks == [((24, 40), (12, 20)), ((12, 20), (6, 10)), ((6, 10), (3, 5))]
    ones = [array for tensor, array in constants(exported("dynamic")) if array.shape[:3] == (1, 1, 1)]
    assert ones and all((array == 1).all() for array in ones)


def test_every_8_bit_kernel_is_what_numpy_rounds():
    """Each output channel in 127 steps of its own to either side."""
    stored = [(tensor, array) for tensor, array in constants(exported("dynamic")) if dtype(tensor) == "int8"]
    dequantized = []
    for tensor, numbers in stored:
        assert tensor.quantization.quantizedDimension == 0
        assert not np.any(tensor.quantization.zeroPoint)
        assert np.abs(numbers).max() == 127
        values = numbers * np.asarray(tensor.quantization.scale, np.float64).reshape(-1, 1, 1, 1)
        if values.shape == (64, 7, 4, 6):
            # Pairs of columns, of which the last column is zero.
            values = values.reshape(64, 7, 8, 3)
            assert not values[:, :, 7].any()
            values = values[:, :, :7]
        dequantized.append(values)
    kernels = folded_kernels(default_model())
    assert len(dequantized) == len(kernels) == 32
    for name, kernel in kernels.items():
        values = closest(dequantized, kernel)
        steps = np.abs(kernel).max((1, 2, 3), keepdims=True) / 127
        rounded = np.round(kernel / np.where(steps, steps, 1)) * steps
        # What lies half-way between two steps may fall to either side in float32.
        assert (np.abs(values - rounded) <= 1e-3 * steps).mean() > 0.999, name
        assert (np.abs(values - kernel) <= steps * 0.5001).all(), name


@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_int8_computes_in_whole_numbers_up_to_the_last_convolution(input_type):
    if input_type == "uint8":
        content, heads, behind = exported("int8"), 1, {("ARG_MAX", "int32"): 1, ("CAST", "uint8"): 1}
    else:
        content = exported_narrow("int8", "float32", "all_heads", "resnet34", (64, 97))
        heads, behind = len(HEADS), {}
    found = collections.Counter((name, dtype(output)) for name, _, (output,) in operators(content))
    of_heads = {(name, "float32"): heads for name in ("DEQUANTIZE", "CONV_2D", "RESIZE_BILINEAR")}
    assert {key: count for key, count in found.items() if key[1] != "int8"} == of_heads | behind
    # The photo is rounded, and nothing is rounded once more before the concatenation.
    assert flatbuffer.describe(content)["ops"]["QUANTIZE"] == 1


@pytest.mark.slow
def test_int8_file_of_a_large_photo_is_small():
    size = (512, 512)
    content = convert.to_tflite(default_model(), size, "int8", photos=calibration.variations(size, 1).images)
    assert len(content) < 13_450_000


@pytest.mark.parametrize(
    "precision", ["float32", "int8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float16", "dynamic"))]
)
def test_files_of_the_same_model_are_the_same(precision):
    """In one process too, whatever else has been built in it; and if no photos are given, the bundled one is used."""
    size, model = (32, 48), narrow(WIDTHS, 5)
    content = convert.to_tflite(model, size, precision)
    photos = calibration.variations(size).images
    assert convert.to_tflite(narrow(WIDTHS, 5), size, precision, photos=photos) == content


@pytest.mark.slow
def test_int8_depends_on_the_photos():
    size, scales = (32, 48), []
    for seed in (0, 1):
        photos = calibration.variations(size, 3, seed).images
        file = operators(convert.to_tflite(narrow(WIDTHS, 5), size, "int8", photos=photos))
        scales.append([tensor.quantization.scale.tolist() for _, _, (tensor,) in file if dtype(tensor) == "int8"])
    assert scales[0] != scales[1]


@pytest.mark.parametrize("channels", [[3], slice(None)], ids=["one channel", "all channels"])
def test_int8_of_a_dead_convolution(channels):
    """Its kernel is 0: what it computes is 0 for any photo, or what batch norm makes of that."""
    size, model = (48, 64), narrow(WIDTHS, 5)
    photo = images.read(images.BUNDLED, size)
    for name, of_norm in (
        ("backbone_layer1_0_conv1", True),
        ("backbone_layer2_1_conv2", False),
        ("backbone_layer3_0_downsample_conv", True),
        ("backbone_layer4_0_conv1", False),
    ):
        norm = model.get_layer(name.replace("conv", "bn"))
        for variable in (model.get_layer(name).kernel, *((norm.beta, norm.moving_mean) if of_norm else ())):
            array = variable.numpy()
            array[..., channels] = 0
            variable.assign(array)
    content = convert.to_tflite(model, size, "int8", "uint8", "logits", [photo])
    result = TFLiteRunner(content)(photo[np.newaxis])["logits"]
    check_narrow(result, ops.convert_to_numpy(model(normalized(photo), training=False)["logits"]), "int8")


# What cannot be exported.


@pytest.mark.parametrize(
    ("arguments", "offenders"),
    [
        ({"precision": "int4"}, ["'int4'", "float32, float16, dynamic, int8"]),
        ({"precision": "int8", "image_size": (31, 64)}, ["31x64", "32"]),
        ({"output": "masks"}, ["'masks'", "labels, logits, probabilities, scores, all_heads"]),
        ({"input_type": "int8"}, ["'int8'", "uint8, float32"]),
        ({"image_size": (64, 31)}, ["64x31", "32"]),
    ],
)
def test_bad_arguments(arguments, offenders):
    with refused(ExportError, *offenders):
        convert.to_tflite(narrow_model(), **{"image_size": (64, 64), **arguments})


def test_too_many_classes_for_labels():
    with pytest.raises(ExportError, match="257"):
        convert.to_tflite(narrow((4,) * 8, 257), (64, 64))


def small_network(*layers):
    """A photo, a convolution, these layers, and a convolution to three classes."""
    image = x = keras.Input((32, 32, 3))
    for layer in (keras.layers.Conv2D(4, 3, padding="same", name="first"), *layers):
        x = layer(x)
    return keras.Model(image, {"logits": keras.layers.Conv2D(3, 1, name="last")(x)})


class InverseError(keras.layers.Layer):
    """An op that TFLite does not have."""

    def call(self, inputs):
        return ops.erfinv(ops.tanh(inputs))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_the_converter_refuses(capfd, precision):
    image = keras.Input((32, 32, 3))
    logits = InverseError(name="inverse_error")(keras.layers.Conv2D(3, 1)(image))
    model = keras.Model(image, {"logits": logits})
    with refused(ConversionError, precision) as error:
        convert.to_tflite(model, (32, 32), precision, photos=calibration.variations((32, 32), 1).images)
    assert isinstance(error.value, ExportError)
    assert "Erfinv" in error.value.log
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.UpSampling2D(2, name="strange"),
        keras.layers.Softmax(name="strange"),
        keras.layers.DepthwiseConv2D(3, name="strange"),
        keras.layers.Conv2D(4, 3, activation="tanh", name="strange"),
        keras.layers.Conv2D(4, 3, dilation_rate=2, name="strange"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_int8_names_a_layer_that_it_has_no_rule_for(layer):
    with pytest.raises(ExportError, match="strange"):
        convert.to_tflite(small_network(layer), (32, 32), "int8", photos=calibration.variations((32, 32), 1).images)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "int8"])
def test_other_precisions_take_such_layers(precision):
    layers = (keras.layers.Conv2D(4, 3, activation="tanh", dilation_rate=2), keras.layers.UpSampling2D(2))
    model = small_network(*layers, keras.layers.Softmax())
    photo = images.read(images.BUNDLED, (32, 32))
    content = convert.to_tflite(model, (32, 32), precision, output="logits")
    result = TFLiteRunner(content)(photo[np.newaxis])["logits"]
    expected = ops.convert_to_numpy(model(normalized(photo), training=False)["logits"])
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-3)


EXPORT = """
import os
os.environ["KERAS_BACKEND"] = {backend!r}
from keras_bisenet import BiSeNet
from keras_bisenet.export import convert, saved_model
from keras_bisenet.utils.errors import ExportError
for export, *folder in ((convert.to_tflite,), (saved_model.write, {folder!r})):
    try:
        export(BiSeNet(width=0.0625), *folder, (32, 32))
    except ExportError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_an_export_needs_tensorflow(tmp_path, backend):
    pytest.importorskip(backend, reason=f"needs the {backend} backend: pip install {backend}")
    messages = run_without(EXPORT.format(backend=backend, folder=str(tmp_path))).splitlines()
    assert len(messages) == 2
    for message in messages:
        assert f"'{backend}'" in message
        assert "KERAS_BACKEND=tensorflow" in message
