"""The quantization experiment: its arithmetic, and that each choice differs in what its name says and no more."""

import re

import keras
import numpy as np
import pytest
from support.networks import narrow

from benchmarks.quantization import builders, choices, comparison
from benchmarks.quantization.choices import AS_IT_IS, Calibrated, Choice
from keras_bisenet.export import convert
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import FixedConv2D, Rounding
from keras_bisenet.export.quantization import calibration, quantize
from keras_bisenet.tflite import flatbuffer

pytestmark = pytest.mark.slow

# Height and width differ.
SIZE = (64, 96)
NAMES = [choice.name for choice in choices.choices()]
PARTS = (
    "first convolution and pooling",
    *(f"stage {stage}, block {block}" for stage in (1, 2, 3, 4) for block in (1, 2)),
    "global context",
    *("attention refinement, stride 32", "convolution after it, stride 16"),
    *("attention refinement, stride 16", "convolution after it, stride 8"),
    *("feature fusion", "convolution before the logits"),
)


@pytest.fixture(scope="module")
def model():
    """A network with an eighth of the channels, so that files are made in moments; weights and statistics random."""
    return narrow((8, 16, 32, 64, 16, 32, 8, 32), 7)


@pytest.fixture(scope="module")
def photos():
    return calibration.variations(SIZE, count=3).images


@pytest.fixture(scope="module")
def calibrated(model, photos):
    return Calibrated(model, photos)


@pytest.fixture(scope="module")
def pair(calibrated):
    """The model of `AS_IT_IS`, and the exact one that it is made of."""
    found = []
    calibrated.quantized(Choice("kept", revise=lambda *models: found.extend(models)))
    return tuple(found)


def logits(model, photos):
    """`[pixels, classes]`, each class without its mean: what remains comes from the photos."""
    copy, graph = rewriting.read(model)
    (labels,) = (node for node in graph.nodes if node.kind == "ArgMax")
    network = keras.Model(copy.input, labels.inputs)
    scores = np.concatenate([network(photo[np.newaxis], training=False)[0] for photo in photos])
    pixels = scores.reshape(-1, scores.shape[-1])
    return pixels - pixels.mean(0, np.float64)


def roundings(model):
    """Name of a rounding -> its range."""
    return {layer.name: (layer.low, layer.high) for layer in model.layers if isinstance(layer, Rounding)}


def integer_convs(model):
    return {layer.name for layer in model.layers if isinstance(layer, FixedConv2D) and layer.steps is not None}


# The choices.


def test_as_it_is_is_what_the_export_makes(model, calibrated, photos):
    """Byte for byte, but for the names of inner tensors: Keras numbers the layers of a process."""

    def without_names(content):
        unpacked = flatbuffer.unpack(content)
        for tensor in unpacked.subgraphs[0].tensors:
            tensor.name = ""
        return flatbuffer.pack(unpacked)

    expected = convert.to_tflite(model, SIZE, "int8", photos=photos)
    assert without_names(calibrated.file(AS_IT_IS)) == without_names(expected)


# One of the numbers that differ in nothing else is enough.
@pytest.mark.parametrize("name", [name for name in NAMES if not re.match(r"ranges: 0\.|equalization: power 0", name)])
def test_a_choice_is_another_file_of_the_same_network(calibrated, pair, photos, name):
    as_it_is, exact = (logits(model, photos) for model in pair)
    (choice,) = (choice for choice in choices.choices() if choice.name == name)
    results = logits(calibrated.quantized(choice), photos)
    assert (results != as_it_is).any()
    assert np.corrcoef(results.ravel(), exact.ravel())[0, 1] > 0.98


def test_least_squares_range():
    """It pays to cut one value off where that makes the steps of very many others finer."""
    many = np.random.default_rng(0).uniform(0, 1, 200_000).astype(np.float32)
    found = choices.least_squares_range(np.append(many, np.float32(1.1)))
    assert 0.98 < found["high"] < 1.02
    found = choices.least_squares_range(np.append(many[:1000], np.float32(1.1)))
    assert found["high"] == np.float32(1.1)


def test_least_squares_kernel():
    kernel = np.random.default_rng(0).uniform(-1, 1, (3, 3, 3000, 3))
    kernel[0, 0, 0, 0], kernel[..., 2] = 1.1, 0
    plain, better = (
        np.square(rounded * steps - kernel).sum((0, 1, 2))
        for rounded, steps in (quantize.round_kernel(kernel), builders.least_squares_kernel(kernel))
    )
    assert better[0] < 0.95 * plain[0]
    assert better[1] <= plain[1]
    assert better[2] == 0
    _, steps = builders.least_squares_kernel(kernel, least=np.full(3, 2.0))
    assert (steps >= 2).all()


# Parts of the network.


def test_everything_in_float_is_float32(pair, photos):
    model = builders.in_float(lambda graph: [node.name for node in graph.nodes])(*pair)
    assert not roundings(model)
    assert not integer_convs(model)
    exact = logits(pair[1], photos)
    np.testing.assert_allclose(logits(model, photos), exact, rtol=0, atol=1e-4 * np.abs(exact).max())


def test_every_int8_result_is_of_one_part(pair):
    _, graph = rewriting.read(pair[1])
    parts = choices.parts(graph)
    assert tuple(parts) == PARTS
    names = [*integer_convs(pair[0]), *(name.removesuffix("_rounded") for name in roundings(pair[0]))]
    assert len(names) > 80
    for name in names:
        assert sum(name in part for part in parts.values()) == 1, name
    assert {graph.named(name).kind for name in parts["attention refinement, stride 16"]} >= {
        *("FixedConv2D", "Relu", "GlobalMean", "Sigmoid", "Multiply", "Add")
    }
    assert {graph.named(name).kind for name in parts["feature fusion"]} >= {"Concatenate", "GlobalMean"}


@pytest.mark.parametrize("part", [*PARTS[:2], PARTS[3], *PARTS[9:11], *PARTS[-2:]])
def test_a_part_is_in_int8_or_in_float(pair, part):
    within = choices.parts(rewriting.read(pair[1])[1])[part]
    only, all_but = (made(part).revise(*pair) for made in (choices.only, choices.all_but))
    assert integer_convs(only) == integer_convs(pair[0]) & within
    assert integer_convs(all_but) == integer_convs(pair[0]) - within
    for name, found in roundings(pair[0]).items():
        # Its own result is rounded where it is computed.
        inside = name.removesuffix("_rounded") in within
        assert (name in roundings(only), name in roundings(all_but)) == (inside, not inside), name
        # Elsewhere it is rounded with the same scale where int8 reads it.
        for model in (only, all_but):
            beginning = name.removesuffix("_rounded") + "_for_"
            edges = [range_ for edge, range_ in roundings(model).items() if edge.startswith(beginning)]
            assert set(edges) <= {found}
    assert any("_for_" in name for name in roundings(all_but)) or part == "convolution before the logits"


# Arithmetic.


def test_agreement_and_change_by_hand():
    expected = np.zeros((2, 2, 5), np.uint8)
    labels = expected.copy()
    labels[0, 0, :3] = 1
    np.testing.assert_allclose(comparison.agreement(labels, expected), [0.7, 1.0])
    # The differences 0.1, 0, 0.1 have the standard deviation 0.1 / sqrt(3).
    found = comparison.change(np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.8, 0.6]))
    assert found == pytest.approx({"mean": 0.2 / 3, "error": 0.1 / 3})
