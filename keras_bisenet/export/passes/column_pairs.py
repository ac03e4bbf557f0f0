"""The convolution of a photo on pairs of columns, for 8 bits."""

import keras
import numpy as np
from keras import ops

from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.export.passes.rewriting import Graph, Node


def pair_columns(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """Convolution of three channels with stride 2, of a padded photo of even width -> `PairedColumnsConv2D`."""
    conv = node.operation
    if type(conv) is not FixedConv2D or conv.padding != "valid" or conv.strides != (2, 2):
        return None
    x = node.inputs[0]
    if conv.kernel.shape[2] != 3 or x.shape[2] is None or x.shape[2] % 2:
        return None
    return graph.call(conv.like(cls=PairedColumnsConv2D), x)


class PairedColumnsConv2D(FixedConv2D):
    """A convolution of stride 2 that reads every two columns as one of twice the channels.

    The same numbers in the same order, but for a column of zeros that makes the kernel's width even. In 8 bits
    runtimes multiply channels in fours, pixel by pixel; fewer and longer pixels take less time.
    """

    def call(self, inputs):
        batch, height, width, channels = inputs.shape
        x = ops.reshape(inputs, (batch, height, width // 2, 2 * channels))
        rows, columns, _, filters = self.kernel.shape
        kernel = np.pad(self.kernel, ((0, 0), (0, columns % 2), (0, 0), (0, 0)))
        kernel = kernel.reshape(rows, -1, 2 * channels, filters)
        return self._convolve(x, kernel, self.bias, (self.strides[0], 1), "valid")
