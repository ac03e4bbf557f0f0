"""Builds a `.tflite` file op by op."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.export.writer import TENSOR_TYPES, Writer

_SAME, _VALID = schema.Padding.SAME, schema.Padding.VALID
_NONE, _RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU


class Builder(Writer):
    """A TFLite graph under construction, NHWC.

    Each method adds the ops that it is named after and returns the `Value` that they compute. Tensors carry the name
    that is given to them; the names of inputs and outputs are also those of the signature.

    Args:
        weights: how they are stored. `"float32"`; `"float16"`: widened to float32 when the file is loaded; `"int8"`:
            kernels as whole numbers -127..127 times a scale for each output channel, which the runtime multiplies with
            activations that it quantises on the fly.
        favours_speed: whether a faster graph is worth larger kernels; nothing here looks at it, `graph` does.
    """

    def __init__(self, weights="float32", favours_speed=False):
        super().__init__()
        self.favours_speed = favours_speed
        self._weights = weights
        if weights == "float16":
            self._metadata["reduced_precision_support"] = b"fp16accfp32"

    def conv(self, x, kernel, bias, strides=1, *, padded=False, relu=False, name):
        """Convolution with PyTorch's padding `kernel // 2`.

        Args:
            x: `[1, H, W, I]`.
            kernel: `[h, w, I, O]` array, h and w odd unless `padded`.
            bias: `[O]` array.
            strides: step in both directions.
            padded: whether `x` has its padding already.
            relu: whether a ReLU follows.
            name: name of the result.
        """
        kernel = kernel.transpose(3, 0, 1, 2)
        # LiteRT's GPU delegates lose the stride of a 1x1 convolution with 8-bit kernels, and give wrong labels.
        stored = "float16" if self._weights == "int8" and strides > kernel.shape[1] else self._weights
        if stored == "int8" and pairs_columns(x, strides, padded):
            x, kernel, strides, padded = self._pair_columns(x, kernel, name)
        kernel, bias = self._weight(kernel, f"{name}_kernel", stored), self._weight(bias, f"{name}_bias")
        return self._convolve(x, kernel, bias, strides, padded, relu, name)

    def _convolve(self, x, kernel, bias, strides, padded, relu, name):
        """`conv` with `[O, h, w, I]` kernel and `[O]` bias in the file already; `strides` may be (down, right)."""
        channels, *sides, _ = kernel.shape
        strides = [int(step) for step in np.broadcast_to(strides, 2)]
        if max(strides) > 1 and not padded:
            # At an even size SAME pads more behind than in front; PyTorch pads both sides alike.
            x, padded = self.pad(x, sides[0] // 2, name=f"{name}_pad") if sides[0] > 1 else x, True
        options = schema.Conv2DOptionsT()
        options.padding = _VALID if padded else _SAME
        options.strideH, options.strideW = strides
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = _RELU if relu else _NONE
        _, height, width, _ = x.shape
        if padded:
            moves = zip((height, width), sides, strides, strict=True)
            height, width = ((size - side) // step + 1 for size, side, step in moves)
        return self._op("CONV_2D", [x, kernel, bias], (1, height, width, channels), name, options)

    def _pair_columns(self, x, kernel, name):
        """A photo and its `[O, h, w, 3]` kernel with every two columns as one of twice the channels.

        The same numbers in the same order, but for a column of zeros that makes the kernel's side even. In 8 bits
        runtimes multiply channels in fours, pixel by pixel; fewer and longer pixels take less time.

        Returns:
            Both, and the strides and `padded` that go with them.
        """
        channels, side, _, colours = kernel.shape
        kernel = np.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0))).reshape(channels, side, (side + 1) // 2, 2 * colours)
        x = self.pad(x, side // 2, name=f"{name}_pad")
        _, height, width, _ = x.shape
        x = self.reshape(x, (1, height, width // 2, 2 * colours), name=f"{name}_pairs")
        return x, kernel, (2, 1), True

    def centre(self, image, mean, *, name):
        """A uint8 photo as what a convolution takes: `[1, H, W, 3]` float32, `image - mean`.

        Args:
            image: `[1, H, W, 3]` uint8.
            mean: `[3]`.
            name: name of the result.
        """
        return self.add(self.cast(image, "float32", name=f"{name}_float32"), -np.asarray(mean), name=name)

    def quantize(self, x, low, high, *, name):  # noqa: ARG002 (what int8 needs)
        """`x` as what a convolution takes, if its values are `low` to `high`: here, as it is."""
        return x

    def dequantize(self, x, *, name):  # noqa: ARG002 (what int8 needs)
        """`x` in float32: here, as it is."""
        return x

    def pad(self, x, amount, *, name):
        """Zeros around `x`.

        Args:
            x: `[1, H, W, C]`.
            amount: how many on all four sides, or ((above, below), (left, right)).
            name: name of the result.
        """
        sides = np.array([(0, 0), *np.broadcast_to(amount, (2, 2)), (0, 0)], np.int32)
        shape = tuple(int(size) for size in x.shape + sides.sum(1))
        return self._op("PAD", [x, self._constant(sides, f"{name}_sides")], shape, name, schema.PadOptionsT())

    def max_pool(self, x, *, name):
        """3x3, stride 2, over what a ReLU gives: zeros pad as well as PyTorch's -inf, which mobile GPUs refuse."""
        x = self.pad(x, 1, name=f"{name}_pad")
        options = schema.Pool2DOptionsT()
        options.padding = _VALID
        options.strideH = options.strideW = 2
        options.filterHeight = options.filterWidth = 3
        _, height, width, channels = x.shape
        return self._op("MAX_POOL_2D", [x], (1, (height - 1) // 2, (width - 1) // 2, channels), name, options)

    def global_mean(self, x, *, name):
        """Mean over height and width, which stay as 1."""
        options = schema.ReducerOptionsT()
        options.keepDims = True
        axes = self._constant(np.array([1, 2], np.int32), f"{name}_axes")
        return self._op("MEAN", [x, axes], (1, 1, 1, x.shape[3]), name, options)

    def sigmoid(self, x, *, name):
        return self._op("LOGISTIC", [x], x.shape, name)

    def add(self, x, y, *, relu=False, name):
        """Sum; `y` may be a `Value` or an array, and either may have sides of 1 where the other has more."""
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _RELU if relu else _NONE
        return self._elementwise("ADD", x, y, options, name)

    def subtract(self, x, y, *, relu=False, name):
        """Difference, see `add`."""
        options = schema.SubOptionsT()
        options.fusedActivationFunction = _RELU if relu else _NONE
        return self._elementwise("SUB", x, y, options, name)

    def multiply(self, x, y, *, name):
        """Product, see `add`."""
        return self._elementwise("MUL", x, y, schema.MulOptionsT(), name)

    def concatenate(self, *values, name):
        """The channels of each, one after the other."""
        return self._concatenate(values, 3, name)

    def reshape(self, x, shape, *, name):
        """The same numbers in the same order as another shape."""
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self._op(
            "RESHAPE", [x, self._constant(np.array(shape, np.int32), f"{name}_shape")], shape, name, options
        )

    def part(self, x, begin, shape, *, name):
        """What lies in a box: its first corner, and its shape."""
        box = (
            self._constant(np.array(side, np.int32), f"{name}_{i}") for i, side in (("begin", begin), ("size", shape))
        )
        return self._op("SLICE", [x, *box], shape, name, schema.SliceOptionsT())

    def depth_to_space(self, x, *, name):
        """`[1, H, W, 4C]` -> `[1, 2H, 2W, C]`: C channels go to even rows and columns, the next to odd columns."""
        options = schema.DepthToSpaceOptionsT()
        options.blockSize = 2
        _, height, width, channels = x.shape
        return self._op("DEPTH_TO_SPACE", [x], (1, 2 * height, 2 * width, channels // 4), name, options)

    def _concatenate(self, values, axis, name):
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        return self._op("CONCATENATION", values, tuple(shape), name, options)

    def resize_nearest(self, x, like, *, name):
        """`x` at the height and width of `like`: output i reads input `floor(i * in / out)`."""
        return self._resize("RESIZE_NEAREST_NEIGHBOR", x, like, schema.ResizeNearestNeighborOptionsT(), name)

    def resize_align_corners(self, x, like, *, name):
        """`x` at the height and width of `like`, bilinear: the corner pixels keep their values."""
        options = schema.ResizeBilinearOptionsT()
        options.alignCorners = True
        return self._resize("RESIZE_BILINEAR", x, like, options, name)

    def softmax(self, x, *, name):
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self._op("SOFTMAX", [x], x.shape, name, options)

    def argmax(self, x, *, name):
        """Channel of the largest value: `[1, H, W]` int32."""
        options = schema.ArgMaxOptionsT()
        options.outputType = TENSOR_TYPES["int32"]
        axis = self._constant(np.array(3, np.int32), f"{name}_axis")
        return self._op("ARG_MAX", [x, axis], x.shape[:3], name, options, "int32")

    def cast(self, x, dtype, *, name):
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = TENSOR_TYPES[x.dtype], TENSOR_TYPES[dtype]
        return self._op("CAST", [x], x.shape, name, options, dtype)

    def _weight(self, array, name, stored=None):
        stored = stored or self._weights
        if stored == "float16":
            half = self._constant(array.astype(np.float16), f"{name}_half")
            return self._op("DEQUANTIZE", [half], array.shape, name)
        if stored == "int8" and array.ndim == 4:
            return self._scaled(*round_kernel(array), name)
        return self._constant(array.astype(np.float32), name)

    def _scaled(self, array, scale, name):
        """A constant of whole numbers, which stand for themselves times `scale`: `[O]`, one an output channel."""
        value = self._constant(array, name)
        self._set_quantization(value, scale, np.zeros(scale.size, np.int64))
        return value

    def _elementwise(self, code, x, y, options, name):
        if isinstance(y, np.ndarray):
            y = self._weight(y, f"{name}_constant")
        return self._op(code, [x, y], np.broadcast_shapes(x.shape, y.shape), name, options)

    def _resize(self, code, x, like, options, name):
        size = self._constant(np.array(like.shape[1:3], np.int32), f"{name}_size")
        return self._op(code, [x, size], (1, *like.shape[1:3], x.shape[3]), name, options)


def pairs_columns(x, strides, padded):
    """Whether a convolution is that of a photo, which 8 bits do better on pairs of columns."""
    return x.shape[3] == 3 and x.shape[2] % 2 == 0 and strides == 2 and not padded


def round_kernel(kernel, least=0.0):
    """An `[O, h, w, I]` kernel in 8 bits.

    Args:
        kernel: array.
        least: `[O]`, what each scale has to be at least.

    Returns:
        int8 array of -127..127, and the scales `[O]` float32: their product is the kernel, to half a scale. A channel
        of zeros gets the scale 1.
    """
    scale = np.maximum(np.abs(kernel).max((1, 2, 3)) / 127, least).astype(np.float32)
    scale[scale == 0] = 1
    return np.round(kernel / scale[:, np.newaxis, np.newaxis, np.newaxis]).astype(np.int8), scale
