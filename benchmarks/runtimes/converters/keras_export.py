"""Keras's own export of the plain Keras network: `model.export(format="litert")`."""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.runtimes.converters import keras_network


def convert(state, architecture, inputs, output):
    """Writes a `.tflite` that turns a normalized float32 image into the logits of the main head, both NHWC.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
    """
    keras_network.main_head(state, architecture, inputs.image_size).export(output, format="litert")
