"""This project's export."""

import os
import pathlib

# As `scripts/port_and_export.py` does: TFLiteConverter reads TensorFlow graphs.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.runtimes.converters import keras_network
from keras_bisenet.export import convert as export


def convert(state, architecture, inputs, output, precision):
    """Writes a `.tflite` that turns a uint8 RGB photo into labels.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
        precision: see `export.to_tflite`.
    """
    model = keras_network.network(state, architecture)
    content = export.to_tflite(model, inputs.image_size, precision, photos=inputs.calibration)
    pathlib.Path(output).write_bytes(content)
