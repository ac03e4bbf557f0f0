"""Where and how an int8 network is rounded, against numpy and PyTorch; and that its file computes the same."""

import collections
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from scipy import special
from support.graphs import OPERATIONS, WIDTHS, compute, measure, optimized
from support.networks import narrow
from support.ported import default_model
from torch.nn import functional

from keras_bisenet import HEADS, preprocessing
from keras_bisenet.export import convert, deployment
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import ColorPadding2D, FixedConv2D, Rounding
from keras_bisenet.export.quantization import calibration, quantize, rounding_points
from keras_bisenet.export.quantization.calibration import Statistic
from keras_bisenet.export.quantization.equalization import equalize
from keras_bisenet.export.quantization.quantize import Scale, round_kernel
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images
from weight_port import parity

SIZE = (64, 96)
# A part of a step. Float32 sums may put what lies halfway to either side.
HALF = 0.505


# A network equalized in float, the statistics of that, and the same network rounded.
Rounded = collections.namedtuple("Rounded", "model statistics quantized")
NETWORKS = pytest.mark.parametrize(
    ("backbone", "size", "input_type", "output"),
    [
        ("resnet18", SIZE, "uint8", "logits"),
        pytest.param("resnet34", (75, 34), "uint8", "all_heads", marks=pytest.mark.slow),
        ("resnet18", (33, 47), "float32", "all_heads"),
    ],
)


@functools.cache
def rounded(backbone="resnet18", size=SIZE, input_type="uint8", output="logits"):
    model = optimized(narrow(WIDTHS, 5, backbone), size, output, input_type)
    model, statistics = equalize(model, measure(model, calibration.variations(size, 4).images))
    return Rounded(model, statistics, quantize.quantize(model, statistics))


@functools.cache
def exported(backbone, size, input_type, output):
    """The file of the same network, made with the same photos."""
    photos = calibration.variations(size, 4).images
    return convert.to_tflite(narrow(WIDTHS, 5, backbone), size, "int8", input_type, output, photos)


def photo(model):
    """A photo of a model's size that was not calibrated on, as the model takes it."""
    (image,) = calibration.variations(model.input.shape[1:3], 1, seed=9).images
    return deployment.encode(image, model)


def inner(model, image):
    """The graph of a model, and name of each node -> what it computes."""
    copy, graph = rewriting.read(model)
    names = [node.name for node in graph.nodes]
    results = keras.Model(copy.input, [graph.named(name).output for name in names])(image, training=False)
    return graph, {name: keras.ops.convert_to_numpy(x) for name, x in zip(names, results, strict=True)}


def torch_conv(conv, x):
    """What PyTorch computes with the kernel and bias of a `FixedConv2D`, float64."""
    weights = torch.from_numpy(conv.kernel.transpose(3, 2, 0, 1).copy())
    padding = conv.kernel.shape[0] // 2 if conv.padding == "same" else 0
    x = torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)
    result = functional.conv2d(x, weights, torch.from_numpy(conv.bias), conv.strides, padding)
    return result.permute(0, 2, 3, 1).numpy()


def color_pad(padding, x):
    x = np.pad(x, ((0, 0), (padding.amount,) * 2, (padding.amount,) * 2, (0, 0)), constant_values=np.nan)
    return np.where(np.isnan(x), padding.color, x)


# Scales.


@pytest.mark.parametrize(
    ("low", "high", "step", "zero"),
    [
        (0.0, 255.0, 1.0, 0),
        (-128.0, 127.0, 1.0, 128),
        (-63.75, 191.25, 1.0, 64),
        (0.0, 0.0, 1.0, 0),
        (51.0, 127.5, 0.5, 0),
        (-127.5, -51.0, 0.5, 255),
    ],
    ids=["positive", "both", "zero between two steps", "nothing but zero", "far above zero", "far below zero"],
)
def test_scale(low, high, step, zero):
    layer = Scale(low, high).rounding("x", "float32")
    assert (layer.low, layer.high) == (-zero * step, (255 - zero) * step)


def test_a_scale_holds_its_ends_to_half_a_step_and_zero_exactly():
    random = np.random.default_rng(0)
    for magnitude in (1e-6, 1.0, 1e6):
        for low, high in np.sort(random.normal(size=(200, 2)) * magnitude):
            layer = Scale(low, high).rounding("x", "float32")
            step = (layer.high - layer.low) / 255
            assert layer.low <= 0 <= layer.high
            assert abs(layer.low / step - round(layer.low / step)) < 1e-6
            assert abs(layer.low - min(low, 0)) <= 0.5001 * step
            assert abs(layer.high - max(high, 0)) <= 0.5001 * step


def test_each_channel_of_a_kernel_has_its_own_step():
    kernel = np.random.default_rng(0).normal(size=(3, 5, 4, 4)) * [1e-3, 1.0, 1e3, 0.0]
    numbers, steps = round_kernel(kernel)
    assert steps.dtype == np.float32
    np.testing.assert_array_equal(np.abs(numbers).max((0, 1, 2)), [127, 127, 127, 0])
    np.testing.assert_allclose(steps, [*(np.abs(kernel).max((0, 1, 2)) / 127)[:3], 1.0], rtol=1e-6)
    assert (np.abs(numbers * steps - kernel) <= 0.5001 * steps).all()
    _, wider = round_kernel(kernel, least=np.array([1.0, 0.0, 0.0, 2.0]))
    np.testing.assert_allclose(wider, [1.0, *steps[1:3], 2.0])


# Rounding points.


@pytest.mark.parametrize(
    ("backbone", "input_type", "output"),
    [("resnet18", "uint8", "labels"), ("resnet18", "float32", "all_heads"), ("resnet34", "uint8", "all_heads")],
)
def test_rounding_points(backbone, input_type, output):
    """Rounded are the inputs of convolutions, sums, products, sigmoids, means and concatenations, and nothing else."""
    model = optimized(narrow(WIDTHS, 5, backbone), SIZE, output, input_type)
    _, graph = rewriting.read(model)
    points = rounding_points.find(graph)
    heads = HEADS if output == "all_heads" else HEADS[:1]
    assert points.final == {f"{head.replace('logits', 'conv_out')}_logits" for head in heads}
    assert points.image == (input_type == "float32")
    assert {graph.named(name).kind for name in points.photos} == ({"Cast"} if input_type == "uint8" else set())
    assert len(points.photos) == (input_type == "uint8")
    rounded_convs = {name for name in points.tensors if rounding_points.is_conv(graph.named(name))}
    # A convolution goes on through a ReLU, or it is one side of a sum, or what a sigmoid or another layer reads.
    relus = {graph.producer(node.inputs[0]).name for node in graph.nodes if node.kind == "Relu"}
    every_conv = {node.name for node in graph.nodes if rounding_points.is_conv(node)}
    assert rounded_convs == every_conv - relus - points.final
    # Sums go on through a ReLU in the backbone, and as they are in the context path.
    for node in graph.nodes:
        behind_head = node.kind in ("AlignCornersResize", "ArgMax", "ColorPadding2D", "ZeroPadding2D", "MaxPooling2D")
        if behind_head or node.kind == "NearestResize" or node.name in points.final | points.photos:
            assert (node.name in points.tensors) == (node.name in points.photos)
        elif node.name in relus:
            assert node.name not in points.tensors
    joined = {name for pair in points.joined for name in pair}
    (whole,) = (node for node in graph.nodes if node.kind == "Concatenate")
    assert joined == {whole.name, *(rounding_points.source(graph, x).name for x in whole.inputs)}


def test_the_rounded_network():
    network = rounded()
    _, graph = rewriting.read(network.model)
    points = rounding_points.find(graph)
    layers = {layer.name: layer for layer in network.quantized.layers}
    roundings = {name: layer for name, layer in layers.items() if isinstance(layer, Rounding)}
    assert roundings.keys() == {f"{name}_rounded" for name in points.tensors}
    for name in points.tensors:
        layer, kind = roundings[f"{name}_rounded"], graph.named(name).kind
        if name in points.photos:
            # Whole numbers already.
            assert (layer.low, layer.high) == (0, 255)
        elif kind == "Sigmoid":
            assert (layer.low, layer.high) == (0, 255 / 256)
        else:
            step = (layer.high - layer.low) / 255
            assert layer.low <= min(network.statistics[name].low.min(), 0) + HALF * step
            assert layer.high >= network.statistics[name].high.max() - HALF * step
    joined = [roundings[f"{name}_rounded"] for pair in points.joined for name in pair]
    assert len({(layer.low, layer.high) for layer in joined}) == 1
    convs = {name: layer for name, layer in layers.items() if isinstance(layer, FixedConv2D)}
    assert {name for name, conv in convs.items() if conv.steps is None} == points.final
    for name, conv in convs.items():
        if name in points.final:
            np.testing.assert_array_equal(conv.kernel, network.model.get_layer(name).kernel)
        else:
            numbers = conv.kernel / conv.steps
            np.testing.assert_allclose(numbers, np.round(numbers), rtol=0, atol=1e-6)
            assert np.abs(numbers).max() <= 127 + 1e-6


def test_a_normalized_photo_is_rounded_over_the_range_of_any_photo():
    layer = rounded(input_type="float32").quantized.get_layer("image_rounded")
    ends = [preprocessing.normalize(np.full((1, 1, 1, 3), value), "float64").numpy() for value in (0, 255)]
    step = (layer.high - layer.low) / 255
    assert abs(layer.low - ends[0].min()) <= HALF * step
    assert abs(layer.high - ends[1].max()) <= HALF * step


@NETWORKS
def test_every_operation_rounds_nothing_but_its_result(backbone, size, input_type, output):
    """What each node computes of what it reads is what PyTorch or numpy computes of it; a rounding adds half a step."""
    network = rounded(backbone, size, input_type, output)
    # A rounded network takes the values of a photo in float32.
    image = photo(network.model).astype(np.float32)
    graph, results = inner(network.quantized, image)
    checked = 0
    for node in graph.nodes:
        inputs = [image if graph.producer(x) is None else results[graph.producer(x).name] for x in node.inputs]
        layer, atol = node.operation, 0.0
        if isinstance(layer, FixedConv2D):
            expected = torch_conv(layer, inputs[0])
        elif isinstance(layer, Rounding):
            step = (layer.high - layer.low) / 255
            expected, atol = inputs[0].clip(layer.low, layer.high), HALF * step
            numbers = results[node.name] / step
            np.testing.assert_allclose(numbers, np.round(numbers), rtol=0, atol=2e-3)
        elif isinstance(layer, ColorPadding2D):
            expected = color_pad(layer, inputs[0])
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            expected = np.pad(inputs[0], ((0, 0), *layer.padding, (0, 0)))
        elif node.kind in ("Cast", "AlignCornersResize"):
            continue
        else:
            constants = [np.asarray(each) for each in node.constants if node.kind in ("Add", "Multiply")]
            expected = OPERATIONS[node.kind](*(x.astype(np.float64) for x in inputs), *constants)
        atol += 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(results[node.name], expected, rtol=0, atol=atol, err_msg=node.name)
        checked += 1
    assert checked > 100


# Bias correction.


@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_rounding_a_kernel_leaves_the_mean_of_what_it_computes(input_type):
    """The bias takes back (kernel - rounded kernel) * mean of the input, for the mean over the photos calibrated on."""
    network = rounded(input_type=input_type)
    photos = [deployment.encode(image, network.model) for image in calibration.variations(SIZE, 4).images]
    runs = [inner(network.model, image)[1] for image in photos]
    _, graph = rewriting.read(network.model)
    checked = 0
    for node in graph.nodes:
        if not rounding_points.is_conv(node) or network.quantized.get_layer(node.name).steps is None:
            continue
        source = graph.producer(node.inputs[0])
        if source is not None and source.kind in ("ZeroPadding2D", "ColorPadding2D"):
            source = graph.producer(source.inputs[0])
        mean = np.zeros(node.inputs[0].shape[-1])
        if source is not None:
            mean = np.mean([run[source.name].astype(np.float64).mean((0, 1, 2)) for run in runs], axis=0)
        conv, quantized = node.operation, network.quantized.get_layer(node.name)
        expected = ((conv.kernel - quantized.kernel) * mean[:, np.newaxis]).sum((0, 1, 2))
        tolerance = 1e-5 * (np.abs(conv.kernel) * np.abs(mean)[:, np.newaxis]).sum((0, 1, 2)).max() + 1e-12
        np.testing.assert_allclose(quantized.bias - conv.bias, expected, rtol=0, atol=tolerance, err_msg=node.name)
        checked += np.abs(expected).max() > 0
    assert checked >= 29


# The file.


def small_network(kernel, bias, input_type="uint8"):
    """A photo of 32x48, a convolution with this kernel and bias, a ReLU, and float logits that repeat its channels."""
    channels = kernel.shape[3]
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(channels, kernel.shape[:2], padding="same", name="conv")(image)
    logits = keras.layers.Conv2D(channels, 1, use_bias=False, name="last")(keras.ops.relu(x))
    model = keras.Model(image, {"logits": logits})
    model.get_layer("conv").set_weights([kernel, bias])
    model.get_layer("last").set_weights([np.eye(channels)[np.newaxis, np.newaxis]])
    return optimized(model, (32, 48), "logits", input_type)


RESOLVERS = pytest.mark.parametrize(
    "resolver", [OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES], ids=["xnnpack", "builtin"]
)


def run(model, image, resolver, input_type="uint8"):
    """What the file of a rounded network computes: logits."""
    content = to_file(model, input_type)
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
    return interpreter.get_signature_runner()(image=image)["logits"]


def input_rounding(model, quantized):
    """The layer that rounds what the convolution of a small network reads."""
    _, graph = rewriting.read(model)
    producer = graph.producer(graph.named("conv").inputs[0])
    return quantized.get_layer("image_rounded" if producer is None else f"{producer.name}_rounded")


def to_file(model, input_type="uint8"):
    """A `.tflite` file of a rounded network with the output `logits`."""
    spec = tf.TensorSpec(model.input.shape, model.input.dtype, "image")
    compute = tf.function(lambda image: model(image, training=False)["logits"], input_signature=[spec])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([compute.get_concrete_function()])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = tf.as_dtype(input_type)
    file = flatbuffer.unpack(converter.convert())
    flatbuffer.set_signature(file, ["image"], ["logits"])
    return flatbuffer.pack(file)


def dequantized(tensor, numbers):
    """Real numbers that a tensor of a file holds, float64."""
    if flatbuffer.DTYPES[tensor.type] == "float32" or tensor.quantization.scale is None:
        return numbers
    scale, zero_point = (np.asarray(x, np.float64) for x in (tensor.quantization.scale, tensor.quantization.zeroPoint))
    sides = (-1, *[1] * (numbers.ndim - 1)) if scale.size > 1 else ()
    return (numbers - zero_point.reshape(sides)) * scale.reshape(sides)


def conv_2d(options, x, kernel, bias):
    padding = "same" if options.padding == schema.Padding.SAME and kernel.shape[1] > 1 else "valid"
    strides = (options.strideH, options.strideW)
    return torch_conv(FixedConv2D(kernel.transpose(1, 2, 3, 0), bias, strides, padding, name="conv"), x)


# Op of a file -> what it computes of its dequantized inputs, float64.
FILE_OPERATIONS = {
    "ADD": lambda _, x, y: x + y,
    "CONCATENATION": lambda options, *parts: np.concatenate(parts, options.axis),
    "CONV_2D": conv_2d,
    "LOGISTIC": lambda _, x: special.expit(x),
    "MAX_POOL_2D": lambda _, x: OPERATIONS["MaxPooling2D"](x),
    "MEAN": lambda _, x, axes: x.mean(tuple(axes), keepdims=True),
    "MUL": lambda _, x, y: x * y,
    "PAD": lambda _, x, amounts: np.pad(x, amounts),
    "QUANTIZE": lambda _, x: x,
    "RESHAPE": lambda _, x, shape: x.reshape(shape),
    "RESIZE_NEAREST_NEIGHBOR": lambda _, x, size: OPERATIONS["NearestResize"](x, np.empty((1, *size, 1))),
}
# How far off a result may be, in its steps: LiteRT's kernels scale by fixed-point factors.
STEPS_OFF = {"ADD": 1.01, "LOGISTIC": 1.01, "MEAN": 1.01, "MUL": 1.01, "CONV_2D": 0.51}


@RESOLVERS
@NETWORKS
def test_every_op_of_a_file_rounds_nothing_but_its_result(backbone, size, input_type, output, resolver):
    content = exported(backbone, size, input_type, output)
    image = photo(rounded(backbone, size, input_type, output).model)
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=True
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    file = flatbuffer.unpack(content)
    (graph,) = file.subgraphs
    checked = set()
    for operator in graph.operators:
        result = graph.tensors[operator.outputs[0]]
        if flatbuffer.DTYPES[result.type] != "int8":
            continue
        inputs = []
        for index in operator.inputs:
            tensor = graph.tensors[index]
            stored = file.buffers[tensor.buffer].data
            numbers = interpreter.get_tensor(int(index)) if stored is None else np.asarray(stored)
            inputs.append(dequantized(tensor, numbers.view(flatbuffer.DTYPES[tensor.type]).reshape(tensor.shape)))
        name = flatbuffer.op_name(file, operator)
        low, high = dequantized(result, np.array([-128.0, 127.0]))
        expected = FILE_OPERATIONS[name](operator.builtinOptions, *inputs).clip(low, high)
        found = dequantized(result, interpreter.get_tensor(int(operator.outputs[0])))
        off = np.abs(found - expected).max() / result.quantization.scale[0]
        assert off <= STEPS_OFF.get(name, HALF), (name, result.name, off)
        checked.add(name)
    assert checked >= FILE_OPERATIONS.keys() - {"QUANTIZE"}


@pytest.mark.slow
def test_logits_of_the_rounded_network_are_those_of_its_file():
    """Of a trained network; the one computes in float what the other computes on whole numbers."""
    size = (96, 160)
    photos = calibration.variations(size, 4).images
    deployed = deployment.deploy(default_model(), size, output="logits")
    image = images.read(images.BUNDLED, size)[np.newaxis]
    exact = compute(deployed, image)["logits"]
    expected = compute(convert.optimize(deployed, "int8", photos), image.astype(np.float32))["logits"]
    result = TFLiteRunner(convert.to_tflite(default_model(), size, "int8", "uint8", "logits", photos))(image)["logits"]
    difference, rounding = parity.compare(expected, result), parity.compare(exact, expected)
    # A result that falls to the next step in one of them changes what follows. Seen: 0.013 of 0.015, and 99.7 %.
    assert difference.mean_abs < rounding.mean_abs, (difference, rounding)
    assert difference.agreement > 0.99, difference


@RESOLVERS
@pytest.mark.parametrize("size", [1e-12, 0.0])
def test_a_bias_does_not_overflow_where_the_kernel_is_tiny(size, resolver):
    """A batch norm may leave a channel little but its bias, which is counted in steps of the kernel."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)) / 100
    kernel[..., :3] *= size
    model = small_network(kernel, np.array([700.0, 900.0, 0.0, 5.0]))
    image = photo(model)
    expected = compute(model, image)["logits"]
    quantized = quantize.quantize(model, measure(model, calibration.variations((32, 48), 2).images))
    result = run(quantized, image, resolver)
    np.testing.assert_allclose(result, expected, rtol=0, atol=HALF * 900 / 255 + 1e-2 * np.abs(expected[..., 3]).max())
    file = flatbuffer.unpack(to_file(quantized))
    (graph,) = file.subgraphs
    # The last convolution is float.
    first, _ = (operator for operator in graph.operators if flatbuffer.op_name(file, operator) == "CONV_2D")
    tensor = graph.tensors[first.inputs[2]]
    numbers, steps = np.asarray(file.buffers[tensor.buffer].data).view(np.int32), tensor.quantization.scale
    assert steps.min() > 0
    assert np.abs(numbers.astype(np.int64)).max() <= 1.001 * 2**30
    expected_bias = quantized.get_layer("conv").bias
    assert (np.abs(numbers * steps.astype(np.float64) - expected_bias) <= np.maximum(steps, 1e-4)).all()


@RESOLVERS
def test_a_convolution_whose_result_was_next_to_nothing(resolver):
    """XNNPACK refuses a file with so fine a result: its range is at least two steps of input times kernel."""
    random = np.random.default_rng(0)
    model = small_network(random.normal(size=(1, 1, 3, 3)), np.zeros(3))
    statistics = measure(model, calibration.variations((32, 48), 2).images)
    _, graph = rewriting.read(model)
    (relu,) = (node.name for node in graph.nodes if node.kind == "Relu")
    statistics[relu] = Statistic(np.zeros(3), np.full(3, 1e-9), np.zeros(3))
    quantized = quantize.quantize(model, statistics)
    layer, read = quantized.get_layer(f"{relu}_rounded"), input_rounding(model, quantized)
    step = (read.high - read.low) / 255
    np.testing.assert_allclose(layer.high - layer.low, 2 * step * quantized.get_layer("conv").steps.max(), rtol=1e-5)
    image = photo(model)
    expected = compute(quantized, image.astype(np.float32))["logits"]
    differences = np.abs(run(quantized, image, resolver) - expected)
    # Half a step of the input is a quarter of this range.
    assert (differences <= 1.01 * (layer.high - layer.low) / 255).mean() > 0.99


@RESOLVERS
@pytest.mark.parametrize("side", [1, 3, 7])
@pytest.mark.parametrize("input_type", deployment.INPUTS)
def test_a_convolution_is_within_the_rounding_of_all_it_reads(input_type, side, resolver):
    random = np.random.default_rng(1)
    model = small_network(random.normal(size=(side, side, 3, 6)), random.normal(size=6), input_type)
    quantized = quantize.quantize(model, measure(model, calibration.variations((32, 48), 4).images))
    image = photo(model)
    (layer,) = (layer for layer in quantized.layers if isinstance(layer, Rounding) and layer.name.startswith("relu"))
    read, kernel = input_rounding(model, quantized), model.get_layer("conv").kernel
    graph, results = inner(model, image)
    producer = graph.producer(graph.named("conv").inputs[0])
    x = np.abs(image if producer is None else results[producer.name]).astype(np.float64)
    kernel_error = np.broadcast_to(HALF * np.abs(kernel).max((0, 1, 2)) / 127, kernel.shape)

    def bound(x, weights):
        return torch_conv(FixedConv2D(weights, np.zeros(6), padding="same", name="bound"), x)

    # The rounding of the input, of the kernel, that of the bias which takes the mean of the latter back, and of the
    # result, once in the file and once in fixed-point factors.
    allowed = bound(np.full(x.shape, HALF * (read.high - read.low) / 255), np.abs(kernel) + kernel_error)
    allowed += bound(x, kernel_error) + bound(np.full(x.shape, x.max()), kernel_error)
    allowed += 2 * HALF * (layer.high - layer.low) / 255
    expected = compute(model, image)["logits"].clip(layer.low, layer.high)
    assert (np.abs(run(quantized, image, resolver, input_type) - expected) <= allowed).all()
