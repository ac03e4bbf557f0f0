"""The ways of Keras and TensorFlow to a `.tflite`, without this package's export: they work on a `BiSeNet`."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.paths import DEFAULT_CHECKPOINT

import weight_port
from keras_bisenet import HEADS, BiSeNet, FaceParser
from keras_bisenet.preprocessing import normalize
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.utils import images
from weight_port.reference import torch_network

SIZE = (512, 512)


@pytest.fixture(scope="module")
def ported():
    """The default network for one size, the bundled photo, and PyTorch's labels of it."""
    state = weight_port.load(DEFAULT_CHECKPOINT)
    architecture = weight_port.recognize(state)
    model = BiSeNet(input_shape=(*SIZE, 3))
    weight_port.apply(state, model.variables, architecture)
    photo = images.read(images.BUNDLED, SIZE)
    inputs = keras.ops.convert_to_numpy(normalize(photo[np.newaxis]))
    return model, photo, torch_network.Reference(state, architecture)(inputs)[0][0].argmax(-1)


def by_keras(model, path):
    model.export(path, format="litert", verbose=False)


def by_tensorflow(model, path):
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.mark.parametrize("export", [by_keras, by_tensorflow])
def test_labels_are_those_of_pytorch(ported, export, tmp_path):
    model, photo, expected = ported
    path = tmp_path / "bisenet.tflite"
    export(model, path)
    file = flatbuffer.describe(path.read_bytes())
    assert file["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "float32"}]
    assert {output["name"] for output in file["outputs"]} == set(HEADS)
    assert (FaceParser(path)(photo) == expected).mean() >= 0.9998
