"""onnx2tf: the PyTorch network to ONNX, to TensorFlow, to `.tflite`."""

import contextlib
import pathlib
import shutil
import tempfile

import numpy as np
import onnx2tf

from benchmarks.runtimes.converters import onnx_network

EXPORTERS = {"dynamo": onnx_network.export, "onnxsim": onnx_network.export_simplified}
# onnx2tf downloads this file unless it lies in the working folder; it runs the network on it to compare shapes.
SAMPLES = ("calibration_image_sample_data_20x128x128x3_float32.npy", (20, 128, 128, 3))


def convert(state, architecture, inputs, output, exporter, precision):
    """Writes a `.tflite` that turns a normalised float32 image into the logits of the main head, both NHWC.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
        exporter: `"dynamo"` or `"onnxsim"`: who writes the ONNX file.
        precision: `"float32"`, or `"integer_quant"`: int8 inside, per channel, calibrated.

    Raises:
        RuntimeError: onnx2tf wrote no such file; it prints why and goes on.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        EXPORTERS[exporter](state, architecture, inputs.image_size, "network.onnx")
        np.save(SAMPLES[0], np.resize(inputs.calibration, SAMPLES[1]).astype(np.float32) / 255)
        options = {}
        if precision != "float32":
            # The file holds 0..1; onnx2tf normalises it.
            np.save("calibration.npy", inputs.calibration.astype(np.float32) / 255)
            mean, std = (values.astype(np.float32).reshape(1, 1, 1, 3) for values in (inputs.mean, inputs.std))
            options = {
                "output_integer_quantized_tflite": True,
                "custom_input_op_name_np_data_path": [["image", "calibration.npy", mean, std]],
            }
        onnx2tf.convert(input_onnx_file_path="network.onnx", output_folder_path="files", non_verbose=True, **options)
        written = pathlib.Path("files", f"network_{precision}.tflite")
        if not written.exists():
            raise RuntimeError(f"onnx2tf wrote no {written.name}")
        shutil.copyfile(written, output)
