"""From a checkpoint to a file: one function a converter, which imports what only its own environment has installed.

Each takes the state_dict and the architecture of a checkpoint (see `networks.read`), the `Inputs`, the path of the file
to write, and options. It writes that file, and beside it only what belongs to it. All files but `ours` turn a
normalized float32 image into the logits of the main head, at full size: NHWC from Keras and onnx2tf, else NCHW.
"""

import contextlib
import os
import pathlib
import tempfile

import numpy as np

from benchmarks.common import networks
from benchmarks.runtimes.runners import NumpyProcessing


def ours(state, architecture, inputs, output, precision):
    """This project's export: a `.tflite` from a uint8 RGB photo to labels; `precision`: see `convert.to_tflite`."""
    from keras_bisenet.export import convert

    model = networks.in_keras(state, architecture)
    pathlib.Path(output).write_bytes(convert.to_tflite(model, inputs.image_size, precision, photos=inputs.calibration))


def keras_export(state, architecture, inputs, output):
    """Keras's own export of the plain Keras network, `model.export(format="litert")`."""
    keras_main_head(state, architecture, inputs.image_size).export(output, format="litert")


def tflite_converter(state, architecture, inputs, output, precision):
    """`tf.lite.TFLiteConverter` on the plain Keras network, as TensorFlow's guide to post-training quantization has it.

    `"dynamic"` is the converter's default optimization, `"int8"` the same with photos to calibrate on.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(keras_main_head(state, architecture, inputs.image_size))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        converter.representative_dataset = lambda: ([image] for image in _calibration(inputs, "nhwc"))
    pathlib.Path(output).write_bytes(converter.convert())


def litert_torch(state, architecture, inputs, output, layout, quantizer=None):
    """litert-torch: from the PyTorch network to `.tflite` directly.

    `layout`, of the image and of the logits, is `"nhwc"` or `"nchw"`. `quantizer` is one of the two that litert-torch's
    guide offers for int8: `"pt2e"` quantizes the PyTorch network before the conversion, `"ai_edge"` the file after it.
    """
    import litert_torch as converter
    import torch

    network = torch_main_head(state, architecture)
    example = torch.zeros(1, 3, *inputs.image_size)
    if layout == "nhwc":
        network = converter.to_channel_last_io(network, args=[0], outputs=[0]).eval()
        example = torch.zeros(1, *inputs.image_size, 3)
    options = {}
    if quantizer == "pt2e":
        network, options = _quantize_network(network, example, _calibration(inputs, layout))
    converter.convert(network, (example,), **options).export(output)
    if quantizer == "ai_edge":
        _quantize_tflite(output, _calibration(inputs, layout))


def _quantize_network(network, example, calibration):
    """The quantized network, and the options of `litert_torch.convert` for it."""
    import torch
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


def _quantize_tflite(path, calibration):
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    ((signature, names),) = Interpreter(model_path=path).get_signature_list().items()
    quantizer = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    (name,) = names["inputs"]
    # A list, because the quantizer reads it twice; and not the 16 threads that are its default on any machine.
    data = {signature: [{name: image} for image in calibration]}
    found = quantizer.calibrate(data, num_threads=os.cpu_count())
    quantizer.quantize(found).export_model(path, overwrite=True)


def onnx2tf(state, architecture, inputs, output, exporter, precision):
    """onnx2tf: from the PyTorch network to ONNX, to TensorFlow, to `.tflite`.

    `exporter` writes the ONNX file: `"dynamo"`: torch's; `"onnxsim"`: torch's former one, at opset 13 as most guides
    have it, and onnxsim. `precision` is `"float32"`, or `"integer_quant"`: int8 inside, per channel, calibrated.
    """
    import onnx2tf as converter

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        export = _export_onnx if exporter == "dynamo" else _export_simplified_onnx
        export(state, architecture, inputs.image_size, "network.onnx")
        # onnx2tf runs the network on this file to compare shapes; it downloads the file if it is not here.
        sample = np.resize(inputs.calibration, (20, 128, 128, 3)).astype(np.float32) / 255
        np.save("calibration_image_sample_data_20x128x128x3_float32.npy", sample)
        options = {}
        if precision != "float32":
            # The file holds 0..1; onnx2tf normalizes it.
            np.save("calibration.npy", inputs.calibration.astype(np.float32) / 255)
            mean, std = (values.astype(np.float32).reshape(1, 1, 1, 3) for values in (inputs.mean, inputs.std))
            options["output_integer_quantized_tflite"] = True
            options["custom_input_op_name_np_data_path"] = [["image", "calibration.npy", mean, std]]
        converter.convert(input_onnx_file_path="network.onnx", output_folder_path="files", non_verbose=True, **options)
        # After an error onnx2tf goes on, and there is no such file.
        pathlib.Path(output).write_bytes(pathlib.Path("files", f"network_{precision}.tflite").read_bytes())


def onnxruntime(state, architecture, inputs, output, precision):
    """torch's own ONNX export, and ONNX Runtime's static quantization to int8, weights per channel, as QDQ."""
    if precision == "float32":
        _export_onnx(state, architecture, inputs.image_size, output)
        return
    from onnxruntime import quantization
    from onnxruntime.quantization import shape_inference

    class Calibration(quantization.CalibrationDataReader):
        _images = ({"image": image} for image in _calibration(inputs, "nchw"))

        def get_next(self):
            return next(self._images, None)

    with tempfile.TemporaryDirectory() as folder:
        exported, prepared = (pathlib.Path(folder, f"{name}.onnx") for name in ("network", "prepared"))
        _export_onnx(state, architecture, inputs.image_size, exported)
        shape_inference.quant_pre_process(exported, prepared)
        options = {"quant_format": quantization.QuantFormat.QDQ, "per_channel": True}
        # Twice as fast on x86-64 as the default, int8.
        options["activation_type"] = quantization.QuantType.QUInt8
        quantization.quantize_static(prepared, output, Calibration(), **options)


def openvino(state, architecture, inputs, output):
    """OpenVINO: from the PyTorch network to an `.xml`, with the weights in a `.bin` beside it."""
    import openvino as ov
    import torch

    example = torch.zeros(1, 3, *inputs.image_size)
    model = ov.convert_model(torch_main_head(state, architecture), example_input=example, input=list(example.shape))
    # By default the weights would be rounded to float16.
    ov.save_model(model, output, compress_to_fp16=False)


def keras_main_head(state, architecture, image_size):
    """The Keras network without the two auxiliary heads: `[N, H, W, 3]` -> `[N, H, W, classes]`."""
    import keras

    model = networks.in_keras(state, architecture, (*image_size, 3))
    return keras.Model(model.input, model.output["logits"])


def torch_main_head(state, architecture):
    """The PyTorch network without the two auxiliary heads: `[1, 3, H, W]` float32 -> `[1, classes, H, W]`."""
    from torch import nn

    from weight_port.reference import torch_network

    class MainHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = torch_network.Reference(state, architecture).network

        def forward(self, x):
            return self.network(x)[0]

    return MainHead().eval()


def _export_onnx(state, architecture, image_size, path):
    """Writes an `.onnx` file with torch's exporter: `image` `[1, 3, H, W]` float32, normalized -> `logits`."""
    from weight_port.reference import onnx_network

    onnx_network.export(torch_main_head(state, architecture), image_size, path, ["logits"])


def _export_simplified_onnx(state, architecture, image_size, path):
    """Writes the same with torch's former exporter and onnxsim."""
    import onnx
    import onnxsim
    import torch

    names = {"input_names": ["image"], "output_names": ["logits"]}
    example = (torch.zeros(1, 3, *image_size),)
    torch.onnx.export(torch_main_head(state, architecture), example, path, **names, opset_version=13, dynamo=False)
    simplified, same = onnxsim.simplify(onnx.load(path))
    if not same:
        raise ValueError("onnxsim changed what the network computes")
    onnx.save(simplified, path)


def _calibration(inputs, layout):
    """The calibration photos as float32 inputs of the network, one at a time."""
    processing = NumpyProcessing(inputs, layout)
    return (processing.image(photo) for photo in inputs.calibration)
