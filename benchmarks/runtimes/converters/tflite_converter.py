"""`tf.lite.TFLiteConverter` on the plain Keras network, as TensorFlow's guide to post-training quantization has it."""

import os
import pathlib

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks.runtimes.converters import keras_network
from benchmarks.runtimes.numpy_processing import NumpyProcessing


def convert(state, architecture, inputs, output, precision):
    """Writes a `.tflite` that turns a normalized float32 image into the logits of the main head, both NHWC.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
        precision: `"float32"`; `"dynamic"`: the converter's default optimization; `"int8"`: the same with photos to
            calibrate on: int8 inside, float32 outside.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(
        keras_network.main_head(state, architecture, inputs.image_size)
    )
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "int8":
        processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, "nhwc")
        converter.representative_dataset = lambda: ([processing.image(photo)] for photo in inputs.calibration)
    pathlib.Path(output).write_bytes(converter.convert())
