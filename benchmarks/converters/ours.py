"""This project's direct export."""

import os
import pathlib

# As the README shows: the checkpoint is read with PyTorch anyway, and TensorFlow stays out.
os.environ["KERAS_BACKEND"] = "torch"

import keras_bisenet
import weight_port
from keras_bisenet.export import tflite


def convert(state, architecture, inputs, output, precision):
    """Writes a `.tflite` that turns a uint8 RGB photo into labels.

    Args:
        state, architecture, inputs, output: see `benchmarks.convert`.
        precision: see `tflite.convert`.
    """
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.apply(state, model.variables, architecture)
    content = tflite.convert(model, inputs.image_size, precision, photos=inputs.calibration)
    pathlib.Path(output).write_bytes(content)
