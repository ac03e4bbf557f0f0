"""Equalization changes the weights and the ranges of activations, never what the network computes."""

import dataclasses
import functools

import numpy as np
import pytest
from support.graphs import WIDTHS, assert_equal, compute, measure, optimized, photo
from support.networks import narrow

from keras_bisenet.export import passes
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.export.quantization import calibration
from keras_bisenet.export.quantization.equalization import POWER, equalize

SIZE = (64, 96)
PHOTOS = calibration.variations(SIZE, 2).images


def slow(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


@functools.cache
def network(backbone="resnet18", size=SIZE, output="all_heads"):
    """A random network in float64, and its statistics."""
    model = optimized(narrow(WIDTHS, 5, backbone, dtype="float64"), size, output)
    return model, measure(model, calibration.variations(size, 2).images)


def weights(model):
    """Name of a convolution -> a copy of its kernel and of its bias."""
    convs = (layer for layer in model.layers if isinstance(layer, FixedConv2D))
    return {conv.name: (conv.kernel.copy(), conv.bias.copy()) for conv in convs}


def check_same(found, expected):
    """The `weights` must be equal."""
    for name, (kernel, bias) in expected.items():
        np.testing.assert_array_equal(found[name][0], kernel)
        np.testing.assert_array_equal(found[name][1], bias)


def with_other_kernels(found, expected):
    """Names of the convolutions whose kernels differ."""
    return {name for name, (kernel, _) in expected.items() if not np.array_equal(found[name][0], kernel)}


def relu_behind(graph, conv):
    """Name of the ReLU of what a convolution gives."""
    (name,) = (node.name for node in graph.nodes if node.kind == "Relu" and graph.producer(node.inputs[0]).name == conv)
    return name


@pytest.mark.parametrize(
    ("backbone", "size", "output"),
    [
        ("resnet18", SIZE, "all_heads"),
        ("resnet18", (33, 47), "labels"),
        slow("resnet18", (33, 47), "all_heads"),
        slow("resnet34", SIZE, "labels"),
        slow("resnet34", (75, 34), "all_heads"),
    ],
)
def test_an_equalized_network_computes_the_same(backbone, size, output):
    """On a photo that was not calibrated on; and the network that is given stays as it is."""
    model, statistics = network(backbone, size, output)
    before = weights(model)
    equalized, _ = equalize(model, statistics)
    assert_equal(compute(equalized, photo(size)), compute(model, photo(size)))
    check_same(weights(model), before)
    assert with_other_kernels(weights(equalized), before) == before.keys()


@pytest.mark.parametrize("precision", ["float32", slow("float16"), slow("int8")])
def test_other_graphs_compute_the_same(precision):
    """Equalization knows a convolution by its type, however it is computed."""
    model = passes.optimize(network(output="labels")[0], precision)
    equalized, _ = equalize(model, measure(model, PHOTOS))
    assert_equal(compute(equalized, photo(SIZE)), compute(model, photo(SIZE)))


@pytest.mark.parametrize("backbone", ["resnet18", slow("resnet34")])
def test_statistics_are_those_of_the_equalized_network(backbone):
    model, statistics = network(backbone)
    equalized, predicted = equalize(model, statistics)
    again = measure(equalized, PHOTOS)
    assert predicted.keys() == again.keys() == statistics.keys()
    for name, statistic in again.items():
        tolerance = 1e-5 * max(np.abs(statistic.low).max(), np.abs(statistic.high).max())
        found, expected = dataclasses.astuple(predicted[name]), dataclasses.astuple(statistic)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance, err_msg=name)


def spread(statistic):
    """How unlike the ranges of channels are: the standard deviation of their logarithms. Dead channels do not count."""
    return np.log(statistic.high[statistic.high > 1e-3 * statistic.high.max()]).std()


@pytest.mark.parametrize("backbone", ["resnet18", slow("resnet34")])
def test_channels_become_alike(backbone):
    """All but those of the photo and of the gates, whose sigmoid no factor passes."""
    model, statistics = network(backbone)
    _, predicted = equalize(model, statistics)
    changed = {name for name in statistics if not np.array_equal(statistics[name].high, predicted[name].high)}
    _, graph = rewriting.read(model)
    sigmoids = [node for node in graph.nodes if node.kind == "Sigmoid"]
    fixed = {node.name for node in sigmoids} | {graph.producer(node.inputs[0]).name for node in sigmoids}
    fixed |= {node.name for node in graph.nodes if node.kind == "Cast" or (node.kind == "Add" and node.constants)}
    assert not changed & fixed
    # A channel that is 0 for any photo stays 0.
    alive = {name for name, statistic in statistics.items() if (statistic.high > 0).sum() > 1}
    assert len(alive) > 0.8 * len(statistics)
    assert alive - fixed <= changed
    # No addition joins the channels inside a residual block with others.
    inner = [name for name in weights(model) if name.startswith("backbone_layer") and name.endswith("_bn1")]
    assert len(inner) == {"resnet18": 8, "resnet34": 16}[backbone]
    for relu in (relu_behind(graph, conv) for conv in inner):
        assert spread(predicted[relu]) < 0.85 * spread(statistics[relu]), relu


def test_a_channel_is_divided_by_the_root_of_its_range():
    """Where it shares its factors with no other channel: inside a residual block."""
    model, statistics = network()
    _, predicted = equalize(model, statistics)
    name = relu_behind(rewriting.read(model)[1], "backbone_layer2_1_bn1")
    high = statistics[name].high
    factors = np.maximum(high / high.max(), 0.01) ** POWER
    np.testing.assert_allclose(predicted[name].high, high / factors, rtol=1e-12)


@pytest.mark.parametrize("channels", [[1, 3], slice(None)], ids=["some", "all"])
def test_dead_channels_do_no_harm(channels):
    """Channels that are 0 for any photo, here and there in the network."""
    trained = narrow(WIDTHS, 5, dtype="float64")
    for norm in ("backbone_bn1", "backbone_layer1_0_bn1", "backbone_layer2_1_bn2", "ffm_bn", "conv_out_bn"):
        layer = trained.get_layer(norm)
        for variable in (layer.gamma, layer.beta):
            array = variable.numpy()
            array[channels] = 0
            variable.assign(array)
    model = optimized(trained, SIZE, "all_heads")
    equalized, statistics = equalize(model, measure(model, PHOTOS))
    assert all(np.isfinite(array).all() for arrays in weights(equalized).values() for array in arrays)
    assert all(np.isfinite(dataclasses.astuple(statistic)).all() for statistic in statistics.values())
    assert_equal(compute(equalized, photo(SIZE)), compute(model, photo(SIZE)))


def test_without_statistics_all_stays_as_it_is():
    model, _ = network()
    equalized, statistics = equalize(model, {})
    assert statistics == {}
    check_same(weights(equalized), weights(model))


def test_only_what_has_statistics_is_equalized():
    model, statistics = network()
    # The fused features: their ReLU, and what is computed of it without a convolution.
    fused = relu_behind(rewriting.read(model)[1], "ffm_bn")
    known = {fused: statistics[fused]}
    equalized, predicted = equalize(model, known)
    assert with_other_kernels(weights(equalized), weights(model)) == {"ffm_bn", "ffm_conv1", "conv_out_bn"}
    assert predicted.keys() == known.keys()
    assert_equal(compute(equalized, photo(SIZE)), compute(model, photo(SIZE)))
