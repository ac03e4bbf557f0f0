"""The int8 ops against PyTorch in float64: they err by no more than the rounding that 8 bits cannot avoid."""

import dataclasses

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from test_graph import Eager

from keras_bisenet.export import flatbuffer
from keras_bisenet.export.calibration import Statistic
from keras_bisenet.export.quantised_builder import QuantisedBuilder, parameters

# A part of a step. The runtimes scale by fixed-point factors: what lies halfway may fall to either side.
HALF = 0.51


@pytest.fixture(params=["AUTO", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"], ids=["xnnpack", "builtin"])
def compute(request):
    """Writes ops into a file and runs it: once by XNNPACK, once by the kernels of LiteRT itself."""

    def run(write, statistics=None, **inputs):
        content = file(write, statistics, **inputs)
        resolver = OpResolverType[request.param]
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver)
        return interpreter.get_signature_runner()(**inputs)["result"]

    return run


def file(write, statistics=None, **inputs):
    """The file that takes `inputs` (name -> array) and returns the `result` of `write(builder, *inputs)` in float32."""
    builder = QuantisedBuilder(statistics or {})
    values = [builder.input(name, array.shape, array.dtype.name) for name, array in inputs.items()]
    result = write(builder, *values)
    return builder.finish({"result": builder.dequantize(result, name="result") if result.dtype == "int8" else result})


def exact(write, **inputs):
    """What `file` approximates."""
    return write(Eager(), *(array.astype(np.float64) for array in inputs.values()))


def conv(x, kernel, strides=1):
    """PyTorch's convolution, without a bias."""
    return Eager().conv(x.astype(np.float64), kernel, np.zeros(kernel.shape[3]), strides, name="bound")


def constant(content, name):
    """A constant of a file: its whole numbers, their scales and zero points."""
    model = flatbuffer.unpack(content)
    (tensor,) = (tensor for tensor in model.subgraphs[0].tensors if tensor.name.decode() == name)
    data = np.asarray(model.buffers[tensor.buffer].data).view(flatbuffer.DTYPES[tensor.type])
    return data.reshape(tensor.shape), tensor.quantization.scale, tensor.quantization.zeroPoint


def seen(values):
    """The `Statistic` of all that occurs in an array `[1, H, W, C]`."""
    values = values.reshape(-1, values.shape[-1]).astype(np.float64)
    return Statistic(values.min(0), values.max(0), values.mean(0))


def on_steps(shape, scale, zero_point=-128, seed=0):
    """Random float32 values that int8 holds exactly, and the lowest and the highest that it holds."""
    whole = np.random.default_rng(seed).integers(-128, 128, shape)
    values = (scale * (whole - zero_point)).astype(np.float32)
    return values, scale * (-128 - zero_point), scale * (127 - zero_point)


def step(statistic):
    """What one whole number more of a tensor stands for."""
    return (max(statistic.high.max(), 0) - min(statistic.low.min(), 0)) / 255


def kernel_on_steps(side, inputs, outputs, seed=0):
    """A random `[side, side, I, O]` kernel that int8 holds exactly, and its scales `[O]`."""
    whole = np.random.default_rng(seed).integers(-127, 128, (side, side, inputs, outputs))
    whole[0, 0, 0] = 127
    scales = 2.0 ** -np.arange(4, 4 + outputs)
    return whole * scales, scales


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, (1.0, -128)),
        (-128.0, 127.0, (1.0, 0)),
        (-63.75, 191.25, (1.0, -64)),
        (0.0, 0.0, (1.0, -128)),
        (51.0, 127.5, (0.5, -128)),
        (-127.5, -51.0, (0.5, 127)),
    ],
    ids=["positive", "both", "zero between two steps", "nothing but zero", "far above zero", "far below zero"],
)
def test_parameters(low, high, expected):
    assert parameters(low, high) == expected


def test_parameters_hold_the_ends_to_half_a_step_and_zero_exactly():
    random = np.random.default_rng(0)
    for magnitude in (1e-6, 1.0, 1e6):
        for low, high in np.sort(random.normal(size=(200, 2)) * magnitude):
            scale, zero_point = parameters(low, high)
            assert scale == float(np.float32(scale))
            assert zero_point in range(-128, 128)
            for end, whole in ((min(low, 0), -128), (max(high, 0), 127)):
                assert abs(scale * (whole - zero_point) - end) <= 0.5001 * scale


def test_quantize_and_dequantize(compute):
    x = np.random.default_rng(0).uniform(-3, 5, (1, 8, 8, 4)).astype(np.float32)
    result = compute(lambda b, x: b.quantize(x, -3, 5, name="x"), x=x)
    np.testing.assert_allclose(result, x, rtol=0, atol=HALF * 8 / 255)
    np.testing.assert_allclose(result * 255 / 8, np.round(result * 255 / 8), rtol=0, atol=1e-4)


def test_values_outside_the_range_are_clipped(compute):
    x = np.array([-9, -3, 0, 5, 9], np.float32).reshape(1, 1, 5, 1)
    result = compute(lambda b, x: b.quantize(x, -3, 5, name="x"), x=x).ravel()
    np.testing.assert_allclose(result, [-3, -3, 0, 5, 5], rtol=0, atol=HALF * 8 / 255)
    assert result[2] == 0


CONVOLUTIONS = pytest.mark.parametrize(
    ("side", "strides", "relu"),
    [(1, 1, True), (1, 2, False), (3, 1, True), (3, 1, False), (3, 2, True), (7, 2, False)],
)


@CONVOLUTIONS
def test_conv_rounds_nothing_but_its_result(compute, side, strides, relu):
    """Input, kernel and bias are such that 8 bits hold them: half a step of the result is all that is left."""
    x, low, high = on_steps((1, 11, 14, 5), 0.25, zero_point=-20)
    kernel, scales = kernel_on_steps(side, 5, 6)
    bias = 0.25 * scales * np.random.default_rng(0).integers(-500, 500, 6)

    def write(b, x):
        return b.conv(b.quantize(x, low, high, name="x"), kernel, bias, strides, relu=relu, name="y")

    expected = exact(write, x=x)
    statistic = seen(expected)
    result = compute(write, {"y": statistic}, x=x)
    np.testing.assert_allclose(result, expected, rtol=0, atol=HALF * step(statistic))


@CONVOLUTIONS
def test_conv_is_within_the_rounding_of_all_it_reads(compute, side, strides, relu):
    random = np.random.default_rng(1)
    x = random.normal(1, 2, (1, 11, 14, 5)).astype(np.float32)
    kernel, bias = random.normal(size=(side, side, 5, 6)), random.normal(size=6)

    low, high = x.min(), x.max()

    def write(b, x):
        return b.conv(b.quantize(x, low, high, name="x"), kernel, bias, strides, relu=relu, name="y")

    expected = exact(write, x=x)
    statistic = seen(expected)
    x_error = HALF * step(seen(x))
    kernel_error = np.broadcast_to(HALF * np.abs(kernel).max((0, 1, 2)) / 127, kernel.shape)
    allowed = conv(np.full(x.shape, x_error), np.abs(kernel) + kernel_error, strides)
    allowed += conv(np.abs(x), kernel_error, strides)
    # The result, and the bias in steps of input times kernel.
    allowed += HALF * step(statistic) + 2 * x_error * kernel_error[0, 0, 0]
    assert (np.abs(compute(write, {"y": statistic}, x=x) - expected) <= allowed).all()


def test_conv_whose_result_was_next_to_nothing(compute):
    """XNNPACK refuses a file with so fine a result, so it gets the range of two steps of input times kernel."""
    x, low, high = on_steps((1, 5, 7, 2), 1.0, zero_point=0)
    kernel, scales = kernel_on_steps(1, 2, 3)
    seen_little = Statistic(np.zeros(3), np.full(3, 1e-4), np.zeros(3))

    def write(b, x):
        return b.conv(b.quantize(x, low, high, name="x"), kernel, np.zeros(3), relu=True, name="y")

    expected = exact(write, x=x).clip(0, 2 * scales.max())
    assert expected.max() > scales.max()
    result = compute(write, {"y": seen_little}, x=x)
    np.testing.assert_allclose(result, expected, rtol=0, atol=HALF * 2 * scales.max() / 255)


def test_each_channel_of_a_kernel_has_its_own_scale():
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3, 5, 4, 3)) * [1e-3, 1.0, 1e3]
    bias = np.array([0.25, -1.0, 1e3])

    def write(b, x):
        return b.conv(b.quantize(x, 0, 25.5, name="x"), kernel, bias, name="y")

    content = file(write, {"y": Statistic(*np.ones((3, 1)))}, x=np.zeros((1, 8, 8, 4), np.float32))
    whole, scales, zero_points = constant(content, "y_kernel")
    assert whole.dtype == np.int8
    np.testing.assert_array_equal(np.abs(whole).max((1, 2, 3)), 127)
    np.testing.assert_array_equal(zero_points, [0, 0, 0])
    np.testing.assert_allclose(scales, np.abs(kernel).max((0, 1, 2)) / 127, rtol=1e-6)
    assert (np.abs(whole.transpose(1, 2, 3, 0) * scales - kernel) <= 0.5001 * scales).all()
    whole, steps, zero_points = constant(content, "y_bias")
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(zero_points, [0, 0, 0])
    np.testing.assert_allclose(steps, 0.1 * scales, rtol=1e-6)
    assert (np.abs(whole * steps - bias) <= 0.5001 * steps).all()


@pytest.mark.parametrize("size", [1e-12, 0.0])
def test_bias_does_not_overflow_where_the_kernel_is_tiny(compute, size):
    """A batch norm may leave a channel little but its bias, which is counted in steps of the kernel."""
    x, low, high = on_steps((1, 8, 8, 4), 0.5)
    kernel, bias = np.random.default_rng(0).normal(size=(3, 3, 4, 4)), np.array([700.0, -900.0, 0.0, 5.0])
    kernel[..., :3] *= size

    def write(b, x):
        return b.conv(b.quantize(x, low, high, name="x"), kernel, bias, name="y")

    expected = exact(write, x=x)
    statistic = seen(expected)
    # 36 products of up to 127.5 with half a step of the kernel.
    allowed = HALF * (step(statistic) + 36 * 127.5 * np.abs(kernel).max((0, 1, 2)) / 127)
    assert (np.abs(compute(write, {"y": statistic}, x=x) - expected) <= allowed).all()
    whole, steps, _ = constant(file(write, {"y": statistic}, x=x), "y_bias")
    assert steps.min() > 0
    assert (np.abs(whole * steps.astype(np.float64) - bias) <= np.maximum(steps, 1e-6)).all()


def test_conv_computes_in_float_behind_dequantize(compute):
    random = np.random.default_rng(0)
    x, low, high = on_steps((1, 8, 9, 4), 0.5)
    kernel, bias = random.normal(size=(3, 3, 4, 5)), random.normal(size=5)

    def write(b, x):
        x = b.dequantize(b.quantize(x, low, high, name="x"), name="x_float32")
        return b.conv(x, kernel, bias, relu=True, name="y")

    np.testing.assert_allclose(compute(write, x=x), exact(write, x=x), rtol=1e-5, atol=1e-3)


# A photo of even width is taken by pairs of columns.
PHOTOS = pytest.mark.parametrize(("width", "side"), [(17, 3), (17, 7), (18, 3), (18, 7)])


@PHOTOS
def test_around_a_photo_lies_its_mean_colour(compute, width, side):
    """The float network subtracts the mean, then pads with zeros: black pixels around the photo would be far off."""
    photo = np.random.default_rng(0).integers(0, 256, (1, 14, width, 3), np.uint8)
    mean = np.array([123.7, 116.3, 103.5])
    kernel, scales = kernel_on_steps(side, 3, 4)

    def write(b, photo):
        return b.conv(b.centre(photo, mean, name="centred"), kernel, np.arange(4.0), 2, name="y")

    expected = exact(write, photo=photo)
    statistic = seen(expected)
    # The bias counts in steps of the kernel; and around the photo the mean is rounded to whole colours.
    around = np.pad(np.zeros((14, width)), side, constant_values=1)[np.newaxis, ..., np.newaxis]
    rounding = conv(around * np.abs(mean - mean.round()), np.abs(kernel))[:, side:-side:2, side:-side:2]
    allowed = HALF * (step(statistic) + scales) + rounding
    assert (np.abs(compute(write, {"y": statistic}, photo=photo) - expected) <= allowed).all()


@PHOTOS
def test_rounding_a_kernel_matters_by_how_far_a_photo_is_from_the_mean(compute, width, side):
    """Not by how far it is from black, though that is what the whole numbers count from."""
    random = np.random.default_rng(0)
    mean = np.array([120.0, 110.0, 100.0])
    photo = (mean + random.integers(-4, 5, (1, 14, width, 3))).astype(np.uint8)
    kernel = random.normal(size=(side, side, 3, 4))

    def write(b, photo):
        return b.conv(b.centre(photo, mean, name="centred"), kernel, np.zeros(4), 2, name="y")

    expected = exact(write, photo=photo)
    statistic = seen(expected)
    kernel_error = np.broadcast_to(HALF * np.abs(kernel).max((0, 1, 2)) / 127, kernel.shape)
    allowed = HALF * step(statistic) + conv(np.abs(photo - mean), kernel_error, 2) + kernel_error[0, 0, 0]
    assert (np.abs(compute(write, {"y": statistic}, photo=photo) - expected) <= allowed).all()


@pytest.mark.parametrize(
    "reach",
    [
        lambda b, x, y: x,  # noqa: ARG005
        lambda b, x, y: b.resize_nearest(x, y, name="resized"),
        lambda b, x, y: b.concatenate(b.resize_nearest(x, y, name="resized"), y, name="joined"),
    ],
    ids=["as it is", "resized", "resized and concatenated"],
)
def test_rounded_kernels_leave_the_mean_as_it_was(compute, reach):
    """The rounding errors of a kernel times the mean of its input go into the bias."""
    random = np.random.default_rng(0)
    # Channels whose means differ. Threes are whole steps of 0.75 and of 1: `concatenate` rounds nothing.
    x = 3 * np.minimum(random.integers(0, 64, (1, 16, 16, 64)), random.integers(1, 64, 64))
    y = np.minimum(random.integers(0, 256, (1, 32, 32, 32)), random.integers(1, 256, 32))
    arrays = {"x": x.astype(np.float32), "y": y.astype(np.float32)}
    kernel = random.normal(size=(1, 1, 96, 16))

    def write(b, x, y):
        x = reach(b, b.quantize(x, 0, 0.75 * 255, name="x"), b.quantize(y, 0, 255, name="y"))
        return b.conv(x, kernel[:, :, : x.shape[3]], np.zeros(16), name="z")

    expected = exact(write, **arrays)

    def error(**means):
        statistics = {name: dataclasses.replace(seen(array), mean=means[name]) for name, array in arrays.items()}
        result = compute(write, statistics | {"z": seen(expected)}, **arrays)
        return np.abs((result - expected).mean((0, 1, 2))).mean()

    assert error(x=seen(x).mean, y=seen(y).mean) < 0.2 * error(x=np.zeros(64), y=np.zeros(32))


@pytest.mark.parametrize(
    "write",
    [
        lambda b, x, y, _: b.add(x, y, name="z"),
        lambda b, x, y, _: b.add(x, y, relu=True, name="z"),
        lambda b, x, _, gate: b.add(x, gate, name="z"),
        lambda b, x, _, __: b.add(x, np.ones(1), name="z"),
        lambda b, x, _, __: b.add(x, np.array([-100.0, 155.0, 3.0, 0.0, 27.0, -1.0]), name="z"),
        lambda b, x, y, _: b.multiply(x, y, name="z"),
        lambda b, x, _, gate: b.multiply(x, gate, name="z"),
        lambda b, _, y, __: b.global_mean(y, name="z"),
    ],
    ids=[
        *("add", "add and relu", "add one value a channel", "add one", "add a constant", "multiply"),
        *("multiply by one value a channel", "global mean"),
    ],
)
def test_arithmetic_rounds_nothing_but_its_result(compute, write):
    shape = (1, 9, 12, 6)
    (x, *x_range), (y, *y_range) = on_steps(shape, 0.25), on_steps(shape, 0.5, zero_point=-40, seed=1)
    gate, *gate_range = on_steps((1, 1, 1, 6), 1 / 256, seed=2)

    def quantised(b, x, y, gate):
        x, y = b.quantize(x, *x_range, name="x"), b.quantize(y, *y_range, name="y")
        return write(b, x, y, b.quantize(gate, *gate_range, name="gate"))

    expected = exact(quantised, x=x, y=y, gate=gate)
    statistic = seen(expected)
    result = compute(quantised, {"z": statistic}, x=x, y=y, gate=gate)
    np.testing.assert_allclose(result, expected, rtol=0, atol=HALF * step(statistic))


def test_sigmoid(compute):
    x, low, high = on_steps((1, 8, 8, 6), 1 / 16, zero_point=-10)

    def write(b, x):
        return b.sigmoid(b.quantize(x, low, high, name="x"), name="y")

    # Its steps are 1 / 256, and 1 itself is one too many.
    expected = np.minimum(exact(write, x=x), 255 / 256)
    np.testing.assert_allclose(compute(write, x=x), expected, rtol=0, atol=HALF / 256)


@pytest.mark.parametrize("size", [(8, 12), (9, 7)])
def test_max_pool_and_resize_choose_among_what_is_there(compute, size):
    x, low, high = on_steps((1, *size, 5), 0.25)

    def pool(b, x):
        return b.max_pool(b.quantize(x, low, high, name="x"), name="y")

    np.testing.assert_array_equal(compute(pool, x=x), exact(pool, x=x))
    y = np.zeros((1, 19, 16, 1), np.float32)

    def resize(b, x, y):
        return b.resize_nearest(b.quantize(x, low, high, name="x"), y, name="z")

    np.testing.assert_array_equal(compute(resize, x=x, y=y), exact(resize, x=x, y=y))


@pytest.mark.parametrize("scales", [(0.5, 0.375), (0.375, 0.5), (0.5, 0.5)])
def test_concatenate_rounds_what_comes_in_finer_steps(compute, scales):
    (x, *x_range), (y, *y_range) = (on_steps((1, 6, 9, 2 + i), scale, seed=i) for i, scale in enumerate(scales))

    def write(b, x, y):
        return b.concatenate(b.quantize(x, *x_range, name="x"), b.quantize(y, *y_range, name="y"), name="z")

    known = {"x": seen(x), "y": seen(y)}
    result = compute(write, known, x=x, y=y)
    for part, values, scale in ((result[..., :2], x, scales[0]), (result[..., 2:], y, scales[1])):
        np.testing.assert_allclose(part, values, rtol=0, atol=0 if scale == 0.5 else HALF * 0.5)
