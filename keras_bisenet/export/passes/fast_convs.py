"""Convolutions with fewer multiplications, in exchange for larger kernels; exact but for rounding.

A runtime on a CPU does neither by itself; one on a GPU has its own ways.
"""

import keras
import numpy as np
from keras import ops

from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.export.passes.rewriting import Graph, Node

# Largest stride of the feature maps whose convolutions are rewritten: with fewer pixels a rewritten convolution saves
# little, and its kernels are larger all the same. `make passes` times other strides.
SPLIT_STRIDE, WINOGRAD_STRIDE = 8, 8
# Winograd's way is taken from so many channels on, in and out: with fewer, moving pixels costs more than it saves.
WINOGRAD_CHANNELS = 256


def split_upsampled_conv(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """3x3 convolution behind nearest upsampling by 2 -> `UpsampledConv2D`, which reads the small feature map."""
    if not _is_plain_conv(node):
        return _take_relu(graph, node, UpsampledConv2D)
    resize = graph.producer(node.inputs[0])
    if resize is None or resize.kind != "NearestResize":
        return None
    x, large = resize.inputs[0], node.inputs[0]
    doubled = tuple(large.shape[1:3]) == tuple(2 * side for side in x.shape[1:3])
    if not doubled or not _has_stride(graph, large, SPLIT_STRIDE):
        return None
    return graph.call(node.operation.like(cls=UpsampledConv2D), x)


def winograd(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """Wide and large 3x3 convolution -> `WinogradConv2D`."""
    if not _is_plain_conv(node):
        return _take_relu(graph, node, WinogradConv2D)
    x = node.inputs[0]
    wide = min(x.shape[3], node.operation.kernel.shape[3]) >= WINOGRAD_CHANNELS
    if x.shape[2] % 2 or not wide or not _has_stride(graph, x, WINOGRAD_STRIDE):
        return None
    return graph.call(node.operation.like(cls=WinogradConv2D), *node.inputs)


def _has_stride(graph, tensor, stride):
    """Whether a feature map has at least the size that a stride leaves of the image."""
    return all(side * stride >= whole for side, whole in zip(tensor.shape[1:3], graph.image_size, strict=True))


def _is_plain_conv(node):
    """Whether a node is a 3x3 convolution of stride 1."""
    conv = node.operation
    return (
        type(conv) is FixedConv2D
        and conv.kernel.shape[:2] == (3, 3)
        and conv.strides == (1, 1)
        and conv.padding == "same"
    )


def _take_relu(graph, node, cls):
    """ReLU behind a convolution of class `cls` -> that convolution with a ReLU inside, where it costs nothing."""
    before = graph.producer(node.inputs[0]) if node.kind == "Relu" else None
    if before is None or type(before.operation) is not cls or before.operation.relu:
        return None
    return graph.call(before.operation.like(relu=True), *before.inputs)


class _ConvRelu2D(FixedConv2D):
    """A convolution whose parts are joined after a ReLU.

    Args:
        arguments: of `FixedConv2D`.
        relu: whether there is one.
    """

    def __init__(self, *arguments, relu=False, **options):
        super().__init__(*arguments, **options)
        self.relu = relu

    def get_config(self):
        """See `FixedConv2D.get_config`."""
        return super().get_config() | {"relu": self.relu}

    def _activate(self, x):
        return ops.relu(x) if self.relu else x


class UpsampledConv2D(_ConvRelu2D):
    """3x3 convolution of `x` after nearest upsampling by 2, without the upsampling: 4 / 9 of the work.

    Of the nine pixels under the kernel, those that repeat one pixel of `x` share a tap. Which ones do depends on
    whether the result's row and column are even or odd, so there are four 2x2 kernels, one for each case.

    `[N, H, W, I]` -> `[N, 2H, 2W, O]`. The kernel is that of the whole convolution, `[3, 3, I, O]`.
    """

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, 2 * height, 2 * width, self.kernel.shape[3]

    def call(self, inputs):
        phases = []
        for row in (0, 1):
            for column in (0, 1):
                taps = _merged(_merged(self.kernel, row, axis=0), column, axis=1)
                x = ops.pad(inputs, ((0, 0), (1 - row, row), (1 - column, column), (0, 0)))
                x = self._convolve(x, taps, self.bias, 1, "valid")
                phases.append(self._activate(x))
        return ops.depth_to_space(ops.concatenate(phases, axis=-1), 2)


def _merged(kernel, phase, axis):
    """Three taps as two: at even places the last two fall on one pixel, at odd places the first two."""
    first, second, third = np.split(kernel, 3, axis)
    pair = (first, second + third) if phase == 0 else (first + second, third)
    return np.concatenate(pair, axis)


class WinogradConv2D(_ConvRelu2D):
    """3x3 convolution in 2 / 3 of the work: F(2, 3) along the rows.

    Winograd's algorithm makes two neighbors of a row from four products instead of six (Lavin and Gray, "Fast
    Algorithms for Convolutional Neural Networks", 2015, arXiv:1509.09308, section 4.1). With the pixels d0 to d3 and
    the columns g0 to g2 of the kernel:

        m1 = (d0 - d2) g0    m2 = (d1 + d2) (g0 + g1 + g2) / 2    m3 = (d2 - d1) (g0 - g1 + g2) / 2    m4 = (d1 - d3) g2
        y0 = m1 + m2 + m3    y1 = m2 - m3 - m4

    `[N, H, W, I]`, W even -> `[N, H, W, O]`. The kernel is `[3, 3, I, O]`.
    """

    def call(self, inputs):
        batch, height, width, channels = inputs.shape
        # With a column of zeros at either side, neighbors lie as one pixel of twice the channels.
        x = ops.pad(inputs, ((0, 0), (0, 0), (1, 1), (0, 0)))
        pairs = ops.reshape(x, (batch, height, width // 2 + 1, 2 * channels))
        d0, d1, d2, d3 = (
            ops.slice(pairs, (0, 0, pair, channel), (batch, height, width // 2, channels))
            for pair in (0, 1)
            for channel in (0, channels)
        )
        g0, g1, g2 = np.split(self.kernel, 3, axis=1)
        sums = (
            (d0 - d2, g0, self.bias),
            (d1 + d2, (g0 + g1 + g2) / 2, 0 * self.bias),
            (d2 - d1, (g0 - g1 + g2) / 2, 0 * self.bias),
            (d1 - d3, g2, -self.bias),
        )
        m1, m2, m3, m4 = (self._convolve(x, taps, bias, 1, "same") for x, taps, bias in sums)
        halves = m1 + m2 + m3, m2 - m3 - m4
        both = ops.concatenate([self._activate(half) for half in halves], axis=-1)
        return ops.reshape(both, (batch, height, width, self.kernel.shape[3]))
