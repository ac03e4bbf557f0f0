"""Builds a `.tflite` file op by op."""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.export import flatbuffer

_TENSOR_TYPES = {dtype: code for code, dtype in flatbuffer.DTYPES.items()}
_SAME, _VALID = schema.Padding.SAME, schema.Padding.VALID
_NONE, _RELU = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
# The first version of an op serves for all that is built here, but for this one: from half precision to float32.
_VERSIONS = {"DEQUANTIZE": 3}


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph: its place in the file, its shape and dtype."""

    index: int
    shape: tuple[int, ...]
    dtype: str


class Builder:
    """A TFLite graph under construction, NHWC.

    Each method adds the ops that it is named after and returns the `Value` that they compute. Tensors carry the name
    that is given to them; the names of inputs and outputs are also those of the signature.

    Args:
        weights: how they are stored. `"float32"`; `"float16"`: widened to float32 when the file is loaded; `"int8"`:
            kernels as whole numbers -127..127 times a scale for each output channel, which the runtime multiplies with
            activations that it quantises on the fly.
    """

    def __init__(self, weights="float32"):
        self._weights = weights
        self._tensors, self._operators, self._codes = [], [], {}
        # By convention buffer 0 is empty.
        self._buffers = [schema.BufferT()]
        self._inputs = {}

    def input(self, name, shape, dtype):
        """An input of the file."""
        self._inputs[name] = self._tensor(name, shape, dtype)
        return self._inputs[name]

    def conv(self, x, kernel, bias, strides=1, *, relu=False, name):
        """Convolution with PyTorch's padding `kernel // 2`.

        Args:
            x: `[1, H, W, I]`.
            kernel: `[h, w, I, O]` array, h and w odd.
            bias: `[O]` array.
            strides: step in both directions.
            relu: whether a ReLU follows.
            name: name of the result.
        """
        side = kernel.shape[0]
        if strides > 1 and side > 1:
            x = self.pad(x, side // 2, name=f"{name}_pad")
        options = schema.Conv2DOptionsT()
        options.padding = _SAME if strides == 1 else _VALID
        options.strideH = options.strideW = strides
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = _RELU if relu else _NONE
        _, height, width, _ = x.shape
        if strides > 1:
            height, width = ((size - side) // strides + 1 for size in (height, width))
        weights = self._weight(kernel.transpose(3, 0, 1, 2), f"{name}_kernel"), self._weight(bias, f"{name}_bias")
        return self._op("CONV_2D", [x, *weights], (1, height, width, kernel.shape[3]), name, options)

    def pad(self, x, amount, *, name):
        """Zeros on all four sides."""
        paddings = self._constant(np.array([[0, 0], [amount] * 2, [amount] * 2, [0, 0]], np.int32), f"{name}_sides")
        _, height, width, channels = x.shape
        shape = (1, height + 2 * amount, width + 2 * amount, channels)
        return self._op("PAD", [x, paddings], shape, name, schema.PadOptionsT())

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

    def multiply(self, x, y, *, name):
        """Product, see `add`."""
        return self._elementwise("MUL", x, y, schema.MulOptionsT(), name)

    def concatenate(self, x, y, *, name):
        """Channels of `x`, then those of `y`."""
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        return self._op("CONCATENATION", [x, y], (*x.shape[:3], x.shape[3] + y.shape[3]), name, options)

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
        options.outputType = _TENSOR_TYPES["int32"]
        axis = self._constant(np.array(3, np.int32), f"{name}_axis")
        return self._op("ARG_MAX", [x, axis], x.shape[:3], name, options, "int32")

    def cast(self, x, dtype, *, name):
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = _TENSOR_TYPES[x.dtype], _TENSOR_TYPES[dtype]
        return self._op("CAST", [x], x.shape, name, options, dtype)

    def finish(self, outputs):
        """The file.

        Args:
            outputs: dict, name -> `Value`.

        Returns:
            bytes.
        """
        graph = schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs = [value.index for value in self._inputs.values()]
        graph.outputs = [value.index for value in outputs.values()]
        model = schema.ModelT()
        model.version = 3
        model.operatorCodes = [_operator_code(name) for name in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        if self._weights == "float16":
            model.metadata = [self._metadata("reduced_precision_support", b"fp16accfp32")]
        flatbuffer.set_signature(model, list(self._inputs), list(outputs))
        return flatbuffer.pack(model)

    def _metadata(self, name, content):
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(content)
        return entry

    def _buffer(self, content):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self._buffers.append(buffer)
        return len(self._buffers) - 1

    def _tensor(self, name, shape, dtype, buffer=0):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), _TENSOR_TYPES[dtype]
        tensor.buffer, tensor.hasRank = buffer, True
        self._tensors.append(tensor)
        return Value(len(self._tensors) - 1, tuple(shape), dtype)

    def _constant(self, array, name):
        buffer = self._buffer(np.ascontiguousarray(array).tobytes())
        return self._tensor(name, array.shape, array.dtype.name, buffer)

    def _weight(self, array, name):
        if self._weights == "float16":
            half = self._constant(array.astype(np.float16), f"{name}_half")
            return self._op("DEQUANTIZE", [half], array.shape, name)
        if self._weights == "int8" and array.ndim == 4:
            return self._quantised_kernel(array, name)
        return self._constant(array.astype(np.float32), name)

    def _quantised_kernel(self, kernel, name):
        """`[O, h, w, I]` kernel as int8, one scale an output channel; a channel of zeros gets the scale 1."""
        scale = np.abs(kernel).max((1, 2, 3)) / 127
        scale[scale == 0] = 1
        rounded = np.round(kernel / scale[:, np.newaxis, np.newaxis, np.newaxis])
        value = self._constant(rounded.astype(np.int8), name)
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scale.astype(np.float32), np.zeros(scale.size, np.int64)
        self._tensors[value.index].quantization = quantization
        return value

    def _op(self, code, inputs, shape, name, options=None, dtype="float32"):
        output = self._tensor(name, shape, dtype)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = [value.index for value in inputs], [output.index]
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(operator)
        return output

    def _elementwise(self, code, x, y, options, name):
        if isinstance(y, np.ndarray):
            y = self._weight(y, f"{name}_constant")
        return self._op(code, [x, y], np.broadcast_shapes(x.shape, y.shape), name, options)

    def _resize(self, code, x, like, options, name):
        size = self._constant(np.array(like.shape[1:3], np.int32), f"{name}_size")
        return self._op(code, [x, size], (1, *like.shape[1:3], x.shape[3]), name, options)


def _operator_code(name):
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    # Readers from before 2020 know this field alone, a signed byte.
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = _VERSIONS.get(name, 1)
    return code
