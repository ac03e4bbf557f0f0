"""Graph passes that make an int8 file differ in one thing from `keras_bisenet.export.quantization`."""

import keras
import numpy as np

from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import ColorPadding2D, FixedConv2D, Rounding
from keras_bisenet.export.quantization import rounding_points
from keras_bisenet.models.layers import AlignCornersResize

# Parts of a range to choose the one with the least squared error from.
PARTS_OF_RANGE = np.linspace(1.0, 0.2, 41)

_ROUNDED = "_rounded"


class FloatConv2D(FixedConv2D):
    """A convolution in float32 between tensors of 8 bits.

    TFLiteConverter rounds the kernel of a plain convolution by itself if its input and its output are rounded. An
    operation that has no 8-bit version, here the negation, keeps the convolution in float; the result is the same.
    """

    def call(self, inputs):
        return -self._convolve(inputs, -self.kernel, -self.bias, self.strides, self.padding)


class FloatResize(AlignCornersResize):
    """A resize in float32 behind a tensor of 8 bits; see `FloatConv2D` for the negation."""

    def call(self, inputs):
        logits, like = inputs
        return -super().call([-logits, like])


def least_squares_kernel(kernel, least=0.0):
    """Like `quantize.round_kernel`, with the steps of least squared error; values past 127 steps are clipped."""
    whole = np.maximum(np.abs(kernel).max((0, 1, 2)), 1e-30)
    candidates = np.maximum(np.outer(PARTS_OF_RANGE, whole) / 127, least).astype(np.float32)

    def rounded(steps):
        return np.clip(np.round(kernel / steps), -127, 127)

    errors = [np.square(rounded(steps) * steps.astype(np.float64) - kernel).sum((0, 1, 2)) for steps in candidates]
    steps = candidates[np.argmin(errors, axis=0), np.arange(kernel.shape[3])]
    return rounded(steps), steps


def _replaced(kind, layer, **changes):
    """Pass `(quantized model, exact model) -> model` that puts a `layer` in the place of each node of a kind.

    That has the configuration of the node's layer but for `changes`.
    """

    def replace(graph, node):
        if node.kind != kind:
            return None
        return graph.call(layer.from_config(node.operation.get_config() | changes), *node.args, **node.kwargs)

    return lambda quantized, _exact: rewriting.rewrite(quantized, [replace])


def padded_with(gray):
    """Pass that pads the photo with a gray of 0..255 instead of its mean color."""
    return _replaced("ColorPadding2D", ColorPadding2D, color=np.full(3, float(gray)))


# Pass that resizes the logits, of an 8-bit convolution, in float.
float_resize = _replaced("AlignCornersResize", FloatResize)


def integer_resize(quantized, _exact):
    """Pass that resizes the logits in 8 bits, in the steps that they have before."""

    def resize(graph, node):
        if node.kind != "AlignCornersResize":
            return None
        before = graph.producer(node.inputs[0]).operation
        after = Rounding(**before.get_config() | {"name": f"{node.name}{_ROUNDED}"})
        return graph.call(after, graph.call(node.operation, *node.args, **node.kwargs))

    return rewriting.rewrite(quantized, [resize])


def float_kernels(quantized, exact):
    """Pass that makes all kernels float: an upper bound for every way to round kernels."""
    return rewriting.rewrite(quantized, [_float_conv({layer.name: layer for layer in exact.layers})])


def in_float(choose):
    """Pass that computes some nodes in float32, and rounds where an 8-bit node reads one of them.

    `choose` gives their names in the `rewriting.Graph` of the exact model; the last convolution of each head is always
    one of them.
    """

    def rewrite(quantized, exact):
        _, graph = rewriting.read(exact)
        chosen = {*choose(graph), *rounding_points.find(graph).final}
        layers = {layer.name.removesuffix(_ROUNDED): layer for layer in quantized.layers if isinstance(layer, Rounding)}
        dropped = {name: layer.get_config() for name, layer in layers.items() if name in chosen}

        def drop_rounding(_graph, node):
            is_dropped = isinstance(node.operation, Rounding) and node.name.removesuffix(_ROUNDED) in dropped
            return node.inputs[0] if is_dropped else None

        def round_inputs(graph, node):
            is_integer = rounding_points.is_conv(node) or node.kind in rounding_points.INTEGER_KINDS
            if not is_integer or node.name in chosen:
                return None

            def rounded(x):
                source = rounding_points.source(graph, x) if isinstance(x, keras.KerasTensor) else None
                if source is None or source.name not in dropped:
                    return x
                name = f"{source.name}_for_{node.name}"
                return graph.call(Rounding(**dropped[source.name] | {"name": name}), x)

            args, kwargs = keras.tree.map_structure(rounded, (node.args, dict(node.kwargs)))
            return graph.call(node.operation, *args, **kwargs)

        float_conv = _float_conv({layer.name: layer for layer in exact.layers if layer.name in chosen})
        return rewriting.rewrite(quantized, [drop_rounding, float_conv, round_inputs])

    return rewrite


def _float_conv(exact):
    """Rule that puts the layers `exact`, name -> layer before rounding, in the place of 8-bit convolutions."""

    def compute_in_float(graph, node):
        if not isinstance(node.operation, FixedConv2D) or node.operation.steps is None or node.name not in exact:
            return None
        return graph.call(exact[node.name].like(cls=FloatConv2D), *node.inputs)

    return compute_in_float
