"""Builders that do one thing otherwise than `keras_bisenet.export.quantised_builder`."""

import dataclasses
from unittest import mock

import numpy as np

from keras_bisenet.export import quantised_builder
from keras_bisenet.export.builder import Builder
from keras_bisenet.export.quantised_builder import QuantisedBuilder

# Parts of a range that are tried where the squared error decides on it.
PARTS_OF_RANGE = np.linspace(1.0, 0.2, 41)


class LeastSquaresKernels(QuantisedBuilder):
    """Rounds kernels with `least_squares_kernel`."""

    def conv(self, *args, **options):
        with mock.patch.object(quantised_builder, "round_kernel", least_squares_kernel):
            return super().conv(*args, **options)


def least_squares_kernel(kernel, least=0.0):
    """See `builder.round_kernel`; each scale has the least squared error, and what lies past it is clipped."""
    whole = np.maximum(np.abs(kernel).max((1, 2, 3)), 1e-30)
    best, best_scale = np.zeros(kernel.shape, np.int8), np.ones(len(kernel), np.float32)
    best_error = np.full(len(kernel), np.inf)
    for part in PARTS_OF_RANGE:
        scale = np.maximum(whole * part / 127, least).astype(np.float32)
        steps = scale[:, np.newaxis, np.newaxis, np.newaxis].astype(np.float64)
        rounded = np.clip(np.round(kernel / steps), -127, 127).astype(np.int8)
        error = np.square(rounded * steps - kernel).sum((1, 2, 3))
        better = error < best_error
        best[better], best_scale[better], best_error[better] = rounded[better], scale[better], error[better]
    return best, best_scale


class PaddedWith(QuantisedBuilder):
    """Pads the photo with a grey instead of its mean colour.

    Args:
        statistics: see `QuantisedBuilder`.
        grey: 0..255.
    """

    def __init__(self, statistics, grey):
        super().__init__(statistics)
        self._grey = grey

    def pad(self, x, amount, *, name):
        if np.ndim(x.offset) == 0:
            return super().pad(x, amount, name=name)
        padded = super().pad(dataclasses.replace(x, offset=np.full(3, float(self._grey))), amount, name=name)
        return dataclasses.replace(padded, offset=x.offset)


class Normalised(QuantisedBuilder):
    """Subtracts the mean in float and rounds what comes out, as a converter of the float graph does."""

    def centre(self, image, mean, *, name):
        x = Builder.centre(self, image, mean, name=name)
        rounded = self._quantize(x, self._parameters(name), f"{name}_int8")
        return dataclasses.replace(rounded, mean=self._statistics[name].mean)


class IntegerHead(QuantisedBuilder):
    """Computes the logits in int8 too, and resizes them in float."""

    def dequantize(self, x, *, name):  # noqa: ARG002 (this is before the last convolution)
        return x

    def resize_align_corners(self, x, like, *, name):
        return super().resize_align_corners(super().dequantize(x, name=f"{name}_float32"), like, name=name)


class IntegerLogits(QuantisedBuilder):
    """Computes the logits in int8 too, and resizes them on the same scale."""

    def dequantize(self, x, *, name):  # noqa: ARG002 (this is before the last convolution)
        return x

    def _op(self, code, inputs, shape, name, options=None, dtype="float32"):
        if code != "RESIZE_BILINEAR":
            return super()._op(code, inputs, shape, name, options, dtype)
        x = inputs[0]
        resized = super()._op(code, inputs, shape, name, options, "int8")
        return self._quantised(resized, (x.scale, x.zero_point), name)


class FloatKernels(QuantisedBuilder):
    """Rounds every activation, but no kernel: what no better way to round kernels can surpass."""

    def conv(self, x, kernel, bias, strides=1, *, padded=False, relu=False, name):
        if x.dtype == "float32":
            return super().conv(x, kernel, bias, strides, padded=padded, relu=relu, name=name)
        kernel = kernel.transpose(3, 0, 1, 2)
        bias = self._weight(bias - (kernel * x.offset).sum((1, 2, 3)), f"{name}_bias")
        return self._convolve(x, self._weight(kernel, f"{name}_kernel"), bias, strides, padded, relu, name)

    def _op(self, code, inputs, shape, name, options=None, dtype="float32"):
        x = inputs[0]
        if code != "CONV_2D" or x.dtype == "float32":
            return super()._op(code, inputs, shape, name, options, dtype)
        x = self.dequantize(x, name=f"{name}_input")
        result = super()._op(code, [x, *inputs[1:]], shape, f"{name}_float32", options)
        return self._quantize(result, self._parameters(name), name)


class PartlyFloat(QuantisedBuilder):
    """Computes some of the network in float32, with float32 weights, and converts where it meets int8.

    Args:
        statistics: see `QuantisedBuilder`.
        is_float: called with the name of a result, says whether it is computed in float.
    """

    def __init__(self, statistics, is_float):
        super().__init__(statistics)
        self._is_float = is_float
        # Result of an op that keeps the scale in int8 -> the result whose scale it is.
        self._scale_of = {}

    def centre(self, image, mean, *, name):
        owner = Builder if self._is_float(name) else QuantisedBuilder
        return owner.centre(self, image, mean, name=name)

    def dequantize(self, x, *, name):
        return x if x.dtype == "float32" else super().dequantize(x, name=name)

    def conv(self, x, *args, name, **options):
        return super().conv(self._converted(x, name), *args, name=name, **options)

    def pad(self, x, amount, *, name):
        owner = Builder if x.dtype == "float32" else QuantisedBuilder
        return owner.pad(self, x, amount, name=name)

    def max_pool(self, x, *, name):
        self._scale_of[name] = self._tensors[x.index].name
        return super().max_pool(self._converted(x, name), name=name)

    def global_mean(self, x, *, name):
        return super().global_mean(self._converted(x, name), name=name)

    def sigmoid(self, x, *, name):
        return super().sigmoid(self._converted(x, name), name=name)

    def concatenate(self, *values, name):
        owner = Builder if self._is_float(name) else QuantisedBuilder
        return owner.concatenate(self, *(self._converted(value, name) for value in values), name=name)

    def resize_nearest(self, x, like, *, name):
        self._scale_of[name] = self._tensors[x.index].name
        return super().resize_nearest(self._converted(x, name), like, name=name)

    def _elementwise(self, code, x, y, options, name):
        y = y if isinstance(y, np.ndarray) else self._converted(y, name)
        return super()._elementwise(code, self._converted(x, name), y, options, name)

    def _converted(self, x, name):
        """`x` in the arithmetic of the result `name`."""
        source = self._tensors[x.index].name
        if self._is_float(name):
            return self.dequantize(x, name=f"{source}_for_{name}")
        if x.dtype == "int8":
            return x
        scale_of = self._scale_of.get(source, source)
        rounded = self._quantize(x, self._parameters(scale_of), f"{source}_for_{name}")
        seen = self._statistics.get(source, self._statistics[scale_of])
        return dataclasses.replace(rounded, mean=seen.mean)
