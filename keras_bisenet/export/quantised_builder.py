"""Builds a `.tflite` file whose network computes in 8-bit whole numbers."""

import dataclasses

import numpy as np

from keras_bisenet.export.builder import Builder, pairs_columns, round_kernel
from keras_bisenet.export.writer import Value

# Ops that choose among their inputs or repeat them: what comes out is on the scale of what goes in.
_KEEP_THE_SCALE = ("CONCATENATION", "MAX_POOL_2D", "PAD", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR")
# Of these, the ones that repeat each value as often as any other, borders aside.
_KEEP_THE_MEAN = ("PAD", "RESIZE_NEAREST_NEIGHBOR")

# What the runtimes demand of a sigmoid: 0..1 in steps of 1 / 256.
_SIGMOID = (1 / 256, -128)


@dataclasses.dataclass(frozen=True)
class QuantisedValue(Value):
    """An int8 tensor: `q` stands for `scale * (q - zero_point) - offset`.

    Attributes:
        scale, zero_point: one for the whole tensor.
        mean: `[C]` what a channel stands for on average, or 0 where that is not known.
        offset: `[C]` or 0. A convolution takes it into its bias.
    """

    scale: float
    zero_point: int
    mean: np.ndarray | float = 0.0
    offset: np.ndarray | float = 0.0


class QuantisedBuilder(Builder):
    """A TFLite graph under construction whose convolutions multiply whole numbers.

    Kernels have a scale for each output channel, activations one for the whole tensor, which is chosen from what was
    seen on calibration photos. What is given to `dequantize` goes on in float32.

    Rounding a kernel shifts the mean of what it computes, by (kernel - rounded kernel) * mean of the input. The bias
    takes that back (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
    arXiv:1906.04721, section 4.2).

    Args:
        statistics: dict, tensor name -> `calibration.Statistic`, for the tensors of the float graph.
    """

    def __init__(self, statistics):
        super().__init__()
        self._statistics = dict(statistics)

    def centre(self, image, mean, *, name):
        """See `Builder.centre`. No value is rounded: the photo stays as it is, and the mean goes into the bias."""
        self._set_quantization(image, 1.0, 0)
        mean = np.asarray(mean)
        return dataclasses.replace(self._quantize(image, (1.0, -128), name), offset=mean)

    def quantize(self, x, low, high, *, name):
        """`x`, of values `low` to `high`, in int8."""
        return self._quantize(x, parameters(low, high), name)

    def dequantize(self, x, *, name):
        """`x` in float32."""
        return super()._op("DEQUANTIZE", [x], x.shape, name)

    def conv(self, x, kernel, bias, strides=1, *, padded=False, relu=False, name):
        """See `Builder.conv`; in float32 if `x` is."""
        if x.dtype == "float32":
            return super().conv(x, kernel, bias, strides, padded=padded, relu=relu, name=name)
        kernel = kernel.transpose(3, 0, 1, 2)
        # The bias counts steps of input times kernel in 32 bits, so these must not be too small for it.
        rounded, scale = round_kernel(kernel, least=np.abs(bias) / (x.scale * 2**30))
        stored = rounded * scale.astype(np.float64)[:, np.newaxis, np.newaxis, np.newaxis]
        bias = bias + ((kernel - stored) * x.mean - stored * x.offset).sum((1, 2, 3))
        steps = x.scale * scale.astype(np.float64)
        # XNNPACK refuses a file whose result is 256 times finer than these, as that of a dead convolution would be.
        seen = self._statistics[name]
        self._statistics[name] = dataclasses.replace(seen, high=np.maximum(seen.high, 2 * steps.max()))
        if pairs_columns(x, strides, padded):
            x, rounded, strides, padded = self._pair_columns(x, rounded, name)
        kernel = self._scaled(rounded, scale, f"{name}_kernel")
        bias = self._scaled(np.round(bias / steps).astype(np.int32), steps, f"{name}_bias")
        return self._convolve(x, kernel, bias, strides, padded, relu, name)

    def pad(self, x, amount, *, name):
        """See `Builder.pad`. Around a photo lies its mean colour, rounded: PAD has one value for all channels."""
        if np.ndim(x.offset) == 0:
            return super().pad(x, amount, name=name)
        colour = np.round(x.offset / x.scale).astype(int) + x.zero_point
        padded = x
        for axis, part in ((1, "rows"), (2, "columns")):
            sides = list(padded.shape)
            sides[axis] = amount
            border = self._constant(np.broadcast_to(colour, sides).astype(np.int8), f"{name}_{part}_border")
            border = self._quantised(border, (x.scale, x.zero_point), name)
            padded = self._concatenate([border, padded, border], axis, f"{name}_{part}")
        return dataclasses.replace(padded, mean=x.mean, offset=x.offset)

    def concatenate(self, *values, name):
        """See `Builder.concatenate`. All are brought to the widest scale first; none may have negative values."""
        scale = max((value.scale, value.zero_point) for value in values)
        parts = []
        for number, value in enumerate(values):
            if (value.scale, value.zero_point) != scale:
                value = dataclasses.replace(self._quantize(value, scale, f"{name}_{number}"), mean=value.mean)
            parts.append(value)
        joined = super().concatenate(*parts, name=name)
        return dataclasses.replace(joined, mean=np.concatenate([value.mean for value in values]))

    def _op(self, code, inputs, shape, name, options=None, dtype="float32"):
        """See `Builder._op`. What would compute floats from int8 computes int8."""
        x = inputs[0]
        if x.dtype != "int8" or dtype != "float32":
            return super()._op(code, inputs, shape, name, options, dtype)
        kept = code in _KEEP_THE_SCALE
        scale = (x.scale, x.zero_point) if kept else _SIGMOID if code == "LOGISTIC" else self._parameters(name)
        output = self._quantised(super()._op(code, inputs, shape, name, options, "int8"), scale, name)
        return dataclasses.replace(output, mean=x.mean) if code in _KEEP_THE_MEAN else output

    def _elementwise(self, code, x, y, options, name):
        if isinstance(y, np.ndarray) and x.dtype == "int8":
            scale, zero_point = parameters(y.min(), y.max())
            y = self._constant(np.round(y / scale + zero_point).astype(np.int8), f"{name}_constant")
            self._set_quantization(y, scale, zero_point)
        return super()._elementwise(code, x, y, options, name)

    def _parameters(self, name):
        return parameters(self._statistics[name].low.min(), self._statistics[name].high.max())

    def _quantize(self, x, scale, name):
        return self._quantised(super()._op("QUANTIZE", [x], x.shape, name, dtype="int8"), scale, name)

    def _quantised(self, value, scale, name):
        self._set_quantization(value, *scale)
        mean = self._statistics[name].mean if name in self._statistics else 0.0
        return QuantisedValue(value.index, value.shape, "int8", *scale, mean)


def parameters(low, high):
    """The scale and the zero point that let int8 stand for `low` to `high` and for 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    # Rounded first, as the file holds it: the bias must be counted in the same steps.
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, int(np.clip(round(-128 - low / scale), -128, 127))
