"""Files that check_onnx.py is given with --tflite."""

import pytest
from conftest import random_state

import weight_port
from keras_bisenet import BiSeNet
from keras_bisenet.export import flatbuffer, labels_file, tflite
from keras_bisenet.export.errors import ExportError

SIZE = (65, 97)
CLASSES = 11


@pytest.fixture(scope="module")
def keras_model():
    state = random_state(num_classes=CLASSES)
    model = BiSeNet(CLASSES)
    weight_port.apply(state, model.variables, weight_port.recognise(state))
    return model


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory, keras_model):
    path = tmp_path_factory.mktemp("labels") / "face_parsing_float32.tflite"
    path.write_bytes(tflite.convert(keras_model, SIZE))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "cannot be read: No such file or directory"),
        (lambda _: b"", "is not a TFLite model"),
        (lambda _: b"<!DOCTYPE html>", "is not a TFLite model"),
        (lambda content: content[:1000], "is truncated or damaged; export it again"),
        (lambda content: content[: len(content) // 2], "is truncated or damaged; export it again"),
        (lambda content: content[:-1], "is truncated or damaged; export it again"),
    ],
    ids=["missing", "empty", "html", "head", "half", "almost"],
)
def test_wrong_tflite_files(tflite_file, tmp_path, make, message):
    path = tmp_path / "model.tflite"
    content = make(tflite_file.read_bytes())
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExportError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == f"{path}: {message}"


def test_tflite_of_another_kind(tflite_file, tmp_path):
    path = tmp_path / "model.tflite"
    content = tflite_file.read_bytes()
    model = flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    graph.tensors[graph.outputs[0]].name = "probabilities"
    path.write_bytes(flatbuffer.pack(model))
    with pytest.raises(ExportError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == (
        f"{path}: takes image uint8 and returns probabilities uint8; expected a file that port_and_export.py wrote "
        "with --input uint8 --output labels"
    )
    path.write_bytes(content.replace(b"logits", b"legits"))
    with pytest.raises(ExportError) as error:
        labels_file.read(path, CLASSES)
    assert str(error.value) == f"{path}: has no tensor 'logits'; expected a file that port_and_export.py wrote"
    with pytest.raises(ExportError) as error:
        labels_file.read(tflite_file, 19)
    assert str(error.value) == f"{tflite_file}: has 11 classes, the checkpoint 19; it is of another checkpoint"


@pytest.mark.parametrize("precision", tflite.PRECISIONS)
def test_precision_is_told_from_the_file(keras_model, tmp_path, precision):
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite.convert(keras_model, (32, 48), precision))
    assert labels_file.read(path, CLASSES)[1:] == ((32, 48), precision)
