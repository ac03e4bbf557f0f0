"""Rules that fold what a network computes at inference into the convolution beside it. All are made in float64."""

import dataclasses

import keras
import numpy as np

from keras_bisenet.export.passes.layers import ColorPadding2D, FixedConv2D
from keras_bisenet.export.passes.rewriting import Graph, Node


def fix_conv(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """`keras.layers.Conv2D` -> `FixedConv2D`, where it is a plain convolution."""
    conv = node.operation
    plain = type(conv) is keras.layers.Conv2D and conv.groups == 1 and set(conv.dilation_rate) == {1}
    if not plain or conv.data_format != "channels_last" or conv.activation is not keras.activations.linear:
        return None
    kernel = _array(conv.kernel)
    bias = np.zeros(kernel.shape[3]) if conv.bias is None else _array(conv.bias)
    fixed = FixedConv2D(kernel, bias, conv.strides, conv.padding, name=conv.name, dtype=conv.dtype_policy)
    return graph.call(fixed, *node.inputs)


def fold_batch_norm(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """Batch norm behind a convolution -> the convolution with another kernel and bias.

    gamma (x - mean) / sqrt(variance + epsilon) + beta is affine in each channel.
    """
    norm, before = node.operation, graph.producer(node.inputs[0]) if node.inputs else None
    if not isinstance(norm, keras.layers.BatchNormalization) or before is None:
        return None
    conv = before.operation
    if not isinstance(conv, FixedConv2D) or norm.axis not in (3, -1):
        return None
    factor = 1 / np.sqrt(_array(norm.moving_variance) + norm.epsilon)
    if norm.gamma is not None:
        factor *= _array(norm.gamma)
    bias = (conv.bias - _array(norm.moving_mean)) * factor
    if norm.beta is not None:
        bias += _array(norm.beta)
    return graph.call(conv.like(kernel=conv.kernel * factor, bias=bias, name=norm.name), *before.inputs)


def fold_scale(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """`x * scale + offset` before a convolution -> `x + offset / scale`, and the scale in the kernel.

    The offset stays outside: the convolution pads with zeros, which stand for `-offset / scale` of `x`.
    """
    path = _affine(graph, node)
    if path is None or not path.scale.all():
        return None
    conv = node.operation
    shift = np.asarray(path.offset / path.scale, conv.compute_dtype)
    x = graph.call(type(path.add.operation)(), path.image, shift)
    if path.padding is not None:
        x = graph.call(_copy(path.padding.operation), x)
    return graph.call(conv.like(kernel=conv.kernel * path.scale[:, np.newaxis]), x)


def fold_offset(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """`x + offset` before a padded convolution: `x` padded with the color `-offset`, the offset in the bias.

    For 8 bits: what the convolution reads is the photo as it is, whole numbers of 0 to 255.
    """
    path = _affine(graph, node)
    if path is None or path.padding is None or (path.scale != 1).any():
        return None
    conv = node.operation
    (amount,) = {side for sides in path.padding.operation.padding for side in sides}
    padding = ColorPadding2D(amount, -path.offset, name=f"{conv.name}_padding", dtype=conv.dtype_policy)
    bias = conv.bias + (conv.kernel * path.offset[:, np.newaxis]).sum((0, 1, 2))
    return graph.call(conv.like(bias=bias), graph.call(padding, path.image))


def offset_to_channel(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """`x + offset` before a padded convolution: `x` and a channel of 255, whose kernel adds the offset in the photo.

    Like `fold_offset`, but padded with zeros, as NPUs pad.
    """
    path = _affine(graph, node)
    if path is None or path.padding is None or (path.scale != 1).any():
        return None
    conv, channels = node.operation, len(path.offset)
    widen = FixedConv2D(
        np.eye(channels, channels + 1)[np.newaxis, np.newaxis],
        [0] * channels + [255],
        name=f"{conv.name}_photo",
        dtype=conv.dtype_policy,
    )
    added = (conv.kernel * path.offset[:, np.newaxis]).sum(2, keepdims=True) / 255
    x = graph.call(_copy(path.padding.operation), graph.call(widen, path.image))
    return graph.call(conv.like(kernel=np.concatenate([conv.kernel, added], axis=2)), x)


def add_one_to_gate(graph: Graph, node: Node) -> keras.KerasTensor | None:
    """`x * gate + x` -> `x * (gate + 1)`, where the gate is one value a channel and the addition is over few values."""
    if node.kind != "Add" or len(node.inputs) != 2:
        return None
    for product, x in (node.inputs, node.inputs[::-1]):
        multiply = graph.producer(product)
        if multiply is None or multiply.kind != "Multiply" or len(multiply.inputs) != 2:
            continue
        for same, gate in (multiply.inputs, multiply.inputs[::-1]):
            # An open side of `x` is None.
            if same is x and set(gate.shape[1:-1]) == {1} != set(x.shape[1:-1]):
                one = np.ones((), gate.dtype)
                return graph.call(type(multiply.operation)(), x, graph.call(type(node.operation)(), gate, one))
    return None


@dataclasses.dataclass(frozen=True)
class _Affine:
    """`image * scale + offset`, with zeros around it, as a convolution reads it.

    Attributes:
        image: tensor.
        scale, offset: `[C]` float64.
        add, padding: nodes; `padding` is None where there is none.
    """

    image: keras.KerasTensor
    scale: np.ndarray
    offset: np.ndarray
    add: Node
    padding: Node | None


def _affine(graph, node):
    """What a convolution reads, if it is an `_Affine`."""
    if not isinstance(node.operation, FixedConv2D):
        return None
    channels = node.operation.kernel.shape[2]
    add = padding = graph.producer(node.inputs[0])
    if padding is not None and padding.kind == "ZeroPadding2D":
        add = graph.producer(padding.inputs[0])
    else:
        padding = None
    offset = _channel_constant(add, "Add", channels)
    if offset is None:
        return None
    image, scale = add.inputs[0], np.ones(channels)
    multiply = graph.producer(image)
    found = _channel_constant(multiply, "Multiply", channels)
    if found is not None:
        image, scale = multiply.inputs[0], found
    return _Affine(image, scale, offset, add, padding)


def _channel_constant(node, kind, channels):
    """The constant operand of an addition or multiplication, `[channels]` float64; None if it has none."""
    if node is None or node.kind != kind or len(node.inputs) != 1 or len(node.constants) != 1:
        return None
    constant = np.asarray(keras.ops.convert_to_numpy(node.constants[0]), np.float64)
    return np.broadcast_to(constant.ravel(), channels) if constant.size in (1, channels) else None


def _array(variable):
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float64)


def _copy(layer):
    return type(layer).from_config(layer.get_config())
