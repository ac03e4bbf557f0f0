"""The ways of Keras and TensorFlow to a `.tflite`, without this package's export: they work on a `BiSeNet`."""

import pytest
import tensorflow as tf
from support.ported import default_reference, default_state, normalized, port

from keras_bisenet import HEADS, FaceParser
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.utils import images

SIZE = (96, 160)


@pytest.fixture(scope="module")
def ported():
    """The default network for one size, the bundled photo, and PyTorch's labels of it."""
    photo = images.read(images.BUNDLED, SIZE)
    return port(default_state(), input_shape=(*SIZE, 3)), photo, default_reference()(normalized(photo))[0][0].argmax(-1)


def by_keras(model, path):
    model.export(path, format="litert", verbose=False)


def by_tensorflow(model, path):
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.mark.parametrize("export", [by_keras, pytest.param(by_tensorflow, marks=pytest.mark.slow)])
def test_labels_are_those_of_pytorch(ported, export, tmp_path):
    model, photo, expected = ported
    path = tmp_path / "bisenet.tflite"
    export(model, path)
    file = flatbuffer.describe(path.read_bytes())
    assert file["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "float32"}]
    assert {output["name"] for output in file["outputs"]} == set(HEADS)
    assert (FaceParser(path)(photo) == expected).mean() >= 0.9998
