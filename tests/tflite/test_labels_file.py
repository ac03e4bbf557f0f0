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
def content(keras_model):
    return convert.to_tflite(keras_model, SIZE)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


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
def test_wrong_tflite_files(content, path, make, found):
    damaged = make(content)
    if damaged is not None:
        path.write_bytes(damaged)
    for read in (lambda: labels_file.read(path, CLASSES), lambda: FaceParser(path)):
        with refused(ModelError, path, found):
            read()


@pytest.mark.parametrize(
    ("outputs", "found"),
    [(["probabilities"], "probabilities"), (["labels", "logits"], "logits"), ({"labels": "logits"}, "float32")],
    ids=["probabilities", "two outputs", "float labels"],
)
def test_tflite_of_another_kind(path, outputs, found):
    path.write_bytes(converted_models.Network().convert(outputs))
    with pytest.raises(ModelError, match=rf"model\.tflite: takes image uint8 and returns .*{found}"):
        labels_file.read(path, converted_models.CLASSES)


def test_another_number_of_classes(content, path):
    path.write_bytes(content)
    with refused(ModelError, path, "11 classes, the checkpoint 19"):
        labels_file.read(path, 19)


def test_labels_without_scores(content, path):
    model = flatbuffer.unpack(content)
    # ARG_MIN takes the same inputs.
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.ARG_MAX:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ARG_MIN
    path.write_bytes(flatbuffer.pack(model))
    with refused(ModelError, path, "has no scores"):
        labels_file.read(path, CLASSES)


@pytest.mark.parametrize("precision", options.PRECISIONS)
def test_precision_is_told_from_the_file(keras_model, path, precision):
    path.write_bytes(convert.to_tflite(keras_model, (32, 48), precision))
    file = labels_file.read(path, CLASSES)
    assert (file.image_size, file.precision) == ((32, 48), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_file_by_the_converter(path, precision):
    path.write_bytes(converted_models.Network().convert(["labels"], **PRECISIONS[precision]))
    file = labels_file.read(path, converted_models.CLASSES)
    assert (file.content, file.image_size) == (path.read_bytes(), converted_models.SIZE)
    # The converter stores small kernels in float whatever it is asked for.
    assert file.precision in (precision, "float32")
    results = TFLiteRunner(file.content, inner={"logits": file.scores})(converted_models.photo())
    np.testing.assert_array_equal(results["labels"], results["logits"].argmax(-1))
