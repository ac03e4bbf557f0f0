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


def convs(model):
    return {layer.name: layer for layer in model.layers if isinstance(layer, FixedConv2D)}


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
    before = {name: (conv.kernel.copy(), conv.bias.copy()) for name, conv in convs(model).items()}
    equalized, _ = equalize(model, statistics)
    assert_equal(compute(equalized, photo(size)), compute(model, photo(size)))
    changed = 0
    for name, (kernel, bias) in before.items():
        np.testing.assert_array_equal(convs(model)[name].kernel, kernel)
        np.testing.assert_array_equal(convs(model)[name].bias, bias)
        changed += not np.array_equal(convs(equalized)[name].kernel, kernel)
    assert changed == len(before)


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
        for field, expected in dataclasses.asdict(statistic).items():
            np.testing.assert_allclose(
                getattr(predicted[name], field), expected, rtol=0, atol=tolerance, err_msg=f"{name} {field}"
            )


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
    fixed = set()
    for node in graph.nodes:
        if node.kind in ("Cast", "Sigmoid"):
            fixed.add(node.name)
        if node.kind == "Sigmoid":
            fixed.add(graph.producer(node.inputs[0]).name)
        if node.kind == "Add" and node.constants:
            fixed.add(node.name)
    assert not changed & fixed
    # A channel that is 0 for any photo stays 0.
    alive = {name for name, statistic in statistics.items() if (statistic.high > 0).sum() > 1}
    assert len(alive) > 0.8 * len(statistics)
    assert alive - fixed <= changed
    blocks = {"resnet18": 8, "resnet34": 16}[backbone]
    relus = [node for node in graph.nodes if node.kind == "Relu"]
    # No addition joins the channels inside a residual block with others.
    inner = [
        node for node in relus if graph.producer(node.inputs[0]).name.endswith(tuple(f"_{i}_bn1" for i in range(6)))
    ]
    assert len(inner) == blocks
    for node in inner:
        assert spread(predicted[node.name]) < 0.85 * spread(statistics[node.name]), node.name


def test_a_channel_is_divided_by_the_root_of_its_range():
    """Where it shares its factors with no other channel: inside a residual block."""
    model, statistics = network()
    _, predicted = equalize(model, statistics)
    _, graph = rewriting.read(model)
    (name,) = (
        node.name
        for node in graph.nodes
        if node.kind == "Relu" and graph.producer(node.inputs[0]).name == "backbone_layer2_1_bn1"
    )
    high = statistics[name].high
    factors = np.maximum(high / high.max(), 0.01) ** POWER
    np.testing.assert_allclose(predicted[name].high, high / factors, rtol=1e-12)


@pytest.mark.parametrize("channels", [[1, 3], slice(None)], ids=["some", "all"])
def test_dead_channels_do_no_harm(channels):
    """Channels that are 0 for any photo, here and there in the network."""
    weights = narrow(WIDTHS, 5, dtype="float64")
    for norm in ("backbone_bn1", "backbone_layer1_0_bn1", "backbone_layer2_1_bn2", "ffm_bn", "conv_out_bn"):
        layer = weights.get_layer(norm)
        for variable in (layer.gamma, layer.beta):
            array = variable.numpy()
            array[channels] = 0
            variable.assign(array)
    model = optimized(weights, SIZE, "all_heads")
    equalized, statistics = equalize(model, measure(model, PHOTOS))
    assert all(np.isfinite(conv.kernel).all() and np.isfinite(conv.bias).all() for conv in convs(equalized).values())
    for statistic in statistics.values():
        assert np.isfinite([statistic.low, statistic.high, statistic.mean]).all()
    assert_equal(compute(equalized, photo(SIZE)), compute(model, photo(SIZE)))


def test_without_statistics_all_stays_as_it_is():
    model, _ = network()
    equalized, statistics = equalize(model, {})
    assert statistics == {}
    for name, conv in convs(model).items():
        np.testing.assert_array_equal(convs(equalized)[name].kernel, conv.kernel)
        np.testing.assert_array_equal(convs(equalized)[name].bias, conv.bias)


def test_only_what_has_statistics_is_equalized():
    model, statistics = network()
    _, graph = rewriting.read(model)
    # The fused features: their ReLU, and what is computed of it without a convolution.
    (fused,) = (node for node in graph.nodes if node.kind == "Relu" and graph.producer(node.inputs[0]).name == "ffm_bn")
    known = {fused.name: statistics[fused.name]}
    equalized, predicted = equalize(model, known)
    changed = {
        name for name, conv in convs(model).items() if not np.array_equal(convs(equalized)[name].kernel, conv.kernel)
    }
    assert changed == {"ffm_bn", "ffm_conv1", "conv_out_bn"}
    assert predicted.keys() == known.keys()
    assert_equal(compute(equalized, photo(SIZE)), compute(model, photo(SIZE)))
