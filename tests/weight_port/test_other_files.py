"""Files that are no checkpoints are called what they are, with the command that takes them."""

import pytest

import weight_port
from keras_bisenet import load_model
from keras_bisenet.inference.face_parser import BUNDLED
from keras_bisenet.utils.errors import ModelError


@pytest.mark.parametrize("name", ["model.tflite", "renamed.pth"])
def test_a_tflite_file_is_no_checkpoint(tmp_path, name):
    (tmp_path / name).write_bytes(BUNDLED.read_bytes()[:4096])
    with pytest.raises(weight_port.CheckpointError, match=rf"{name}: is a \.tflite file.*parse_faces\.py"):
        weight_port.load(tmp_path / name)


def test_an_onnx_file_is_no_checkpoint(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(weight_port.CheckpointError, match=r"model\.onnx: is an \.onnx file.*check_onnx\.py --onnx"):
        weight_port.load(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("name", "takes_it"),
    [("a.tflite", "parse_faces.py"), ("a.onnx", "check_onnx.py"), ("a.pth", "port_and_export.py --checkpoint")],
)
def test_other_files_are_no_keras_files(tmp_path, name, takes_it):
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(ModelError, match=name) as error:
        load_model(tmp_path / name)
    assert takes_it in str(error.value)
