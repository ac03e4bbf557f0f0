"""Equalisation changes the weights and the ranges of activations, never what the network computes."""

import dataclasses
import functools

import numpy as np
import pytest
from test_calibration import NOT_NEEDED, Recording, random_network
from test_graph import Eager

from keras_bisenet import HEADS
from keras_bisenet.export import calibration, graph
from keras_bisenet.export.equalisation import equalise
from keras_bisenet.export.quantised_builder import QuantisedBuilder

SIZE = (64, 96)
PHOTOS = calibration.variations(SIZE, 2).images


@functools.cache
def measure(backbone):
    """A random network and its statistics."""
    network = random_network(backbone)
    return network, calibration.measure(network, PHOTOS, "all_heads")


@pytest.fixture(params=["resnet18", "resnet34"])
def measured(request):
    return measure(request.param)


@pytest.fixture
def small():
    return measure("resnet18")


def assert_equal_networks(network, other):
    """All three heads in float64, on a photo that was not calibrated on."""
    photo = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    expected, result = (graph.write(weights, Eager(), photo, "all_heads") for weights in (network, other))
    for head in HEADS:
        np.testing.assert_allclose(
            result[head], expected[head], rtol=0, atol=1e-9 * np.abs(expected[head]).max(), err_msg=head
        )


def test_an_equalised_network_computes_the_same(measured):
    network, statistics = measured
    before = {name: weight.copy() for name, weight in network.weights.items()}
    equalised, _ = equalise(network, statistics)
    assert (equalised.num_classes, equalised.backbone) == (network.num_classes, network.backbone)
    assert_equal_networks(network, equalised)
    assert {name: weight.shape for name, weight in equalised.weights.items()} == {
        name: weight.shape for name, weight in before.items()
    }
    for name, weight in before.items():
        np.testing.assert_array_equal(network.weights[name], weight)


def test_a_network_without_auxiliary_heads_in_the_file_computes_the_same(small):
    """Their convolutions read what is equalised all the same."""
    network, _ = small
    equalised, _ = equalise(network, calibration.measure(network, PHOTOS, "labels"))
    assert_equal_networks(network, equalised)


def test_statistics_are_those_of_the_equalised_network(measured):
    network, statistics = measured
    equalised, predicted = equalise(network, statistics)
    again = calibration.measure(equalised, PHOTOS, "all_heads")
    assert predicted.keys() == again.keys()
    for name, statistic in again.items():
        if name.endswith(NOT_NEEDED):
            continue
        tolerance = 1e-5 * max(np.abs(statistic.low).max(), np.abs(statistic.high).max())
        for seen, expected in dataclasses.asdict(statistic).items():
            np.testing.assert_allclose(
                getattr(predicted[name], seen), expected, rtol=0, atol=tolerance, err_msg=f"{name} {seen}"
            )


def test_each_int8_convolution_knows_the_mean_of_what_it_reads(measured):
    """The correction of its bias counts on it."""
    equalised, statistics = equalise(*measured)
    builder = QuantisedBuilder(statistics)
    quantised = Recording(builder)
    graph.write(equalised, quantised, builder.input("image", (1, *SIZE, 3), "uint8"), "all_heads")
    exact = [Recording(Eager()) for _ in PHOTOS]
    for recording, photo in zip(exact, PHOTOS, strict=True):
        graph.write(equalised, recording, photo[np.newaxis], "all_heads")
    assert len(quantised.read) == sum(name.endswith("/kernel") for name in equalised.weights)
    for name, value in quantised.read.items():
        # The last convolutions compute in float.
        if value.dtype == "int8":
            values = np.stack([recording.read[name] for recording in exact])
            tolerance = 1e-5 * np.abs(values).max()
            np.testing.assert_allclose(value.mean, values.mean((0, 1, 2, 3)), rtol=0, atol=tolerance, err_msg=name)


def spread(statistic):
    """How unlike the ranges of channels are: the standard deviation of their logarithms. Dead channels do not count."""
    return np.log(statistic.high[statistic.high > 0]).std()


def test_channels_become_alike(measured):
    network, statistics = measured
    again = calibration.measure(equalise(network, statistics)[0], PHOTOS, "all_heads")
    blocks = [name for name in statistics if name.endswith(("_conv1", "_sum")) and name.startswith("backbone_layer")]
    assert len(blocks) == 2 * {"resnet18": 8, "resnet34": 16}[network.backbone]
    context = ["arm32", "arm32_sum", "arm16", "arm16_sum", "conv_head16", "ffm", "ffm_gated"]
    for name in ["backbone_conv1", *blocks, *context, "conv_out", "conv_out16", "conv_out32"]:
        assert spread(again[name]) < 0.85 * spread(statistics[name]), name


@pytest.mark.parametrize("channels", [[3, 5], slice(None)], ids=["some", "all"])
def test_dead_channels_do_no_harm(small, channels):
    """Channels that are 0 for any photo, here and there in the network."""
    weights = {name: weight.copy() for name, weight in small[0].weights.items()}
    for norm in ("backbone_bn1", "backbone_layer1_0_bn1", "backbone_layer2_1_bn2", "arm16_bn", "ffm_bn", "conv_out_bn"):
        weights[f"{norm}/gamma"][channels] = weights[f"{norm}/beta"][channels] = 0
    network = dataclasses.replace(small[0], weights=weights)
    equalised, statistics = equalise(network, calibration.measure(network, PHOTOS, "all_heads"))
    assert all(np.isfinite(weight).all() for weight in equalised.weights.values())
    for statistic in statistics.values():
        assert np.isfinite([statistic.low, statistic.high, statistic.mean]).all()
    assert_equal_networks(network, equalised)


def test_without_statistics_all_stays_as_it_is(small):
    network, _ = small
    equalised, statistics = equalise(network, {})
    assert statistics == {}
    for name, weight in network.weights.items():
        np.testing.assert_array_equal(equalised.weights[name], weight)


def test_only_what_has_statistics_is_equalised(small):
    network, statistics = small
    known = {name: statistics[name] for name in ("ffm", "ffm_mean", "ffm_gated")}
    equalised, predicted = equalise(network, known)
    changed = {name for name in network.weights if not np.array_equal(network.weights[name], equalised.weights[name])}
    assert changed == {"ffm_bn/gamma", "ffm_bn/beta", "ffm_conv1/kernel", "conv_out_conv/kernel"}
    assert predicted.keys() == known.keys()
    assert_equal_networks(network, equalised)
