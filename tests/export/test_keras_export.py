"""The ways of Keras and TensorFlow to a `.tflite`, without this package's export: they work on a `BiSeNet`."""

import pytest
import tensorflow as tf
from support.paths import DEFAULT_CHECKPOINT
from support.ported import normalized, port, reference

import weight_port
from keras_bisenet import HEADS, FaceParser
from keras_bisenet.tflite import flatbuffer
from keras_bisenet.utils import images

SIZE = (96, 160)
TINY = DEFAULT_CHECKPOINT.with_name("bisenet_resnet18_w25_celebamask1k_fp16.pth")


def by_keras(model, path):
    model.export(path, format="litert", verbose=False)


def by_tensorflow(model, path):
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.mark.parametrize("export", [by_keras, pytest.param(by_tensorflow, marks=pytest.mark.slow)])
def test_labels_are_those_of_pytorch(export, tmp_path):
    path, photo = tmp_path / "bisenet.tflite", images.read(images.BUNDLED, SIZE)
    state = weight_port.load(TINY)
    export(port(state, input_shape=(*SIZE, 3)), path)
    file = flatbuffer.describe(path.read_bytes())
    assert file["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "float32"}]
    assert {output["name"] for output in file["outputs"]} == set(HEADS)
    expected, *_ = reference(state)(normalized(photo))
    assert (FaceParser(path)(photo) == expected[0].argmax(-1)).mean() >= 0.9998
