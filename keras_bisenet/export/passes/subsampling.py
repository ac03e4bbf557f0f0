"""1x1 convolutions with a stride, for 8-bit kernels."""

import keras

from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.export.passes.rewriting import Graph, Node


def subsample(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """1x1 convolution with a stride -> every so many pixels, then the convolution without a stride.

    LiteRT's GPU delegates lose the stride of a 1x1 convolution with 8-bit kernels, and give wrong labels.
    """
    conv = node.operation
    if type(conv) is not FixedConv2D or conv.kernel.shape[:2] != (1, 1) or max(conv.strides) == 1:
        return None
    x = node.inputs[0]
    pick = keras.layers.DepthwiseConv2D(
        1,
        conv.strides,
        use_bias=False,
        depthwise_initializer="ones",
        name=f"{conv.name}_pixels",
        dtype=conv.dtype_policy,
        trainable=False,
    )
    return graph.call(conv.like(strides=1), graph.call(pick, x))
