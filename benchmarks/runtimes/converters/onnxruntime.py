"""ONNX Runtime: torch's own ONNX export, and its static quantisation."""

import pathlib
import tempfile

from benchmarks.runtimes.converters import onnx_network
from benchmarks.runtimes.numpy_processing import NumpyProcessing


def convert(state, architecture, inputs, output, precision):
    """Writes an `.onnx` that turns a normalised float32 image into the logits of the main head, both NCHW.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
        precision: `"float32"`, or `"int8"`: weights per channel and activations, as QuantizeLinear/DequantizeLinear.
    """
    if precision == "float32":
        onnx_network.export(state, architecture, inputs.image_size, output)
        return
    with tempfile.TemporaryDirectory() as folder:
        exported = pathlib.Path(folder, "network.onnx")
        onnx_network.export(state, architecture, inputs.image_size, exported)
        _quantize(exported, inputs, output)


def _quantize(exported, inputs, output):
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    prepared = exported.with_name("prepared.onnx")
    shape_inference.quant_pre_process(exported, prepared)
    quantization.quantize_static(
        prepared,
        output,
        _Calibration(inputs),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        # Twice as fast on x86-64 as the default, int8.
        activation_type=quantization.QuantType.QUInt8,
    )


class _Calibration:
    """The calibration photos, one at a time, in the form that ONNX Runtime asks for."""

    def __init__(self, inputs):
        processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, "nchw")
        self._images = ({"image": processing.image(photo)} for photo in inputs.calibration)

    def get_next(self):
        return next(self._images, None)
