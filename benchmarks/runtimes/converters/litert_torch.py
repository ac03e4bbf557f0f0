"""litert-torch: the PyTorch network to `.tflite`, without a detour."""

import os

import litert_torch
import torch

from benchmarks.runtimes.converters import torch_network
from benchmarks.runtimes.numpy_processing import NumpyProcessing


def convert(state, architecture, inputs, output, layout, quantizer=None):
    """Writes a `.tflite` that turns a normalised float32 image into the logits of the main head, at full size.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
        layout: `"nhwc"` or `"nchw"`, of the image and of the logits.
        quantizer: one of the two that litert-torch's guide offers for int8: `"pt2e"` quantises the PyTorch network
            before the conversion, `"ai_edge"` the file after it; None leaves it in float32.
    """
    network = torch_network.main_head(state, architecture)
    example = torch.zeros(1, 3, *inputs.image_size)
    if layout == "nhwc":
        network = litert_torch.to_channel_last_io(network, args=[0], outputs=[0]).eval()
        example = torch.zeros(1, *inputs.image_size, 3)
    processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, layout)
    calibration = (processing.image(photo) for photo in inputs.calibration)
    options = {}
    if quantizer == "pt2e":
        network, options = _quantize_network(network, example, calibration)
    litert_torch.convert(network, (example,), **options).export(output)
    if quantizer == "ai_edge":
        _quantize_file(output, calibration)


def _quantize_network(network, example, calibration):
    """The quantised network, and what `litert_torch.convert` must be told of it."""
    from litert_torch.quantize import pt2e_quantizer, quant_config
    from torchao.quantization.pt2e import quantize_pt2e

    config = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = pt2e_quantizer.PT2EQuantizer().set_global(config)
    prepared = quantize_pt2e.prepare_pt2e(torch.export.export(network, (example,)).module(), quantizer)
    with torch.inference_mode():
        for image in calibration:
            prepared(torch.from_numpy(image))
    quantized = quantize_pt2e.convert_pt2e(prepared, fold_quantize=False)
    return quantized, {"quant_config": quant_config.QuantConfig(pt2e_quantizer=quantizer)}


def _quantize_file(path, calibration):
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    ((signature, names),) = Interpreter(model_path=path).get_signature_list().items()
    quantizer = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    (name,) = names["inputs"]
    # A list, because it is gone through twice; and not the 16 threads that it would take on any machine.
    data = {signature: [{name: image} for image in calibration]}
    found = quantizer.calibrate(data, num_threads=os.cpu_count())
    quantizer.quantize(found).export_model(path, overwrite=True)
