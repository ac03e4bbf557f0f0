"""Who takes part: the pinned packages and one entry a contestant. To add a peer, add to these two tables.

An entry names a module of `converters` and one of `runners`; most peers share theirs with others.
"""

import dataclasses
from collections.abc import Mapping

# The Python that runs the benchmark. It makes our files and those of the tools that a Keras user has anyway, and runs
# every `.tflite`: one LiteRT for all.
PROJECT = "project"

# Virtual environment -> what is installed into it. Every version that the benchmark chooses stands here.
PINS = {
    "litert_torch": (
        "ai-edge-litert==2.3.0",
        "ai-edge-quantizer==0.10.0",
        "jax==0.10.2",
        "litert-converter==0.5.0",
        "litert-torch==0.10.0",
        "numpy==2.4.6",
        "torch==2.13.0",
        "torchao==0.18.0",
    ),
    "onnx2tf": (
        "numpy==1.26.4",
        "onnx==1.19.1",
        "onnx2tf==1.29.24",
        "onnxruntime==1.23.0",
        "onnxscript==0.7.2",
        "onnxsim==0.4.36",
        "tensorflow==2.19.0",
        "torch==2.13.0",
    ),
    "onnxruntime": (
        "numpy==2.4.6",
        "onnx==1.23.2",
        "onnxruntime==1.32.0",
        "onnxscript==0.7.2",
        "torch==2.13.0",
    ),
    "openvino": (
        "numpy==2.4.6",
        "openvino==2026.4.1",
        "torch==2.13.0",
    ),
    "pytorch": (
        "numpy==2.4.6",
        "torch==2.13.0",
    ),
}

# What RESULTS.md tells of the Python that runs the benchmark; of the other environments it tells what is pinned.
PROJECT_PACKAGES = ("ai-edge-litert", "keras", "numpy", "tensorflow", "torch")


@dataclasses.dataclass(frozen=True)
class Step:
    """A conversion or a run: where it takes place and which code does it.

    Attributes:
        environment: `PROJECT` or a key of `PINS`.
        module: name of a module in `benchmarks.runtimes.converters` or `benchmarks.runtimes.runners`.
        options: keyword arguments for it, of JSON types.
    """

    environment: str
    module: str
    options: Mapping = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of the comparison.

    Attributes:
        name: what `--peers` takes.
        title: what the table says.
        precision: `"float32"`; `"dynamic"`: 8-bit weights, float activations; `"int8"`: both in 8 bits.
        runtime: whose file it is: `"LiteRT"`, `"ONNX Runtime"`, `"OpenVINO"` or `"PyTorch"`.
        convert: checkpoint -> file; None if it runs the checkpoint itself.
        run: uint8 image -> labels with that file.
        suffix: how the file's name ends.
    """

    name: str
    title: str
    precision: str
    runtime: str
    convert: Step | None
    run: Step
    suffix: str = ".tflite"


def _ours(name, precision):
    convert = Step(PROJECT, "ours", {"precision": precision})
    return Contestant(name, f"keras-bisenet {precision}", precision, "LiteRT", convert, Step(PROJECT, "litert_labels"))


def _litert(name, title, convert, precision="float32", layout="nhwc"):
    run = Step(PROJECT, "litert_logits", {"layout": layout})
    return Contestant(name, title, precision, "LiteRT", convert, run)


def _tflite_converter(name, title, precision):
    return _litert(name, title, Step(PROJECT, "tflite_converter", {"precision": precision}), precision)


def _litert_torch(name, title, precision="float32", layout="nhwc", **options):
    convert = Step("litert_torch", "litert_torch", {"layout": layout, **options})
    return _litert(name, title, convert, precision, layout)


def _onnx2tf(name, title, exporter, file, precision="float32"):
    return _litert(name, title, Step("onnx2tf", "onnx2tf", {"exporter": exporter, "precision": file}), precision)


def _onnxruntime(name, title, precision):
    convert, run = Step("onnxruntime", "onnxruntime", {"precision": precision}), Step("onnxruntime", "onnxruntime")
    return Contestant(name, title, precision, "ONNX Runtime", convert, run, ".onnx")


def _pytorch(name, title, layout, compiled):
    run = Step("pytorch", "pytorch", {"layout": layout, "compiled": compiled})
    return Contestant(name, title, "float32", "PyTorch", None, run)


OURS = (
    _ours("ours", "float32"),
    _ours("ours_dynamic", "dynamic"),
    _ours("ours_int8", "int8"),
)
PEERS = (
    _tflite_converter("tflite_converter", "TFLiteConverter on the Keras model", "float32"),
    _litert("keras_export", 'Keras model.export(format="litert")', Step(PROJECT, "keras_export")),
    _litert_torch("litert_torch_nhwc", "litert-torch NHWC"),
    _litert_torch("litert_torch_nchw", "litert-torch NCHW", layout="nchw"),
    _onnx2tf("onnx2tf_dynamo", "onnx2tf, ONNX of torch's exporter", "dynamo", "float32"),
    _onnx2tf("onnx2tf_onnxsim", "onnx2tf, ONNX by onnxsim", "onnxsim", "float32"),
    _onnxruntime("onnxruntime", "ONNX Runtime", "float32"),
    Contestant(
        "openvino",
        "OpenVINO, computing in float32",
        "float32",
        "OpenVINO",
        Step("openvino", "openvino"),
        Step("openvino", "openvino"),
        ".xml",
    ),
    _pytorch("pytorch", "PyTorch eager", "nchw", compiled=False),
    _pytorch("pytorch_channels_last", "PyTorch channels_last", "nhwc", compiled=False),
    _pytorch("pytorch_compile", "PyTorch compile, channels_last", "nhwc", compiled=True),
    _tflite_converter("tflite_converter_dynamic", "TFLiteConverter on the Keras model, dynamic range", "dynamic"),
    _tflite_converter("tflite_converter_int8", "TFLiteConverter on the Keras model, calibrated", "int8"),
    _litert_torch("litert_torch_int8", "litert-torch, AI Edge Quantizer", "int8", quantizer="ai_edge"),
    _litert_torch("litert_torch_pt2e", "litert-torch, PT2E quantizer", "int8", quantizer="pt2e"),
    # From onnxsim: at opset 18, which torch's exporter writes, onnx2tf takes align_corners for half_pixel.
    _onnx2tf("onnx2tf_int8", "onnx2tf, integer_quant", "onnxsim", "integer_quant", "int8"),
    _onnxruntime("onnxruntime_int8", "ONNX Runtime, static QDQ", "int8"),
)
