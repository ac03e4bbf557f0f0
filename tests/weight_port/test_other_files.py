"""Files that are no checkpoints are called what they are, with the command that takes them."""

import pytest
from support.refusals import refused

import weight_port
from keras_bisenet import load_model
from keras_bisenet.inference.face_parser import BUNDLED
from keras_bisenet.utils.errors import ModelError

TFLITE, ONNX = BUNDLED.read_bytes()[:4096], b"\x08\x08\x12\x07pytorch"


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("model.tflite", TFLITE, ["is a .tflite file", "parse_faces.py"]),
        ("renamed.pth", TFLITE, ["is a .tflite file", "parse_faces.py"]),
        ("model.onnx", ONNX, ["is an .onnx file", "check_onnx.py --onnx"]),
    ],
)
def test_other_files_are_no_checkpoints(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    with refused(weight_port.CheckpointError, name, *found):
        weight_port.load(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "takes_it"),
    [("a.tflite", "parse_faces.py"), ("a.onnx", "check_onnx.py"), ("a.pth", "port_and_export.py --checkpoint")],
)
def test_other_files_are_no_keras_files(tmp_path, name, takes_it):
    (tmp_path / name).write_bytes(b"something")
    with refused(ModelError, name, takes_it):
        load_model(tmp_path / name)
