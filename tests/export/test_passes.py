"""Each graph pass computes what its input model computes, to 1e-9 of the largest logit in float64."""

import collections
import functools
import itertools

import keras
import numpy as np
import pytest
from scipy import special
from support.graphs import WIDTHS, assert_equal, compute, photo, resize_aligned
from support.networks import narrow, random_images, random_state
from support.ported import port, reference
from support.refusals import refused

from keras_bisenet import HEADS, preprocessing
from keras_bisenet.export import deployment, passes
from keras_bisenet.export.passes import column_pairs, fast_convs, folding, rewriting, subsampling
from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.utils.errors import ExportError

PASSES = {
    "fold_batch_norm": (folding.fix_conv, folding.fold_batch_norm),
    "fold_scale": (folding.fix_conv, folding.fold_scale),
    "fold_offset": (folding.fix_conv, folding.fold_scale, folding.fold_offset),
    "offset_to_channel": (folding.fix_conv, folding.fold_scale, folding.offset_to_channel),
    "add_one_to_gate": (folding.add_one_to_gate,),
    "split_upsampled_conv": (*passes.FOLD, fast_convs.split_upsampled_conv),
    "winograd": (*passes.FOLD, fast_convs.winograd),
    "pair_columns": (*passes.FOLD, column_pairs.pair_columns),
    "subsample": (*passes.FOLD, subsampling.subsample),
    **passes.RULES,
}


@functools.cache
def whole_network(backbone):
    """A random network of the published widths in float64, and PyTorch's reference of it."""
    state = random_state(backbone, num_classes=7)
    return port(state, dtype="float64"), reference(state)


@functools.cache
def narrow_network(backbone):
    return narrow(WIDTHS, 5, backbone, dtype="float64")


@pytest.fixture
def fast_when_narrow(monkeypatch):
    """Few channels, and maps of any size, are enough for the fast convolutions."""
    monkeypatch.setattr(fast_convs, "WINOGRAD_CHANNELS", 1)
    monkeypatch.setattr(fast_convs, "WINOGRAD_STRIDE", 32)
    monkeypatch.setattr(fast_convs, "SPLIT_STRIDE", 16)


def kinds(model):
    return [type(operation).__name__ for operation in model.operations]


@pytest.mark.parametrize("precision", passes.RULES)
@pytest.mark.parametrize("input_type", deployment.INPUTS)
@pytest.mark.parametrize(
    ("backbone", "size"),
    [("resnet18", (64, 96)), pytest.param("resnet34", (97, 130), marks=pytest.mark.slow)],
)
def test_a_whole_network_equals_pytorch(backbone, size, input_type, precision):
    model, expected = whole_network(backbone)
    if input_type == "uint8":
        image = photo(size)
        normalized = (image / 255 - preprocessing.MEAN) / preprocessing.STD
    else:
        image = normalized = random_images(*size, "float64")
    optimized = passes.optimize(deployment.deploy(model, size, input_type, "all_heads"), precision)
    assert "BatchNorm" not in kinds(optimized)
    assert_equal(compute(optimized, image), dict(zip(HEADS, expected(normalized), strict=True)))


@pytest.mark.parametrize("rules", PASSES)
@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("resnet18", (33, 47)),
        pytest.param("resnet18", (32, 32), marks=pytest.mark.slow),
        pytest.param("resnet34", (64, 96), marks=pytest.mark.slow),
        pytest.param("resnet18", (75, 34), marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("fast_when_narrow")
def test_a_narrow_network_computes_the_same(rules, backbone, size):
    deployed = deployment.deploy(narrow_network(backbone), size, output="all_heads")
    rewritten = rewriting.rewrite(deployed, PASSES[rules])
    assert kinds(rewritten) != kinds(deployed)
    assert_equal(compute(rewritten, photo(size)), compute(deployed, photo(size)))


@pytest.mark.parametrize("output", deployment.OUTPUTS)
def test_outputs(output):
    deployed = deployment.deploy(narrow_network("resnet18"), (32, 40), output=output)
    results = compute(passes.optimize(deployed, "float32"), photo((32, 40)))
    normalized = keras.ops.convert_to_numpy(preprocessing.normalize(photo((32, 40)), "float64"))
    expected = compute(narrow_network("resnet18"), normalized)
    assert tuple(results) == deployment.OUTPUTS[output]
    if output == "labels":
        assert results["labels"].dtype == np.uint8
        np.testing.assert_array_equal(results["labels"], expected["logits"].argmax(-1))
    elif output == "probabilities":
        np.testing.assert_allclose(results["probabilities"], special.softmax(expected["logits"], -1), atol=1e-9)
    elif output == "scores":
        assert results["scores"].shape == (1, 4, 5, 5)
        assert_equal({"logits": resize_aligned(results["scores"], (32, 40))}, {"logits": expected["logits"]})
    else:
        assert_equal(results, {name: expected[name] for name in deployment.OUTPUTS[output]})


def test_the_model_that_is_exported_stays_as_it_is():
    model = narrow_network("resnet18")
    before = [weight.numpy().copy() for weight in model.weights]
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    passes.optimize(deployment.deploy(model, (32, 32)), "int8")
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    # The first walk calls the layers with weights on the new input; no later one does.
    assert all(len(layer._inbound_nodes) <= count + 1 for layer, count in zip(model.layers, calls, strict=True))


def convolutions(model):
    """Name of a convolution -> its type."""
    return {layer.name: type(layer).__name__ for layer in model.layers if isinstance(layer, FixedConv2D)}


def test_fast_convolutions_take_the_places_they_are_for():
    deployed = deployment.deploy(whole_network("resnet18")[0], (512, 512))
    found = convolutions(passes.optimize(deployed, "float32"))
    assert [name for name, kind in found.items() if kind == "UpsampledConv2D"] == ["conv_head16_bn"]
    assert [name for name, kind in found.items() if kind == "WinogradConv2D"] == ["conv_out_bn"]


def multiplications(model, image, monkeypatch):
    """Name of a convolution -> how many numbers it multiplies for an image."""
    found, convolve = collections.Counter(), FixedConv2D._convolve

    def count(self, x, kernel, *arguments):
        result = convolve(self, x, kernel, *arguments)
        found[self.name] += kernel.size * result.shape[1] * result.shape[2]
        return result

    with monkeypatch.context() as patch:
        patch.setattr(FixedConv2D, "_convolve", count)
        compute(model, image)
    return found


@pytest.mark.usefixtures("fast_when_narrow")
def test_fast_convolutions_multiply_less(monkeypatch):
    """Four ninths behind an upsampling, two thirds with Winograd, and the same in all others."""
    deployed = deployment.deploy(narrow_network("resnet18"), (64, 128))
    fast = passes.optimize(deployed, "float32")
    plain = multiplications(rewriting.rewrite(deployed, passes.FOLD), photo((64, 128)), monkeypatch)
    found, kinds_of = multiplications(fast, photo((64, 128)), monkeypatch), convolutions(fast)
    assert found.keys() == plain.keys()
    assert set(kinds_of.values()) == {"FixedConv2D", "UpsampledConv2D", "WinogradConv2D"}
    factors = {"FixedConv2D": (1, 1), "UpsampledConv2D": (4, 9), "WinogradConv2D": (2, 3)}
    for name, kind in kinds_of.items():
        part, whole = factors[kind]
        assert found[name] * whole == plain[name] * part, name


def test_gates_of_an_open_size_take_the_one():
    """The pass that training uses too, on a network for photos of any size."""
    model = rewriting.rewrite(narrow_network("resnet18"), PASSES["add_one_to_gate"])
    assert len(kinds(model)) == len(kinds(narrow_network("resnet18")))
    assert kinds(model) != kinds(narrow_network("resnet18"))
    image = random_images(32, 40, "float64")
    assert_equal(compute(model, image), compute(narrow_network("resnet18"), image))


@pytest.mark.parametrize("rule", dict.fromkeys(itertools.chain(*passes.RULES.values())))
def test_where_its_pattern_is_missing_a_rule_changes_nothing(rule):
    """A network of other layers, close to what the rules look for."""
    image = keras.Input((32, 32, 4), batch_size=1, dtype="float64", name="image")
    x = keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same", dtype="float64")(image)
    x = keras.layers.BatchNormalization(dtype="float64")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", dtype="float64")(x)
    x = keras.layers.UpSampling2D(2, dtype="float64")(keras.ops.relu(x))
    x = x * keras.ops.sigmoid(x) + x
    model = keras.Model(image, {"logits": keras.layers.Conv2D(3, 1, activation="relu", dtype="float64")(x)})
    rewritten = rewriting.rewrite(model, [rule])
    assert kinds(rewritten) == kinds(model)
    inputs = random_images(32, 32, "float64")
    inputs = np.concatenate([inputs, inputs[..., :1]], axis=-1)
    assert_equal(compute(rewritten, inputs), compute(model, inputs))


def nested(image):
    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(2, 1)], name="strange")(image)


def called_twice(image):
    shared = keras.layers.Conv2D(3, 1, name="strange")
    return shared(shared(image))


@pytest.mark.parametrize("layers", [nested, called_twice])
def test_a_layer_that_no_pass_can_carry_is_named(layers):
    image = keras.Input((32, 32, 3))
    with refused(ExportError, "strange"):
        rewriting.rewrite(keras.Model(image, {"logits": layers(image)}), [])


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with refused(ExportError, "Subclassed"):
        rewriting.rewrite(Subclassed(), [])
