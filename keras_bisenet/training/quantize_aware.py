"""A network that rounds to 8 bits where the int8 export does, so that training learns to live with it.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018:
the forward pass rounds, the gradient passes as if it had not.
"""

import keras
import tensorflow as tf
from keras import ops

from keras_bisenet.export.passes import folding, rewriting
from keras_bisenet.export.quantization import rounding_points

BITS = 8


def quantize_aware(model):
    """The same network with rounding; it shares every layer with `model`, so training it trains `model`.

    Call it with `training=False`, in training too: batch norm then uses its moving statistics, as in the export, where
    it is part of the convolution. Rounded are the tensors and kernels that the export rounds, see
    `export.quantization.rounding_points`: kernels by channel and feature maps as a whole, within the range that they
    have in the batch. The photo and the last convolution of each head stay float.

    Args:
        model: a `BiSeNet`.

    Returns:
        `keras.Model` with the inputs and outputs of `model`.
    """
    model = rewriting.rewrite(model, [folding.add_one_to_gate])
    _, graph = rewriting.read(model)
    points = rounding_points.find(graph)

    def round_conv(graph, node):
        if not rounding_points.is_conv(node) or node.name in points.final:
            return None
        return graph.call(RoundedConv(node.operation), *node.inputs)

    def round_output(graph, node):
        if node.name not in points.tensors:
            return None
        output = graph.call(node.operation, *node.args, **node.kwargs) if node.output is None else node.output
        return graph.call(Rounding(), output)

    return rewriting.rewrite(model, [round_conv, round_output])


class Rounding(keras.layers.Layer):
    """Rounds a float tensor to 256 even steps between its smallest and largest value (0 is one of them)."""

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
        x = _straight_through(x, tf.quantization.fake_quant_with_min_max_vars(x, low, high, BITS))
        return ops.cast(x, self.compute_dtype)


class RoundedConv(keras.layers.Layer):
    """A convolution with its kernel rounded to 255 even steps around 0, each output channel by itself.

    Args:
        conv: the `Conv2D` whose kernel is used and trained.
    """

    def __init__(self, conv):
        super().__init__(name=conv.name)
        self.conv = conv

    def call(self, inputs):
        kernel = ops.cast(self.conv.kernel, "float32")
        reach = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=(0, 1, 2)), 1e-12)
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            kernel, -reach, reach, BITS, narrow_range=True
        )
        kernel = _straight_through(kernel, rounded)
        return ops.conv(
            inputs, ops.cast(kernel, self.compute_dtype), strides=self.conv.strides, padding=self.conv.padding
        )


def _straight_through(x, rounded):
    """The value of `rounded` with the gradient of `x`. (The op's own gradient is 0 at the ends of the range.)"""
    return x + tf.stop_gradient(rounded - x)
