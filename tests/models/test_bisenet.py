"""The Keras network against PyTorch, in float64 and float32. Runs on every backend (models/test_backends.py)."""

import collections
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from support.networks import random_images, random_state
from support.ported import default_reference, default_state, port, reference
from support.refusals import refused

from keras_bisenet import HEADS, BiSeNet
from keras_bisenet.models import architecture
from weight_port import parity

# At least 10,000 pixels each, so that one pixel on a boundary does not decide about 99.99 %.
SIZES = [(64, 160), (133, 97), (161, 65), (513, 385)]


@pytest.mark.parametrize(("classes", "backbone", "width"), [(19, "resnet18", 1.0), (5, "resnet34", 0.375)])
def test_feature_maps_are_those_of_the_network(classes, backbone, width):
    model = BiSeNet(classes, backbone, width, (256, 512, 3))
    sides = (layer.output.shape for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    found = collections.Counter((shape[3], 256 // shape[1]) for shape in sides if shape[1] > 1)
    assert found == collections.Counter(architecture.feature_maps(classes, backbone, width))


def check_equal(model, reference, size):
    """The three heads must be PyTorch's, as precisely as the dtype of the model allows."""
    images = random_images(*size, model.dtype)
    results = model(images)
    tolerance = parity.TOLERANCES[{"float64": "keras_float64", "float32": "keras"}[model.dtype]]
    for head, expected in zip(HEADS, reference(images), strict=True):
        difference = parity.compare(expected, ops.convert_to_numpy(results[head]))
        assert tolerance.holds(difference), (head, difference)


@pytest.fixture(scope="module", params=["resnet18", "resnet34"])
def backbone(request):
    return request.param


@pytest.fixture(scope="module", params=["float64", "float32"])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def network(backbone, dtype):
    """(model, reference) with random weights and statistics and 7 classes."""
    state = random_state(backbone, num_classes=7)
    return port(state, dtype=dtype), reference(state)


@pytest.mark.parametrize(
    "size",
    [*SIZES[:2], *(pytest.param(size, marks=pytest.mark.slow) for size in SIZES[2:])],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_equals_pytorch(network, size):
    check_equal(*network, size)


@pytest.mark.parametrize(
    ("layout", "width"),
    [
        *itertools.product(["zllrunning", "yakhyo"], [0.25, 0.3, 1.25]),
        pytest.param("yakhyo", 1.0, marks=pytest.mark.slow),
    ],
)
def test_equals_pytorch_in_other_layouts_and_widths(backbone, dtype, layout, width):
    """A layout names the same tensors differently, so that one size is enough."""
    state = random_state(backbone, layout, num_classes=7, width=width)
    model = port(state, dtype=dtype)
    assert model.width == width
    check_equal(model, reference(state), SIZES[1])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trained_checkpoint_equals_pytorch(dtype):
    check_equal(port(default_state(), dtype=dtype), default_reference(), (161, 128))


def test_a_wrong_weight_is_noticed():
    """The comparison can fail: one exchanged pair of same-shaped kernels is far outside float64's tolerance."""
    state = random_state(num_classes=3)
    model, images = port(state, dtype="float64"), random_images(64, 64, "float64")
    first, second = (model.get_layer(f"conv_head{stride}_conv").kernel for stride in (16, 32))
    kernels = ops.convert_to_numpy(first), ops.convert_to_numpy(second)
    first.assign(kernels[1])
    second.assign(kernels[0])
    result = ops.convert_to_numpy(model(images)["logits"])
    assert parity.compare(reference(state)(images)[0], result).max_abs > 1e-2


def test_batch_of_images_equals_each_alone():
    model, images = BiSeNet(4), random_images(64, 64, count=3)
    together, *alone = (ops.convert_to_numpy(model(part)["logits"]) for part in (images, *images[:, np.newaxis]))
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("backbone_name", "parameters"), [("resnet18", 13_300_416), ("resnet34", 23_408_576)])
def test_number_of_parameters(backbone_name, parameters):
    assert sum(np.prod(weight.shape) for weight in BiSeNet(backbone=backbone_name).trainable_weights) == parameters


@pytest.mark.parametrize(
    ("width", "stages", "fused"),
    [
        (1.0, (64, 128, 256, 512), 256),
        (0.5, (32, 64, 128, 256), 128),
        (0.25, (16, 32, 64, 128), 64),
        (0.3, (16, 40, 80, 152), 80),
        (0.0625, (8, 8, 16, 32), 16),
        (1.5, (96, 192, 384, 768), 384),
    ],
)
def test_a_width_gives_each_layer_the_nearest_multiple_of_8(width, stages, fused):
    model = BiSeNet(4, width=width)
    names = [f"backbone_layer{stage}_1_conv2" for stage in (1, 2, 3, 4)]
    assert tuple(model.get_layer(name).filters for name in names) == stages
    assert (model.get_layer("ffm_conv").filters, model.get_layer("conv_out_logits").filters) == (fused, 4)


@pytest.mark.parametrize("width", [0.5, 0.0625])
def test_saved_and_loaded_network_is_the_same(tmp_path, width):
    model, images = port(random_state(num_classes=5, width=width)), random_images(64, 96)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    again, reloaded = keras.saving.load_model(tmp_path / "model.keras"), BiSeNet.from_config(model.get_config())
    reloaded.load_weights(tmp_path / "model.weights.h5")
    assert isinstance(again, BiSeNet)
    assert again.get_config() == model.get_config()
    for head in HEADS:
        first, *others = (ops.convert_to_numpy(each(images)[head]) for each in (model, again, reloaded))
        for other in others:
            np.testing.assert_array_equal(first, other)


def test_config_rebuilds_the_network():
    model = BiSeNet(3, "resnet34", 0.25, (64, 96, 3), dtype="float64", name="mine")
    again = BiSeNet.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    assert again.input_shape == (None, 64, 96, 3)
    assert again.output["logits32"].shape == (None, 64, 96, 3)


def test_dtype_is_the_networks_alone():
    before = keras.config.dtype_policy().name
    model = BiSeNet(2, dtype="float64")
    assert keras.config.dtype_policy().name == before
    assert {weight.dtype for weight in model.weights} == {"float64"}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("backbone", "resnet50", "one of resnet18, resnet34"),
        ("num_classes", 0, "a whole number from 1"),
        *(
            ("width", width, "a number from 0.0625 (under which the first layer has no channel) to 2")
            for width in (0, 0.06, -1.0, 2.5, float("nan"), float("inf"), "1", True, None)
        ),
        ("input_shape", (31, 64, 3), "(H, W, 3) with H and W None or at least 32"),
        ("input_shape", (None, None, 1), "(H, W, 3) with H and W None or at least 32"),
    ],
)
def test_bad_arguments(name, value, expected):
    with refused(ValueError, f"{name} is {value!r}; expected {expected}"):
        BiSeNet(**{name: value})


def test_it_says_what_it_is():
    model = BiSeNet(3, "resnet34", 0.25, (64, 96, 3), dtype="float64", name="mine")
    assert repr(model) == "<BiSeNet mine: resnet34 at width 0.25, 3 classes, photos of 64x96, float64>"
    assert "photos of anyxany" in repr(BiSeNet(2, width=0.0625))
