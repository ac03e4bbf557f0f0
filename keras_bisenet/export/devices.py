"""Which ops of a `.tflite` file an accelerator does not take, by its public list of ops.

A list is what a vendor states, not a test: no such device was at hand. What its compiler makes of a file also depends
on sizes, chip and version. docs/DEVICES.md is written by `python -m keras_bisenet.export.devices docs/DEVICES.md`.
"""

import collections
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping

import numpy as np

from keras_bisenet.tflite import flatbuffer

_UNLISTED = "not in its list"
# Reasons with more kinds of ops than these are told by their number.
_MOST_KINDS = 4
_START, _END = "<!-- generated -->\n", "<!-- end of generated -->\n"


@dataclasses.dataclass(frozen=True)
class Operation:
    """An op of a file.

    Attributes:
        name: such as `"CONV_2D"`.
        version: of the op.
        options: its builtin options, of the schema.
        dtypes: of its inputs and outputs that are no constants.
        kernel: shape and dtype of its second input if that is a constant, else None.
        has_constant: whether an input is a constant.
    """

    name: str
    version: int
    options: object
    dtypes: tuple[str, ...]
    kernel: tuple[tuple[int, ...], str] | None
    has_constant: bool


# Gives the reason why an accelerator does not take an op that is in its list; None if it does.
Limit = Callable[[Operation], str | None]


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """What an accelerator takes.

    Attributes:
        source: where its list is.
        note: what holds for all files, in a sentence.
        ops: names of the ops in the list.
        limits: name of an op, or `""` for any -> what is said against some of that name.
    """

    source: str
    note: str
    ops: frozenset[str]
    limits: Mapping[str, Limit] = dataclasses.field(default_factory=dict)


def _floats(operation):
    return "float tensors" if any(dtype.startswith("float") for dtype in operation.dtypes) else None


def _constants(operation):
    return "a constant among its inputs" if operation.has_constant else None


def _sampling(operation):
    # The options came with version 3, which the compiler does not know.
    return "align_corners or half_pixel_centers" if operation.version > 2 else None


def _cast(operation):
    return None if {*operation.dtypes} <= {"float32", "int32", "bool"} else f"from {' to '.join(operation.dtypes)}"


def _pointwise_stride(operation):
    shape, dtype = operation.kernel or ((), "")
    if shape[1:3] == (1, 1) and dtype == "int8" and max(operation.options.strideH, operation.options.strideW) > 1:
        return "loses the stride of a 1x1 convolution with 8-bit kernels"
    return None


_CODE = "https://github.com/google-ai-edge/LiteRT/blob/main"
# Of each list the ops that a network of this package could have.
ACCELERATORS = {
    "Coral Edge TPU": Accelerator(
        "https://coral.ai/docs/edgetpu/models-intro/#supported-operations",
        "Takes 8-bit integers alone, and runs all behind the first op that it does not take on the CPU.",
        frozenset(
            {
                *("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"),
                *("LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD", "QUANTIZE", "RESHAPE"),
                *("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT"),
                *("STRIDED_SLICE", "SUB", "TANH", "TRANSPOSE", "TRANSPOSE_CONV"),
            }
        ),
        {
            "": _floats,
            "CONCATENATION": _constants,
            "RESIZE_BILINEAR": _sampling,
            "RESIZE_NEAREST_NEIGHBOR": _sampling,
        },
    ),
    "Qualcomm HTP": Accelerator(
        f"{_CODE}/litert/vendors/qualcomm/compiler/Qualcomm_QNN_Compiler.md",
        "Computes floats in float16. The list is that of LiteRT's compiler for QNN.",
        frozenset(
            {
                *("ADD", "ARG_MAX", "AVERAGE_POOL_2D", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D"),
                *("DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D"),
                *("MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "QUANTIZE", "RELU", "RESHAPE", "RESIZE_BILINEAR"),
                *("RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "SUB"),
                *("SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV"),
            }
        ),
        {"": lambda operation: _floats(operation) and "float tensors, on chips without float16"},
    ),
    "MediaTek Neuron": Accelerator(
        f"{_CODE}/litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md",
        "The list is that of LiteRT's compiler for NeuroPilot, which also asks the chip's own.",
        frozenset(
            {
                *("ADD", "AVERAGE_POOL_2D", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE"),
                *("DIV", "FULLY_CONNECTED", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD"),
                *("PADV2", "QUANTIZE", "RELU", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE"),
                *("SOFTMAX", "SPLIT", "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV"),
            }
        ),
    ),
    "LiteRT GPU delegate": Accelerator(
        f"{_CODE}/tflite/delegates/gpu/common/model_builder.cc",
        "Computes 8-bit files in float. The delegate of LiteRT.js, for WebGPU, takes more.",
        frozenset(
            {
                *("ADD", "AVERAGE_POOL_2D", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D"),
                *("DEPTH_TO_SPACE", "DEQUANTIZE", "DIV", "FULLY_CONNECTED", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D"),
                *("MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "QUANTIZE", "RELU", "RESHAPE", "RESIZE_BILINEAR"),
                *("RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "STRIDED_SLICE", "SUB"),
                *("SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV"),
            }
        ),
        {"CAST": _cast, "CONV_2D": _pointwise_stride},
    ),
}


def operations(model):
    """The `Operation`s of a `schema.ModelT` with one subgraph, in order; those that read constants alone are left out.

    A compiler computes these once, for example the DEQUANTIZE of a float16 kernel.
    """
    (graph,) = model.subgraphs
    constant = [model.buffers[tensor.buffer].data is not None for tensor in graph.tensors]
    found = []
    for operator in graph.operators:
        inputs = [int(index) for index in operator.inputs if index >= 0]
        if all(constant[index] for index in inputs):
            for index in operator.outputs:
                constant[index] = True
            continue
        kernel = graph.tensors[inputs[1]] if len(inputs) > 1 and constant[inputs[1]] else None
        dtypes = [
            flatbuffer.DTYPES[graph.tensors[index].type]
            for index in (*inputs, *operator.outputs)
            if not constant[index]
        ]
        found.append(
            Operation(
                flatbuffer.op_name(model, operator),
                model.operatorCodes[operator.opcodeIndex].version,
                operator.builtinOptions,
                tuple(dict.fromkeys(dtypes)),
                None if kernel is None else (tuple(np.array(kernel.shape).tolist()), flatbuffer.DTYPES[kernel.type]),
                any(constant[index] for index in inputs),
            )
        )
    return found


def refused(model):
    """The ops of a file that accelerators do not take.

    Args:
        model: `schema.ModelT` with one subgraph.

    Returns:
        dict, name of an accelerator -> reason -> name of an op -> how many.
    """
    result = {}
    for name, accelerator in ACCELERATORS.items():
        reasons: dict[str, collections.Counter[str]] = {}
        for operation in operations(model):
            limits = [accelerator.limits[key] for key in ("", operation.name) if key in accelerator.limits]
            reason = next((reason for limit in limits if (reason := limit(operation)) is not None), None)
            if operation.name not in accelerator.ops:
                reason = _UNLISTED
            if reason is not None:
                reasons.setdefault(reason, collections.Counter())[operation.name] += 1
        result[name] = {reason: dict(counts) for reason, counts in reasons.items()}
    return result


def in_words(reasons):
    """What an accelerator does not take, in a line; `"all ops"` if it takes all.

    Args:
        reasons: of one accelerator, see `refused`.
    """
    parts = []
    for reason, counts in reasons.items():
        ops = ", ".join(f"{op} {count}" if count > 1 else op for op, count in counts.items())
        parts.append(f"{f'{sum(counts.values())} ops' if len(counts) > _MOST_KINDS else ops}: {reason}")
    return f"all but {'; '.join(parts)}" if parts else "all ops"


def tables(files):
    """Markdown: for each accelerator its source, and a table with a row a file.

    Args:
        files: dict, name of a file -> `schema.ModelT`.
    """
    found = {name: refused(model) for name, model in files.items()}
    lines = []
    for name, accelerator in ACCELERATORS.items():
        lines += [f"## {name}", "", f"{accelerator.note} [Its list]({accelerator.source}).", ""]
        lines += ["| target | precision | output | takes |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(file)} | {in_words(reasons[name])} |" for file, reasons in found.items()]
        lines.append("")
    return "\n".join(lines)


def files_of_every_target(image_size=(96, 160)):
    """A file of each target and precision, of a network with random weights.

    Returns:
        dict, (target, precision, output) -> `schema.ModelT`.
    """
    from keras_bisenet.export import convert, options
    from keras_bisenet.export.quantization import calibration
    from keras_bisenet.models.bisenet import BiSeNet

    model, photos = BiSeNet(), calibration.variations(image_size, 2).images
    files = {}
    for target, offer in options.TARGETS.items():
        for precision in offer.precisions:
            output = offer.outputs[0]
            content = convert.to_tflite(model, image_size, precision, output=output, photos=photos)
            files[target, precision, output] = flatbuffer.unpack(content)
    return files


def page(text, files):
    """A page of Markdown with the tables of now.

    Args:
        text: the page, with the tables of an earlier time between the marks for them.
        files: see `tables`.
    """
    before, rest = text.split(_START)
    return before + _START + tables(files) + _END + rest.split(_END)[1]


if __name__ == "__main__":
    path = pathlib.Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8"), files_of_every_target()), encoding="utf-8")
