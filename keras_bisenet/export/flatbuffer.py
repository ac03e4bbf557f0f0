"""Reads and edits `.tflite` files, through the schema's object interface."""

import collections
import os
import pathlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.export import soundness
from keras_bisenet.export.errors import ExportError

SIGNATURE = "serving_default"

# Code of a tensor's type in the file -> its dtype.
DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}


def read(path):
    """Reads a file that somebody gives.

    Returns:
        Its bytes, and what `describe` says of them.

    Raises:
        ExportError: see `load`.
    """
    content, model = load(path)
    return content, _describe(model)


def load(path):
    """Reads a file that somebody gives, and makes sure that it is sound.

    Returns:
        Its bytes, and what `unpack` makes of them.

    Raises:
        ExportError: the file is missing, damaged, or no `.tflite` of a network for photos.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            is_model, size = file.read(8)[4:] == b"TFL3", os.fstat(file.fileno()).st_size
            file.seek(0)
            content = file.read() if is_model and size < soundness.MAX_BYTES else b""
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_model:
        raise ExportError(f"{path}: is not a TFLite model")
    if not content:
        raise ExportError(f"{path}: has {size} bytes; expected less than {soundness.MAX_BYTES}")
    try:
        soundness.check_counts(content)
        model = unpack(content)
        soundness.check(model, len(content))
    except soundness.UnsoundError as error:
        raise ExportError(f"{path}: {error}: is it a network for photos, and whole?") from error
    except Exception as error:  # the reader trusts the offsets in the file, and a wrong one fails in any way
        raise ExportError(f"{path}: is truncated or damaged; export it again") from error
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
    return soundness.OP_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]


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


def expose(content, name):
    """Makes an inner tensor another output, behind those of the file; no weight and no op changes.

    Args:
        content: bytes of a `.tflite` file with one subgraph.
        name: name of the tensor. If it is an output already, the bytes come back unchanged.

    Raises:
        KeyError: there is no such tensor.
    """
    model = unpack(content)
    (graph,) = model.subgraphs
    indices = {tensor.name.decode(): index for index, tensor in enumerate(graph.tensors)}
    if indices[name] in graph.outputs:
        return content
    graph.outputs = [*graph.outputs, indices[name]]
    model.signatureDefs = []
    return pack(model)


def expose_all(content):
    """Makes what every op computes an output; see `expose`."""
    model = unpack(content)
    (graph,) = model.subgraphs
    graph.outputs = [index for operator in graph.operators for index in operator.outputs]
    model.signatureDefs = []
    return pack(model)


def tensors(graph, indices):
    """Some tensors of a `schema.SubGraphT`: a list of `{name, shape, dtype}`."""
    return [
        {"name": tensor.name.decode(), "shape": tensor.shape.tolist(), "dtype": DTYPES[tensor.type]}
        for tensor in (graph.tensors[index] for index in indices)
    ]


def describe(content):
    """Says what a `.tflite` file holds.

    Returns:
        dict: `inputs` and `outputs`: lists of `{name, shape, dtype}`; `ops`: op name -> count, the commonest first;
        `weights`: dtype -> bytes of the constants; `activations`: dtype -> how many ops compute it; `float_ops`: like
        `ops`, those that compute float32; `kind`: what the file is, in words, whatever it is called.
    """
    return _describe(unpack(content))


def _describe(model):
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
    return {
        "inputs": tensors(graph, graph.inputs),
        "outputs": tensors(graph, graph.outputs),
        "ops": dict(ops.most_common()),
        "weights": dict(weights.most_common()),
        "activations": dict(activations.most_common()),
        "float_ops": dict((+float_ops).most_common()),
        "kind": _kind(weights, activations, +float_ops),
    }


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
