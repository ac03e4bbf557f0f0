"""Which wishes go together."""

import pytest
from support.refusals import refused

from keras_bisenet.export.options import ExportOptions, resolve
from keras_bisenet.utils.errors import ExportError

SIZE = (64, 96)


def test_each_target_fills_in_its_own():
    assert resolve("litert", SIZE) == ExportOptions("litert", SIZE, "uint8", "labels", ("float32", "float16"))
    assert resolve("mediapipe", SIZE) == ExportOptions("mediapipe", SIZE, "uint8", "logits", ("float32", "float16"))
    assert resolve("npu", SIZE) == ExportOptions("npu", SIZE, "uint8", "scores", ("int8",))
    assert resolve("saved_model", SIZE) == ExportOptions("saved_model", SIZE, "uint8", "labels", ())


def test_wishes_are_kept_and_named_once():
    resolved = resolve("litert", SIZE, "float32", "all_heads", ["int8", "float32", "int8"], calibrated=True)
    assert resolved == ExportOptions("litert", SIZE, "float32", "all_heads", ("int8", "float32"))


@pytest.mark.parametrize(
    ("wishes", "found"),
    [
        ({"target": "tfjs"}, ["'tfjs'", "litert, mediapipe, npu, saved_model"]),
        ({"target": "mediapipe", "input_type": "float32"}, ["mediapipe", "'float32'", "uint8"]),
        ({"target": "mediapipe", "output": "labels"}, ["mediapipe", "'labels'", "logits or probabilities"]),
        ({"target": "saved_model", "output": "logits"}, ["saved_model", "'logits'", "labels or probabilities"]),
        ({"target": "saved_model", "input_type": "float32"}, ["saved_model", "'float32'", "uint8"]),
        ({"target": "saved_model", "precisions": ["float16"]}, ["saved_model", "precisions"]),
        ({"target": "npu", "output": "labels"}, ["npu", "'labels'", "scores"]),
        ({"target": "npu", "input_type": "float32"}, ["npu", "'float32'", "uint8"]),
        ({"target": "npu", "precisions": ["int8", "float16"]}, ["npu", "'float16'", "int8"]),
        ({"target": "npu", "precisions": ["int4"]}, ["'int4'", "int8"]),
        ({"target": "litert", "precisions": ["int4"]}, ["'int4'", "float32, float16, dynamic, int8"]),
        ({"target": "litert", "precisions": ["dynamic"], "calibrated": True}, ["int8", "found dynamic"]),
        ({"target": "saved_model", "calibrated": True}, ["int8", "found none"]),
    ],
)
def test_senseless_wishes(wishes, found):
    with refused(ExportError, *found):
        resolve(**{"image_size": SIZE, **wishes})
