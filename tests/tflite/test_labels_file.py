"""Files that check_onnx.py is given with --tflite."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from support import converted_models
from support.converted_models import PRECISIONS
from support.networks import narrow
from support.refusals import refused

from keras_bisenet import FaceParser
from keras_bisenet.export import convert, options
from keras_bisenet.tflite import flatbuffer, labels_file
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils.errors import ModelError

SIZE = (65, 97)
CLASSES = 11


@pytest.fixture(scope="module")
def keras_model():
    """Narrow, but with kernels that the converter stores in 8 bits if it is asked to."""
    return narrow((16, 13, 18, 21, 16, 24, 5, 17), CLASSES)


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory, keras_model):
    path = tmp_path_factory.mktemp("labels") / "face_parsing_float32.tflite"
    path.write_bytes(convert.to_tflite(keras_model, SIZE))
    return path


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda _: None, "No such file"),
        (lambda _: b"", "not a TFLite model"),
        (lambda _: b"<!DOCTYPE html>", "not a TFLite model"),
        (lambda content: content[:1000], "truncated or damaged"),
        (lambda content: content[: len(content) // 2], "truncated or damaged"),
        (lambda content: content[:-1], "truncated or damaged"),
    ],
    ids=["missing", "empty", "html", "head", "half", "almost"],
)
def test_wrong_tflite_files(tflite_file, tmp_path, make, found):
    path, content = tmp_path / "model.tflite", make(tflite_file.read_bytes())
    if content is not None:
        path.write_bytes(content)
    for read in (lambda: labels_file.read(path, CLASSES), lambda: FaceParser(path)):
        with refused(ModelError, path, found):
            read()


def test_tflite_of_another_kind(tflite_file, tmp_path):
    network = converted_models.Network()
    path = tmp_path / "model.tflite"
    for content, names in (
        (network.convert(["probabilities"]), "probabilities"),
        (network.convert(["labels", "logits"]), "logits"),
        (network.convert({"labels": "logits"}), "float32"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=rf"model\.tflite: takes image uint8 and returns .*{names}"):
            labels_file.read(path, converted_models.CLASSES)
    with pytest.raises(ModelError, match="11 classes, the checkpoint 19"):
        labels_file.read(tflite_file, 19)


def test_labels_without_scores(tflite_file, tmp_path):
    path = tmp_path / "model.tflite"
    model = flatbuffer.unpack(tflite_file.read_bytes())
    # ARG_MIN takes the same inputs.
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.ARG_MAX:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MIN
    path.write_bytes(flatbuffer.pack(model))
    with pytest.raises(ModelError, match=r"model\.tflite: has no scores"):
        labels_file.read(path, CLASSES)


@pytest.mark.parametrize("precision", options.PRECISIONS)
def test_precision_is_told_from_the_file(keras_model, tmp_path, precision):
    path = tmp_path / "model.tflite"
    path.write_bytes(convert.to_tflite(keras_model, (32, 48), precision))
    file = labels_file.read(path, CLASSES)
    assert (file.image_size, file.precision) == ((32, 48), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_by_the_converter(tmp_path, precision):
    path = tmp_path / "model.tflite"
    network = converted_models.Network()
    path.write_bytes(network.convert(["labels"], **PRECISIONS[precision]))
    file = labels_file.read(path, converted_models.CLASSES)
    assert (file.content, file.image_size) == (path.read_bytes(), converted_models.SIZE)
    # The converter stores small kernels in float whatever it is asked for.
    assert file.precision in (precision, "float32")
    results = TFLiteRunner(file.content, inner={"logits": file.scores})(converted_models.photo())
    np.testing.assert_array_equal(results["labels"], results["logits"].argmax(-1))
