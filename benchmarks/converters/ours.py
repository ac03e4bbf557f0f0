"""This project's direct export."""

import pathlib

import keras_bisenet
import weight_port
from keras_bisenet.export import tflite


def convert(state, architecture, image_size, output, precision):
    """Writes a `.tflite` that turns a uint8 RGB photo into labels.

    Args:
        state, architecture, image_size, output: see `benchmarks.convert`.
        precision: see `tflite.convert`.
    """
    model = keras_bisenet.BiSeNet(architecture.num_classes, architecture.backbone)
    weight_port.apply(state, model.variables, architecture)
    pathlib.Path(output).write_bytes(tflite.convert(model, image_size, precision=precision))
