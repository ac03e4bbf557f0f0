"""Which wishes go together."""

import pytest

from keras_bisenet.export.options import ExportOptions, resolve
from keras_bisenet.utils.errors import ExportError

SIZE = (64, 96)


def test_each_target_fills_in_its_own():
    assert resolve("litert", SIZE) == ExportOptions("litert", SIZE, "uint8", "labels", ("float32", "float16"))
    assert resolve("mediapipe", SIZE) == ExportOptions("mediapipe", SIZE, "uint8", "logits", ("float32", "float16"))
    assert resolve("saved_model", SIZE) == ExportOptions("saved_model", SIZE, "uint8", "labels", ())


def test_wishes_are_kept_and_named_once():
    resolved = resolve("litert", SIZE, "float32", "all_heads", ["int8", "float32", "int8"], calibrated=True)
    assert resolved == ExportOptions("litert", SIZE, "float32", "all_heads", ("int8", "float32"))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"target": "tfjs"}, "target is 'tfjs'; expected one of litert, mediapipe, saved_model"),
        (
            {"target": "mediapipe", "input_type": "float32"},
            "the target mediapipe has no input 'float32'; expected uint8",
        ),
        (
            {"target": "mediapipe", "output": "labels"},
            "the target mediapipe has no output 'labels'; expected logits or probabilities",
        ),
        (
            {"target": "saved_model", "output": "logits"},
            "the target saved_model has no output 'logits'; expected labels or probabilities",
        ),
        (
            {"target": "saved_model", "input_type": "float32"},
            "the target saved_model has no input 'float32'; expected uint8",
        ),
        (
            {"target": "saved_model", "precisions": ["float16"]},
            "the target saved_model is float32 alone; leave the precisions out",
        ),
        (
            {"target": "litert", "precisions": ["int4"]},
            "precision is 'int4'; expected one of float32, float16, dynamic, int8",
        ),
        (
            {"target": "litert", "precisions": ["dynamic"], "calibrated": True},
            "photos to calibrate on serve the precision int8 alone; found dynamic; leave them out",
        ),
        (
            {"target": "saved_model", "calibrated": True},
            "photos to calibrate on serve the precision int8 alone; found none; leave them out",
        ),
    ],
)
def test_senseless_wishes(wishes, message):
    with pytest.raises(ExportError) as error:
        resolve(**{"image_size": SIZE, **wishes})
    assert str(error.value) == message
