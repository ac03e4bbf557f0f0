"""Rounds a network to 8 bits.

The rounding is `tf.quantization.fake_quant_*` operations with our ranges, which TFLiteConverter turns into integers.
"""

import keras
import numpy as np

from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import FixedConv2D, Rounding
from keras_bisenet.export.quantization import rounding_points
from keras_bisenet.preprocessing import OFFSET, SCALE
from keras_bisenet.utils.errors import ExportError

# What the runtimes demand of a sigmoid: 0..1 in steps of 1 / 256.
_SIGMOID_RANGE = 0.0, 255 / 256
_PHOTO_RANGE = 0.0, 255.0
_NORMALIZED_RANGE = min(OFFSET), max(255 * scale + offset for scale, offset in zip(SCALE, OFFSET, strict=True))


class Scale:
    """The 256 values that int8 stands for, `low` to `high`, of one tensor or of several that share it."""

    def __init__(self, low, high):
        self.low, self.high = min(low, 0.0), max(high, 0.0)

    @property
    def step(self):
        """The distance of two values, float32 as the file holds it; 1 if all are 0."""
        return float(np.float32((self.high - self.low) / 255)) or 1.0

    def rounding(self, name, dtype):
        """The layer that rounds to these values, moved by less than a step so that 0 is one of them."""
        zero = np.clip(round(-self.low / self.step), 0, 255)
        return Rounding(-zero * self.step, (255 - zero) * self.step, name=name, dtype=dtype)


def quantize(model, statistics):
    """Rounds kernels and activations to 8 bits up to the last convolution of each head.

    Kernels have a step for each output channel, activations one for the whole tensor, chosen from what was seen on
    photos. Rounding a kernel shifts the mean of what it computes, by (kernel - rounded kernel) * mean of the input. The
    bias takes that back (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
    arXiv:1906.04721, section 4.2).

    Args:
        model: functional Keras model whose convolutions are `FixedConv2D`.
        statistics: dict, name of a node -> `calibration.Statistic`: of all that `measured` tells.

    Returns:
        Functional Keras model, which computes in float what the file computes on whole numbers. Its input is float32: a
        uint8 photo's values, which TFLiteConverter's `inference_input_type` makes uint8 again without a conversion.

    Raises:
        ExportError: the network holds a layer that 8 bits have no rule for; the message names it.
    """
    _, graph = rewriting.read(model)
    points = rounding_points.find(graph)
    scales = _scales(graph, points, statistics)
    kernels = {}
    for node in graph.nodes:
        if rounding_points.is_conv(node) and node.name not in points.final:
            if not isinstance(node.operation, FixedConv2D):
                raise ExportError(f"layer {node.name!r} is no plain convolution: no rule for 8 bits; leave out int8")
            kernels[node.name] = _round_conv(graph, node, scales, statistics)

    def round_conv(graph, node):
        if node.name not in kernels:
            return None
        kernel, bias, steps = kernels[node.name]
        return graph.call(node.operation.like(kernel=kernel, bias=bias, steps=steps), *node.inputs)

    def round_output(graph, node):
        if node.name not in points.tensors:
            return None
        output = graph.call(node.operation, *node.args, **node.kwargs) if node.output is None else node.output
        return graph.call(scales[node.name].rounding(f"{node.name}_rounded", model.dtype_policy), output)

    def round_image(image):
        return Scale(*_NORMALIZED_RANGE).rounding("image_rounded", model.dtype_policy)(image) if points.image else image

    image = keras.Input(batch_shape=model.input.shape, dtype="float32", name=model.input.name)
    return rewriting.rewrite(model, [round_conv, round_output], image, round_image)


def measured(graph):
    """Names of the nodes whose values `quantize` has to know.

    Args:
        graph: `rewriting.Graph` of the model.
    """
    read = (_mean_source(graph, node) for node in graph.nodes if rounding_points.is_conv(node))
    return rounding_points.find(graph).tensors | {node.name for node in read if node is not None}


def _mean_source(graph, node):
    """The node whose mean is that of what a convolution reads."""
    return rounding_points.source(graph, node.inputs[0], rounding_points.SAME_MEAN_KINDS)


def _scales(graph, points, statistics):
    """Name of a rounded tensor -> its `Scale`."""
    scales = {}
    for name in points.tensors:
        if name in points.photos:
            scales[name] = Scale(*_PHOTO_RANGE)
        elif graph.named(name).kind == "Sigmoid":
            scales[name] = Scale(*_SIGMOID_RANGE)
        else:
            scales[name] = Scale(statistics[name].low.min(), statistics[name].high.max())
    # A concatenation copies whole numbers: its parts share one scale, and need not be rounded once more.
    for whole, part in points.joined:
        shared = Scale(min(scales[whole].low, scales[part].low), max(scales[whole].high, scales[part].high))
        before = scales[whole], scales[part]
        scales = {name: shared if scale in before else scale for name, scale in scales.items()}
    return scales


def _round_conv(graph, node, scales, statistics):
    """Kernel, bias and steps of a convolution in 8 bits."""
    conv = node.operation
    origin = rounding_points.source(graph, node.inputs[0])
    step = Scale(*_NORMALIZED_RANGE).step if origin is None else scales[origin.name].step
    # The bias counts steps of input times kernel in 32 bits, so these must not be too small for it.
    numbers, steps = round_kernel(conv.kernel, least=np.abs(conv.bias) / (step * 2**30))
    kernel = numbers * steps.astype(np.float64)
    source = _mean_source(graph, node)
    mean = 0.0 if source is None else statistics[source.name].mean[:, np.newaxis]
    bias = conv.bias + ((conv.kernel - kernel) * mean).sum((0, 1, 2))
    # XNNPACK refuses a file whose result is 256 times finer than these, as that of a dead convolution would be.
    for name, scale in scales.items():
        if _computed_by(graph, name) is node:
            scale.high = max(scale.high, 2 * step * steps.max())
    return kernel, bias, steps


def _computed_by(graph, name):
    """The convolution that gives a tensor, itself or through a ReLU; else another node."""
    node = graph.named(name)
    return graph.producer(node.inputs[0]) if node.kind == "Relu" else node


def round_kernel(kernel, least=0.0):
    """A kernel in 8 bits.

    Args:
        kernel: `[h, w, I, O]` array.
        least: `[O]`, what each step has to be at least.

    Returns:
        Array of whole numbers -127..127, and the steps `[O]` float32: their product is the kernel, to half a step. A
        channel of zeros gets the step 1.
    """
    steps = np.maximum(np.abs(kernel).max((0, 1, 2)) / 127, least).astype(np.float32)
    steps[steps == 0] = 1
    return np.round(kernel / steps), steps
