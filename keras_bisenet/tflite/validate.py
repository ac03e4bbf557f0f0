"""Validates `.tflite` files: their references point into the file, and their numbers are within bounds.

LiteRT is native code. It makes sure that a file is a flatbuffer, but trusts much of what stands in it: a padding or a
tensor that does not exist can end the process. What the file alone tells is told here, before anything is allocated.
That is no proof: open files of strangers in a process of its own, with limits on memory and time.
"""

import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.utils.text_files import shown

OP_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

# Networks for photos stay far below each of these: tensors, ops or buffers of a file; sides of a tensor; bytes of all
# names; bytes of a file, and of all tensors that are in use at a time; strides, dilations and sides of a window.
MAX_ITEMS = 10_000
MAX_RANK = 6
MAX_NAMES = 2**24
MAX_BYTES = 2**31
MAX_STEP = 2**12

# Code of a tensor's type -> bits of an element. Text, and what only other kinds of networks have, is missing.
_BITS = {
    getattr(schema.TensorType, name): bits
    for bits, names in {
        4: ("INT4",),
        8: ("BOOL", "INT8", "UINT8"),
        16: ("BFLOAT16", "FLOAT16", "INT16", "UINT16"),
        32: ("FLOAT32", "INT32", "UINT32"),
        64: ("FLOAT64", "INT64", "UINT64"),
    }.items()
    for name in names
}
_WHOLE = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}
_LIMITS = {schema.TensorType.INT8: (-128, 127), schema.TensorType.UINT8: (0, 255)}
# Control flow, state, sequences, text and chance have no place in a network for photos.
_STRANGE = (
    *("CALL", "CALL_ONCE", "DELEGATE", "IF", "PLACEHOLDER_FOR_GREATER_OP_CODES", "WHILE"),
    *("ASSIGN_VARIABLE", "READ_VARIABLE", "VAR_HANDLE"),
    *("HASHTABLE", "HASHTABLE_FIND", "HASHTABLE_IMPORT", "HASHTABLE_LOOKUP", "HASHTABLE_SIZE"),
    *("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN", "LSTM", "REVERSE_SEQUENCE", "RNN", "SVDF"),
    *("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"),
    *("CONCAT_EMBEDDINGS", "EMBEDDING_LOOKUP", "EMBEDDING_LOOKUP_SPARSE", "LSH_PROJECTION", "SKIP_GRAM"),
    *("MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM"),
)
# Ops that LiteRT runs without looking -> how many inputs they need; of some, the class of their options.
_INPUTS = {"BATCH_MATMUL": 2, "SLICE": 3, "SPLIT": 2, "STRIDED_SLICE": 4}
_CLASSES = {"SPLIT": schema.SplitOptionsT, "STRIDED_SLICE": schema.StridedSliceOptionsT}
# Ops that divide by the scales of 8-bit numbers.
_SCALED = ("ADD", "SUB", "SQUARED_DIFFERENCE", "EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
_SHAPE_STAYS = ("CAST", "DEQUANTIZE", "QUANTIZE")
# Ops whose second input, if it is a constant, gives the size of their output.
_PADS = ("MIRROR_PAD", "PAD", "PADV2")
_RESIZES = ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
# Ops whose inputs from the third on may be left out.
_WITH_BIAS = ("CONV_2D", "CONV_3D", "CONV_3D_TRANSPOSE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
# Options that LiteRT does not check, of whatever op -> lowest and highest value.
_OPTIONS = {
    "padding": (0, 1),
    "fusedActivationFunction": (0, 5),
    **dict.fromkeys(("strideW", "strideH", "strideD", "filterWidth", "filterHeight", "blockSize"), (1, MAX_STEP)),
    **dict.fromkeys(("dilationWFactor", "dilationHFactor", "dilationDFactor"), (1, MAX_STEP)),
}


class InvalidModelError(ValueError):
    """A file is invalid. The message says what was found and what was expected, without the name of the file."""


def check_counts(content):
    """Makes sure that a file can be unpacked in the time and memory that its size explains.

    In a flatbuffer a thousand places may point at the same megabyte; unpacked, each has its own.

    Args:
        content: bytes of the file.

    Raises:
        InvalidModelError: there is too much of something.
        Exception: an offset is wrong.
    """
    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() != 1:
        raise InvalidModelError(f"has {model.SubgraphsLength()} subgraphs; expected 1")
    if model.ExternalBuffersLength() or model.ExternalBufferGroupsLength():
        raise InvalidModelError("has its weights in other files; expected them in it")
    graph = model.Subgraphs(0)
    named = [
        ("operator codes", model.OperatorCodesLength(), lambda i: model.OperatorCodes(i).CustomCode()),
        ("metadata entries", model.MetadataLength(), lambda i: model.Metadata(i).Name()),
        ("tensors", graph.TensorsLength(), lambda i: graph.Tensors(i).Name()),
        ("signatures", model.SignatureDefsLength(), lambda i: model.SignatureDefs(i).SignatureKey()),
    ]
    for i in range(min(model.SignatureDefsLength(), MAX_ITEMS)):
        signature = model.SignatureDefs(i)
        named.append(("inputs", signature.InputsLength(), lambda j, signature=signature: signature.Inputs(j).Name()))
        named.append(("outputs", signature.OutputsLength(), lambda j, signature=signature: signature.Outputs(j).Name()))
    others = [
        ("buffers", model.BuffersLength()),
        ("ops", graph.OperatorsLength()),
        ("inputs", graph.InputsLength()),
        ("outputs", graph.OutputsLength()),
        ("names in its signatures", sum(count for what, count, _ in named[4:])),
    ]
    for what, count in [*((what, count) for what, count, _ in named), *others]:
        _check_most(what, count, MAX_ITEMS)
    letters = tensors = 0
    for _, count, name in named:
        for i in range(count):
            letters += len(name(i) or b"")
            _check_most("bytes of names", letters, MAX_NAMES)
    for i in range(graph.TensorsLength()):
        tensor = graph.Tensors(i)
        _check_most("sides of a tensor", tensor.ShapeLength(), MAX_RANK)
        if tensor.Sparsity() is not None or tensor.VariantTensorsLength():
            raise InvalidModelError("has sparse or variant tensors; expected dense ones")
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        tensors += operator.InputsLength() + operator.OutputsLength()
        _check_most("inputs and outputs of ops", tensors, 10 * MAX_ITEMS)
        # Of all options these alone hold text.
        if operator.BuiltinOptionsType() == schema.BuiltinOptions.VarHandleOptions or operator.BuiltinOptions2Type():
            raise InvalidModelError("has ops with variables, or of StableHLO; expected those of a network for photos")


def check(model, size):
    """Makes sure that nothing in a file points beyond what is there.

    Args:
        model: what `flatbuffer.unpack` makes of a file that `check_counts` let pass.
        size: bytes of the file.

    Raises:
        InvalidModelError: something does.
    """
    (graph,) = model.subgraphs
    codes = [_code_name(code) for code in model.operatorCodes or ()]
    sizes = [_check_tensor(tensor, model.buffers or (), size) for tensor in graph.tensors]
    constant = [_stored(model.buffers[tensor.buffer]) is not None for tensor in graph.tensors]
    computed = list(constant)
    for index in graph.inputs:
        _check_index("inputs", "tensor", index, len(sizes))
        if computed[index]:
            raise InvalidModelError(f"has tensor {index} as an input, which is a constant or is there twice")
        computed[index] = True
    for number, operator in enumerate(graph.operators):
        _check_index("ops", "operator code", operator.opcodeIndex, len(codes))
        name = codes[operator.opcodeIndex]
        _check_operator(f"op {number} ({name})", operator, name, computed)
        _check_tensors(f"op {number} ({name})", operator, name, model)
    for index in graph.outputs:
        _check_index("outputs", "tensor", index, len(sizes))
        if not computed[index]:
            raise InvalidModelError(f"returns tensor {index}, which nothing computes")
    _check_memory(graph, sizes, constant)


def _check_most(what, count, most):
    if count > most:
        raise InvalidModelError(f"has {count} {what}; expected at most {most}")


def _check_index(where, what, index, count):
    if not 0 <= index < count:
        raise InvalidModelError(f"names {what} {index} in its {where}, and has {count}")


def _code_name(code):
    # Codes past 127 live in the new field; older writers fill the old one alone.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = OP_NAMES.get(number)
    if name == "CUSTOM":
        custom = (code.customCode or b"").decode(errors="replace")
        raise InvalidModelError(f"uses the custom op {shown(custom)}; expected built-in ones")
    if name is None or name in _STRANGE or name.startswith("STABLEHLO_"):
        raise InvalidModelError(f"uses the op {name or number}; expected those of a network for photos")
    return name


def _stored(buffer):
    """Number of bytes of a constant; None if it is none."""
    if buffer.offset > 1 and buffer.size > 1:
        return buffer.size
    return None if buffer.data is None else len(buffer.data)


def _check_tensor(tensor, buffers, file_size):
    """Returns the bytes of a tensor."""
    name = shown(tensor.name.decode())
    _check_index("tensors", "buffer", tensor.buffer, len(buffers))
    if tensor.type not in _BITS:
        raise InvalidModelError(f"has tensor {name} of type {tensor.type}; expected numbers")
    shape = tensor.shape.tolist()
    signature = shape if tensor.shapeSignature is None else tensor.shapeSignature.tolist()
    is_open = [new != old for new, old in zip(signature, shape, strict=True)]
    if min(shape, default=0) < 0 or any(
        side != -1 for side, differs in zip(signature, is_open, strict=True) if differs
    ):
        raise InvalidModelError(
            f"has tensor {name} of shape {shape}, signature {signature}; expected sides of at least 0"
        )
    size = (math.prod(shape) * _BITS[tensor.type] + 7) // 8
    _check_most(f"bytes in tensor {name}", size, MAX_BYTES)
    buffer = buffers[tensor.buffer]
    stored = _stored(buffer)
    if stored is not None and stored != size:
        raise InvalidModelError(f"has {stored} bytes for tensor {name} of shape {shape}; expected {size}")
    if buffer.offset > 1 and buffer.offset + buffer.size > file_size:
        raise InvalidModelError(f"has tensor {name} end at byte {buffer.offset + buffer.size}, and has {file_size}")
    _check_quantization(name, shape, tensor.type, tensor.quantization)
    return size


def _check_quantization(name, shape, kind, parameters):
    if parameters is None or parameters.scale is None or not len(parameters.scale):
        return
    scale, zero_point = parameters.scale, parameters.zeroPoint
    count, axis = len(scale), parameters.quantizedDimension
    if count > 1 and not (0 <= axis < len(shape) and count == shape[axis]):
        raise InvalidModelError(f"has {count} scales for tensor {name} of shape {shape}; expected one for each channel")
    if zero_point is None or len(zero_point) not in (1, count):
        raise InvalidModelError(f"has scales for tensor {name}, but not as many zero points")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise InvalidModelError(f"has scales for tensor {name} that are no positive numbers")
    low, high = _LIMITS.get(kind, (-(2**31), 2**31 - 1))
    if zero_point.min() < low or zero_point.max() > high:
        raise InvalidModelError(f"has a zero point for tensor {name} that its type does not hold")


def _check_operator(called, operator, name, computed):
    """Checks an op, and notes in `computed` that its outputs are there from now on."""
    inputs, outputs = operator.inputs.tolist(), operator.outputs.tolist()
    for place, index in enumerate(inputs):
        if index == -1 and place >= 2 and name in _WITH_BIAS:
            continue
        _check_index(f"{called} inputs", "tensor", index, len(computed))
        if not computed[index]:
            raise InvalidModelError(f"has {called} take tensor {index} before it is computed")
    if len(inputs) < _INPUTS.get(name, 1) or not outputs:
        raise InvalidModelError(f"has {called} with {len(inputs)} inputs and {len(outputs)} outputs")
    if not isinstance(operator.builtinOptions, _CLASSES.get(name, object)):
        raise InvalidModelError(f"has {called} without its options")
    for index in outputs:
        _check_index(f"{called} outputs", "tensor", index, len(computed))
        if computed[index]:
            raise InvalidModelError(f"has {called} compute tensor {index}, which is there already")
        computed[index] = True
    for option, (low, high) in _OPTIONS.items():
        value = getattr(operator.builtinOptions, option, low)
        if not low <= value <= high:
            raise InvalidModelError(f"has {called} with {option} {value}; expected {low} to {high}")


def _check_tensors(called, operator, name, model):
    """Checks that the tensors of an op agree as LiteRT takes for granted."""
    (graph,) = model.subgraphs
    first, *others = (graph.tensors[index] for index in operator.inputs if index >= 0)
    output = graph.tensors[operator.outputs[0]]
    if name in _SCALED:
        for tensor in (first, *others, output):
            scale = None if tensor.quantization is None else tensor.quantization.scale
            if tensor.type in _LIMITS and (scale is None or not len(scale)):
                raise InvalidModelError(f"has {called} take 8-bit numbers without a scale")
    expected = None
    if name in _SHAPE_STAYS:
        expected = first.shape
    elif others and output.shapeSignature is None and (name in _PADS or name in _RESIZES):
        numbers = constant(model, others[0])
        if numbers is not None and name in _PADS and numbers.size == 2 * len(first.shape):
            expected = first.shape + numbers.reshape(-1, 2).sum(1)
        elif numbers is not None and name in _RESIZES and len(first.shape) == 4 and numbers.size == 2:
            expected = [first.shape[0], *numbers, first.shape[3]]
    if expected is not None and list(output.shape) != list(expected):
        found, expected = ([int(side) for side in shape] for shape in (output.shape, expected))
        raise InvalidModelError(f"has {called} give the shape {found}; expected {expected}")


def constant(model, tensor):
    """Whole numbers of a `schema.TensorT` of a `schema.ModelT`, as int64 with one axis; None if it is no constant."""
    data, dtype = model.buffers[tensor.buffer].data, _WHOLE.get(tensor.type)
    return None if data is None or dtype is None else np.frombuffer(data, dtype).astype(np.int64)


def _check_memory(graph, sizes, constant):
    """Adds up the tensors that are needed at a time."""
    end = len(graph.operators)
    last = dict.fromkeys(graph.outputs.tolist(), end)
    for number, operator in reversed(list(enumerate(graph.operators))):
        for index in (*operator.outputs.tolist(), *operator.inputs.tolist()):
            last.setdefault(index, number)
    ending = [[] for _ in range(end + 1)]
    for index, number in last.items():
        ending[number].append(index)
    held = sum(sizes[index] for index in graph.inputs)
    for number, operator in enumerate(graph.operators):
        held += sum(sizes[index] for index in operator.outputs)
        _check_most("bytes of tensors in use at a time", held, MAX_BYTES)
        held -= sum(sizes[index] for index in ending[number] if index >= 0 and not constant[index])
