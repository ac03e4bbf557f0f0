"""Reads and edits `.tflite` files, through the schema's object interface."""

import collections
import contextlib
import os
import pathlib
import struct

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.tflite import validate
from keras_bisenet.utils.errors import ModelError

SIGNATURE = "serving_default"

# Code of a tensor's type in the file -> its dtype.
DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}

# Ops whose first input is the scores of each class, and ops that change only the dtype or the shape.
_SCORES_READERS = ("ARG_MAX", "SOFTMAX")
_VALUES_STAY = ("CAST", "DEQUANTIZE", "EXPAND_DIMS", "QUANTIZE", "RESHAPE", "SQUEEZE")


def load(path):
    """Reads and validates a file.

    Returns:
        Its bytes, and what `unpack` makes of them.

    Raises:
        ModelError: the file is missing, damaged, or no `.tflite` of a network for photos.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            is_model, size = file.read(8)[4:] == b"TFL3", os.fstat(file.fileno()).st_size
            file.seek(0)
            content = file.read() if is_model and size < validate.MAX_BYTES else b""
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_model:
        raise ModelError(f"{path}: is not a TFLite model")
    if not content:
        raise ModelError(f"{path}: has {size} bytes; expected less than {validate.MAX_BYTES}")
    try:
        validate.check_counts(content)
        model = unpack(content)
        validate.check(model, len(content))
        signature_names(model)
    except validate.InvalidModelError as error:
        raise ModelError(f"{path}: {error}: is it a network for photos, and whole?") from error
    except Exception as error:  # the reader trusts the offsets in the file, and a wrong one fails in any way
        raise ModelError(f"{path}: is truncated or damaged; export it again") from error
    return content, model


def unpack(content):
    """The file as a `schema.ModelT`; weights stay views of the bytes."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    # What is empty may have been left out.
    for graph in model.subgraphs:
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        for tensor in graph.tensors:
            tensor.name = tensor.name or b""
        for each, fields in ((graph.tensors, ["shape"]), ([graph, *graph.operators], ["inputs", "outputs"])):
            for holder in each:
                for field in fields:
                    if getattr(holder, field) is None:
                        setattr(holder, field, np.zeros(0, np.int32))
    return model


class _AlignedBuilder(flatbuffers.Builder):
    """Lets buffers begin at multiples of 16 bytes, as the schema demands; the generated Python forgets it."""

    def StartVector(self, size, count, alignment):  # noqa: N802
        return super().StartVector(size, count, 16 if size == 1 else alignment)


def pack(model):
    """A `schema.ModelT` as bytes of a file."""
    builder = _AlignedBuilder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def op_name(model, operator):
    """The name of an op of a `schema.ModelT`, such as `"CONV_2D"`."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Codes past 127 live in the new field; older writers fill the old one alone.
    return validate.OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


def set_signature(model, inputs, outputs):
    """Gives a model the signature `serving_default`.

    Args:
        model: `schema.ModelT` with one subgraph.
        inputs: names of its inputs, in order.
        outputs: names of its outputs, in order.
    """
    (graph,) = model.subgraphs
    maps = []
    for indices, names in ((graph.inputs, inputs), (graph.outputs, outputs)):
        maps.append([])
        for index, name in zip(indices, names, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name, int(index)
            maps[-1].append(entry)
    signature = schema.SignatureDefT()
    signature.signatureKey = SIGNATURE
    signature.inputs, signature.outputs = maps
    model.signatureDefs = [signature]


def read_constants_late(model):
    """Moves each op that reads constants alone, such as the DEQUANTIZE of a float16 kernel, to its first reader.

    TFLiteConverter writes them first, before an op that the XNNPACK delegate leaves to the runtime. The delegate then
    takes them as a part of their own, apart from the convolutions that read them: 4 parts of a float16 file, not 3.

    Args:
        model: `schema.ModelT` with one subgraph, whose operators are put into another order.
    """
    (graph,) = model.subgraphs
    computed = set(graph.inputs) | {index for operator in graph.operators for index in operator.outputs}
    constant_ops = [operator for operator in graph.operators if computed.isdisjoint(operator.inputs)]
    makers = {index: operator for operator in constant_ops for index in operator.outputs}
    ordered = []
    for operator in graph.operators:
        if operator not in constant_ops:
            ordered += [makers[index] for index in operator.inputs if index in makers] + [operator]
    # An op with several readers stays at the first of them, one without any at the end.
    graph.operators = list(dict.fromkeys(ordered + constant_ops))


def add_metadata(model, name, content):
    """Adds an entry to the model's own list of metadata.

    Args:
        model: `schema.ModelT`.
        name: str, of the entry.
        content: bytes.
    """
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers = [*model.buffers, buffer]
    model.metadata = [*(model.metadata or ()), entry]


def signature_names(model):
    """Names of the inputs and outputs of a model, as its signature has them.

    `TFLiteConverter` calls the tensors `"serving_default_image:0"` or `"StatefulPartitionedCall_1:2"` and puts outputs
    in any order; the names that its caller chose are only in the signature.

    Args:
        model: `schema.ModelT` with one subgraph.

    Returns:
        Two dicts, of the inputs and of the outputs: int tensor index -> str name, in the order of the signature.
        The signature is `serving_default`, or the only one. A tensor that it does not cover comes behind the others,
        with the name of the tensor. Of several names of one tensor the first is taken; entries for tensors that are no
        input or output are ignored.

    Raises:
        UnicodeDecodeError: a name is not UTF-8.
    """
    (graph,) = model.subgraphs
    signatures = {_text(signature.signatureKey): signature for signature in model.signatureDefs or ()}
    signature = signatures.get(SIGNATURE, next(iter(signatures.values())) if len(signatures) == 1 else None)
    if signature is None or signature.subgraphIndex:
        signature = schema.SignatureDefT()
    sides = []
    for indices, entries in ((graph.inputs, signature.inputs), (graph.outputs, signature.outputs)):
        # A dict, for it keeps the order and is searched fast: a stranger's file may have thousands of names.
        own_names = {int(index): _text(graph.tensors[index].name) for index in indices}
        names = {}
        for entry in entries or ():
            if entry.tensorIndex in own_names and entry.name:
                names.setdefault(entry.tensorIndex, _text(entry.name))
        sides.append(names | {index: name for index, name in own_names.items() if index not in names})
    return sides[0], sides[1]


def find_scores(model, index):
    """Finds the scores of each class behind an output: what its ARG_MAX or SOFTMAX takes.

    Args:
        model: `schema.ModelT` with one subgraph.
        index: tensor index of an output that is labels or probabilities.

    Returns:
        int tensor index of the scores: float, or 8-bit with quantization parameters. None if neither op computes the
        output, alone or with ops behind it that change only dtype or shape.
    """
    operator = computed_by(model, index)
    return int(operator.inputs[0]) if operator and op_name(model, operator) in _SCORES_READERS else None


def class_axis(model, index):
    """Finds the axis of the scores behind an output, see `find_scores`, over which its ARG_MAX looks for the largest.

    Args:
        model: `schema.ModelT` with one subgraph.
        index: tensor index of the output.

    Returns:
        int, below 0 if counted from the end; None if there is no ARG_MAX, or its axis is no constant.
    """
    operator = computed_by(model, index)
    if operator is None or op_name(model, operator) != "ARG_MAX" or len(operator.inputs) != 2:
        return None
    axis = validate.constant(model, model.subgraphs[0].tensors[operator.inputs[1]])
    return int(axis[0]) if axis is not None and axis.size == 1 else None


def find_coarse(model, index):
    """Finds the scores that a network has before it resizes them, corners to corners.

    Args:
        model: `schema.ModelT` with one subgraph.
        index: tensor index of the scores.

    Returns:
        int tensor index; None if no such resize computes the scores.
    """
    operator = computed_by(model, index)
    if operator is None or op_name(model, operator) != "RESIZE_BILINEAR" or not operator.builtinOptions.alignCorners:
        return None
    return int(operator.inputs[0])


def computed_by(model, index):
    """Finds the op that computes the values of a tensor: alone, or with ops behind it that change only dtype or shape.

    Args:
        model: `schema.ModelT` with one subgraph.
        index: tensor index.

    Returns:
        `schema.OperatorT` with an input; None if there is none.
    """
    (graph,) = model.subgraphs
    producers = {int(output): operator for operator in graph.operators for output in operator.outputs}
    # As many steps as there are ops: a damaged file may have a cycle.
    for _ in graph.operators:
        operator = producers.get(int(index))
        if operator is None or not len(operator.inputs):
            return None
        if op_name(model, operator) not in _VALUES_STAY:
            return operator
        index = operator.inputs[0]
    return None


def tensors(model, names):
    """Some tensors of a `schema.ModelT` with one subgraph.

    Args:
        model: `schema.ModelT`.
        names: dict, tensor index -> name, as `signature_names` gives it.

    Returns:
        List of `{name: str, shape: list of int, dtype: str}`, in the order of `names`.
    """
    (graph,) = model.subgraphs
    return [
        {"name": name, "shape": graph.tensors[index].shape.tolist(), "dtype": DTYPES[graph.tensors[index].type]}
        for index, name in names.items()
    ]


def with_outputs(content, indices):
    """A file that returns more of its tensors.

    Its weights are not read: a list of outputs is laid behind the file, and the one place that tells where that list is
    gets another offset. No signature names the new outputs.

    Args:
        content: bytes of a file with one subgraph that `load` has read.
        indices: int indices of tensors.

    Returns:
        Bytes.

    Raises:
        validate.InvalidModelError: the file keeps something else in that place.
    """
    # The generated reader's own table: it has no words for where a field is. 8 is that of SubGraph.outputs.
    graph = schema.Model.GetRootAs(content, 0).Subgraphs(0)
    outputs = [*map(int, graph.OutputsAsNumpy()), *indices]
    field = graph._tab.Pos + graph._tab.Offset(8)
    longer = bytearray(content) + bytes(-len(content) % 4)
    struct.pack_into("<I", longer, field, len(longer) - field)
    longer += struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    edited = bytes(longer)
    with contextlib.suppress(Exception):  # as in `load`
        model = unpack(edited)
        validate.check(model, len(edited))
        if model.subgraphs[0].outputs.tolist() == outputs:
            return edited
    raise validate.InvalidModelError("keeps something else where its list of outputs begins; export it again")


def quantization(tensor):
    """What the integers of a tensor stand for: (value - zero point) * scale.

    Args:
        tensor: `schema.TensorT`.

    Returns:
        (float scale, int zero point); (0.0, 0) if they stand for themselves. Of a scale for each channel the first.
    """
    parameters = tensor.quantization
    if parameters is None or parameters.scale is None or not len(parameters.scale):
        return 0.0, 0
    return float(parameters.scale[0]), int(parameters.zeroPoint[0])


def dequantize(array, parameters):
    """The real numbers that an array stands for, float32.

    Args:
        array: of any shape and dtype.
        parameters: (scale, zero point), see `quantization`.
    """
    array = array.astype(np.float32, copy=False)
    scale, zero_point = parameters
    return (array - zero_point) * scale if scale else array


def describe(content):
    """Describes a `.tflite` file, see `describe_model`.

    Args:
        content: bytes of the file.
    """
    return describe_model(unpack(content))


def describe_model(model):
    """Describes a `.tflite` file that is unpacked already.

    Args:
        model: `schema.ModelT` with one subgraph.

    Returns:
        dict: `inputs` and `outputs`: lists of `{name, shape, dtype}`, with the names and in the order of the signature
        (see `signature_names`); `ops`: op name -> count, the commonest first; `weights`: dtype -> bytes of the
        constants; `activations`: dtype -> how many ops compute it; `float_ops`: like `ops`, those that compute float32;
        `kind`: weights and activations in words.
    """
    (graph,) = model.subgraphs
    ops = collections.Counter(op_name(model, operator) for operator in graph.operators)

    weights, activations, float_ops = collections.Counter(), collections.Counter(), collections.Counter()
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None:
            weights[DTYPES[tensor.type]] += len(data)
    for operator in graph.operators:
        dtypes = [DTYPES[graph.tensors[index].type] for index in operator.outputs]
        activations.update(dtypes)
        float_ops[op_name(model, operator)] += "float32" in dtypes
    inputs, outputs = (tensors(model, names) for names in signature_names(model))
    return {
        "inputs": inputs,
        "outputs": outputs,
        "ops": dict(ops.most_common()),
        "weights": dict(weights.most_common()),
        "activations": dict(activations.most_common()),
        "float_ops": dict((+float_ops).most_common()),
        "kind": _kind(weights, activations, +float_ops),
    }


def _text(name):
    """A name as str: `unpack` gives bytes; a model built in Python has str or None."""
    return name.decode() if isinstance(name, bytes) else name or ""


def _kind(weights, activations, float_ops):
    if not weights or not activations:
        return "no network"
    stored, computed = weights.most_common(1)[0][0], activations.most_common(1)[0][0]
    kind = f"{stored} weights, {computed} activations"
    if stored == "int8" and computed == "float32":
        kind += " (dynamic range, not full int8)"
    elif computed != "float32" and float_ops:
        kind += f"; float32 in {', '.join(f'{op} {count}' for op, count in float_ops.most_common())}"
    return kind
