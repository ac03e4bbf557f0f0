"""Puts a `.tflite` file together: tensors, constants, ops."""

import dataclasses

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.export import flatbuffer

TENSOR_TYPES = {dtype: code for code, dtype in flatbuffer.DTYPES.items()}

# (op, dtype of its first input, dtype of its second) -> version, where it is not the first: a runtime that is older
# than what an op does shall refuse the file.
_VERSIONS = {
    ("ADD", "int8", "int8"): 2,
    ("CONCATENATION", "int8", "int8"): 2,
    ("CONV_2D", "float32", "int8"): 5,
    ("CONV_2D", "int8", "int8"): 3,
    ("DEQUANTIZE", "float16", None): 3,
    ("DEQUANTIZE", "int8", None): 2,
    ("LOGISTIC", "int8", None): 2,
    ("MAX_POOL_2D", "int8", None): 2,
    ("MEAN", "int8", "int32"): 2,
    ("MUL", "int8", "int8"): 2,
    ("PAD", "int8", "int32"): 2,
    ("RESIZE_NEAREST_NEIGHBOR", "int8", "int32"): 2,
}


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph: its place in the file, its shape and dtype."""

    index: int
    shape: tuple[int, ...]
    dtype: str


class Writer:
    """A TFLite file of one subgraph under construction. Its parts are made by `Builder`."""

    def __init__(self):
        self._tensors, self._operators, self._codes = [], [], {}
        # By convention buffer 0 is empty.
        self._buffers = [schema.BufferT()]
        self._inputs = {}
        # Name -> bytes of the model's own list.
        self._metadata = {}

    def input(self, name, shape, dtype):
        """An input of the file."""
        self._inputs[name] = self._tensor(name, shape, dtype)
        return self._inputs[name]

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
        model.operatorCodes = [_operator_code(*code) for code in self._codes]
        model.subgraphs, model.buffers = [graph], self._buffers
        model.metadata = [self._entry(name, content) for name, content in self._metadata.items()]
        flatbuffer.set_signature(model, list(self._inputs), list(outputs))
        return flatbuffer.pack(model)

    def _entry(self, name, content):
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
        tensor.name, tensor.shape, tensor.type = name, list(shape), TENSOR_TYPES[dtype]
        tensor.buffer, tensor.hasRank = buffer, True
        self._tensors.append(tensor)
        return Value(len(self._tensors) - 1, tuple(shape), dtype)

    def _constant(self, array, name):
        buffer = self._buffer(np.ascontiguousarray(array).tobytes())
        return self._tensor(name, array.shape, array.dtype.name, buffer)

    def _set_quantization(self, value, scale, zero_point):
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = np.asarray(scale, np.float32), np.asarray(zero_point, np.int64)
        self._tensors[value.index].quantization = quantization

    def _op(self, code, inputs, shape, name, options=None, dtype="float32"):
        output = self._tensor(name, shape, dtype)
        operator = schema.OperatorT()
        dtypes = [value.dtype for value in inputs[:2]] + [None]
        code = code, _VERSIONS.get((code, dtypes[0], dtypes[1]), 1)
        operator.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        operator.inputs, operator.outputs = [value.index for value in inputs], [output.index]
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._operators.append(operator)
        return output


def _operator_code(name, version):
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    # Readers from before 2020 know this field alone, a signed byte.
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code
