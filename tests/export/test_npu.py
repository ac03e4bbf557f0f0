"""Files of the target npu: whole numbers from the photo to the scores, and what FaceParser makes of them."""

import functools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from scipy import special
from support.graphs import resize_aligned
from support.networks import random_state
from support.ported import default_model, default_reference, normalized, port, reference

from keras_bisenet import FaceParser, classes
from keras_bisenet.export import convert
from keras_bisenet.export.quantization import calibration
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.tflite.interpreter import TFLiteRunner
from keras_bisenet.utils import images

SIZE = (96, 160)
# What compilers of NPUs take in 8 bits; docs/DEVICES.md has their lists.
OPS = {
    *("ADD", "CONCATENATION", "CONV_2D", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD", "QUANTIZE", "RESHAPE"),
    "RESIZE_NEAREST_NEIGHBOR",
}
INFO = metadata.ModelInfo(classes.FACE, "ab" * 32)


@functools.cache
def exported(size=SIZE):
    """The trained network as a file of scores, with metadata."""
    photos = [images.read(images.BUNDLED, size), *calibration.variations(size, 4).images]
    return convert.to_tflite(default_model(), size, "int8", output="scores", photos=photos, info=INFO)


def opened(content, tmp_path):
    path = tmp_path / "npu.tflite"
    path.write_bytes(content)
    return FaceParser(path)


def raw_scores(content, photo):
    """What LiteRT returns: `[h, w, C]` int8."""
    run = Interpreter(model_content=content).get_signature_runner("serving_default")
    return run(image=photo[np.newaxis])["scores"][0]


def interpolated(scores, size):
    """All scores of each pixel times both wholes, in 64 bits: `[*size, C]`."""
    scores = scores.astype(np.int64)
    for axis, new in enumerate(size):
        old, whole = scores.shape[axis], new - 1
        lower = np.minimum(np.arange(new) * (old - 1) // whole, old - 2)
        part = (np.arange(new) * (old - 1) - lower * whole).reshape([-1 if axis == i else 1 for i in range(3)])
        scores = scores.take(lower, axis) * (whole - part) + scores.take(lower + 1, axis) * part
    return scores


def test_every_tensor_is_a_whole_number():
    description = flatbuffer.describe(exported())
    assert description["inputs"] == [{"name": "image", "shape": [1, *SIZE, 3], "dtype": "uint8"}]
    assert description["outputs"] == [{"name": "scores", "shape": [1, 12, 20, 19], "dtype": "int8"}]
    assert set(description["ops"]) <= OPS
    assert description["activations"].keys() == {"int8"}
    assert description["weights"].keys() == {"int8", "int32"}
    dtypes = {flatbuffer.DTYPES[tensor.type] for tensor in flatbuffer.unpack(exported()).subgraphs[0].tensors}
    assert dtypes == {"uint8", "int8", "int32"}


def test_ops_are_in_shapes_that_compilers_take():
    model = flatbuffer.unpack(exported())
    (graph,) = model.subgraphs
    for operator in graph.operators:
        name, options = flatbuffer.op_name(model, operator), operator.builtinOptions
        inputs = [graph.tensors[index] for index in operator.inputs]
        (output,) = (graph.tensors[index] for index in operator.outputs)
        if name == "CONV_2D":
            kernel = inputs[1]
            assert len(kernel.quantization.scale) == kernel.shape[0] and not kernel.quantization.zeroPoint.any()
        elif name == "RESIZE_NEAREST_NEIGHBOR":
            # Twice the size, without the options that came with version 3.
            assert model.operatorCodes[operator.opcodeIndex].version == 2
            assert not (options.alignCorners or options.halfPixelCenters)
            assert (output.shape[1:3] == 2 * inputs[0].shape[1:3]).all()
        elif name == "CONCATENATION":
            assert all(model.buffers[tensor.buffer].data is None for tensor in inputs)
        elif name == "QUANTIZE":
            # The photo: each uint8 is the int8 that is 128 less.
            assert flatbuffer.quantization(inputs[0]) == (1.0, 0)
            assert flatbuffer.quantization(output) == (1.0, -128)


def test_metadata():
    """How to read the scores; MediaPipe's ImageSegmenter, which would resize otherwise, is told nothing."""
    found = metadata.read(exported())
    reading = found["post_processing"]
    assert (reading["scale"], reading["zero_point"]) == TFLiteRunner(exported()).quantization["scores"]
    assert reading["size"] == list(SIZE)
    assert found["activation"] is None


def test_face_parser(tmp_path):
    """Labels as all scores in 64 bits have them; probabilities and logits as PyTorch resizes."""
    photo, content = images.read(images.BUNDLED, SIZE), exported()
    parser, scores = opened(content, tmp_path), raw_scores(content, photo)
    scale, zero_point = TFLiteRunner(content).quantization["scores"]
    labels = parser(photo)
    np.testing.assert_array_equal(labels, interpolated(scores, SIZE).argmax(-1))
    logits = resize_aligned((scores[np.newaxis] - float(zero_point)) * scale, SIZE)[0]
    np.testing.assert_allclose(parser.logits(photo), logits, atol=1e-4)
    np.testing.assert_allclose(parser.probabilities(photo), special.softmax(logits, -1), atol=1e-5)
    assert parser.class_names == classes.FACE.names
    expected, *_ = default_reference()(normalized(photo))
    assert (labels == expected[0].argmax(-1)).mean() > 0.985


@pytest.mark.parametrize("size", [(33, 47), pytest.param((75, 130), marks=pytest.mark.slow)])
def test_a_narrow_network_at_odd_sizes(size, tmp_path):
    """Width 0.125, random weights, sides that no factor of two divides."""
    state = random_state(num_classes=7, width=0.125)
    photo = images.read(images.BUNDLED, size)
    photos = [photo, *calibration.variations(size, 4).images]
    content = convert.to_tflite(port(state), size, "int8", output="scores", photos=photos)
    assert set(flatbuffer.describe(content)["ops"]) <= OPS
    parser, scores = opened(content, tmp_path), raw_scores(content, photo)
    assert scores.shape == (-(-size[0] // 8), -(-size[1] // 8), 7)
    np.testing.assert_array_equal(parser(photo), interpolated(scores, size).argmax(-1))
    expected, *_ = reference(state)(normalized(photo))
    errors = np.abs(parser.logits(photo) - expected[0])
    assert errors.max() < 0.15 * np.abs(expected).max() and errors.mean() < 0.03 * np.abs(expected).max()


@pytest.mark.slow
def test_scores_of_a_float_file(tmp_path):
    """Another target may have them too: the same labels as its file of labels."""
    photo = images.read(images.BUNDLED, SIZE)
    content = convert.to_tflite(default_model(), SIZE, "float32", output="scores")
    expected, *_ = default_reference()(normalized(photo))
    parser = opened(content, tmp_path)
    np.testing.assert_allclose(parser.logits(photo), expected[0], atol=2e-5 * np.abs(expected).max())
    assert (parser(photo) == expected[0].argmax(-1)).mean() > 0.9999
