"""The port and its reverse, and what it says of state_dicts that do not fit."""

import keras
import numpy as np
import pytest
import torch
from support.networks import random_state
from support.refusals import refused

import weight_port
from keras_bisenet import BiSeNet
from weight_port import CheckpointError, layouts, transposes
from weight_port.port import Architecture, key_map
from weight_port.reference import torch_network

# A layer of the backbone -> its channels at width 1.
CHANNELS = {"conv1": 64, "layer2.0.conv1": 128, "layer3.0.conv1": 256, "layer4.0.conv1": 512}


def model_for(architecture):
    return BiSeNet(architecture.num_classes, architecture.backbone, architecture.width)


def arrays(network):
    """The state_dict of a PyTorch network, key -> array."""
    return {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}


def load(network, state):
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, strict=True)


def test_kernel_axes_of_four_different_sizes():
    kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    keras_kernel = transposes.to_keras(kernel)
    assert keras_kernel.shape == (4, 5, 3, 2)
    assert keras_kernel[3, 1, 2, 0] == kernel[0, 2, 3, 1]
    assert transposes.torch_shape(keras_kernel.shape) == kernel.shape
    np.testing.assert_array_equal(transposes.to_torch(keras_kernel), kernel)
    assert transposes.to_torch(keras_kernel).flags.c_contiguous


@pytest.mark.parametrize("layout", ["zllrunning", "yakhyo"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize("num_classes", [1, 11, 19])
def test_recognizes(layout, backbone, num_classes):
    architecture = weight_port.recognize(random_state(backbone, layout, num_classes))
    assert architecture == Architecture(layouts.LAYOUTS[layout], backbone, num_classes)
    assert str(architecture) == f"BiSeNet {backbone} with {num_classes} classes ({layout} layout)"


@pytest.mark.parametrize(
    ("width", "named"), [(0.5, 0.5), (0.25, 0.25), (0.3, 0.3), (0.29, 0.29), (0.0625, 0.07), (1.9, 1.9)]
)
def test_recognizes_the_width(width, named):
    architecture = weight_port.recognize(random_state(num_classes=2, width=width))
    assert architecture.width == named
    assert str(architecture) == f"BiSeNet resnet18 at width {named} with 2 classes (zllrunning layout)"
    backbone = torch_network.BiSeNet(2, width=width).cp.resnet
    assert weight_port.recognize_backbone(arrays(backbone)).width == named


@pytest.mark.parametrize("thousandths", range(63, 2001, 13))
def test_every_width_is_recognized_as_one_with_the_same_channels(thousandths):
    channels = torch_network.channels_at(thousandths / 1000)
    state = {f"cp.resnet.{layer}.weight": np.zeros((channels(base), 1, 1, 1)) for layer, base in CHANNELS.items()}
    state |= {f"{module}.weight": np.zeros((channels(256), 1, 1, 1)) for module in layouts.ZLLRUNNING.modules.values()}
    state["conv_out.conv_out.weight"] = np.zeros((2, channels(256), 1, 1))
    again = torch_network.channels_at(weight_port.recognize(state).width)
    assert [again(base) for base in CHANNELS.values()] == [channels(base) for base in CHANNELS.values()]


@pytest.mark.parametrize("width", [1.0, 0.3])
@pytest.mark.parametrize("layout", ["zllrunning", "yakhyo"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_every_tensor_is_mapped_once_and_comes_back_bit_for_bit(layout, backbone, width):
    state = random_state(backbone, layout, num_classes=6, width=width)
    architecture = weight_port.recognize(state)
    model = model_for(architecture)
    unmapped = weight_port.apply(state, model.variables, architecture)
    keys = key_map([variable.path for variable in model.variables], architecture.layout)
    assert len(set(keys.values())) == len(model.variables)
    again = weight_port.reverse(weight_port.keras_weights(model.variables), architecture.layout, unmapped)
    assert again.keys() == state.keys()
    for key, array in state.items():
        assert again[key].dtype == array.dtype, key
        np.testing.assert_array_equal(again[key], array, err_msg=key)
    load(torch_network.BiSeNet(6, backbone, layout, width), again)


def test_a_model_never_seen_by_pytorch_goes_there():
    """From one layout into the other, without unmapped tensors: the counters and the unused classifier are zero."""
    weights = weight_port.keras_weights(BiSeNet(5, width=0.25).variables)
    network = torch_network.BiSeNet(5, layout="yakhyo", width=0.25)
    load(network, weight_port.reverse(weights, layouts.YAKHYO))
    assert not network.fpn.backbone.fc.weight.any()
    assert network.fpn.backbone.bn1.num_batches_tracked == 0


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize("classifier", [True, False])
def test_torchvision_backbone(backbone, classifier):
    state = arrays(torch_network.ResNet(backbone, classifier))
    architecture = weight_port.recognize_backbone(state)
    assert str(architecture) == f"a {backbone} backbone (torchvision layout)"
    model = BiSeNet(3, backbone)
    before = weight_port.keras_weights(model.variables)
    weight_port.apply(state, model.variables, architecture)
    after = weight_port.keras_weights(model.variables)
    kernel = state["layer3.1.conv2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(after["backbone_layer3_1_conv2/kernel"], kernel)
    np.testing.assert_array_equal(after["conv_out_logits/kernel"], before["conv_out_logits/kernel"])


def error_of(state):
    """The lines of what `apply` says, which must leave the model as it is."""
    architecture = weight_port.recognize(state)
    model = model_for(architecture)
    before = weight_port.keras_weights(model.variables)
    with pytest.raises(CheckpointError) as error:
        weight_port.apply(state, model.variables, architecture)
    after = weight_port.keras_weights(model.variables)
    assert all(np.array_equal(before[path], after[path]) for path in before), "a refused checkpoint changed the model"
    return str(error.value).splitlines()


def test_missing_extra_and_misshaped_keys_are_all_listed_sorted():
    """A counter without its batch norm is one of the unexpected."""
    state = random_state(width=0.25)
    del state["ffm.conv2.weight"], state["cp.arm16.bn_atten.running_var"]
    for key in ("zz.extra", "cp.other.num_batches_tracked", "aa.extra"):
        state[key] = np.zeros((), np.int64)
    state["conv_out16.conv.bn.bias"] = np.zeros(65, np.float32)
    state["cp.conv_avg.conv.weight"] = state["cp.conv_avg.conv.weight"].transpose(1, 0, 2, 3)
    assert error_of(state) == [
        "the checkpoint does not fit BiSeNet resnet18 at width 0.25 with 19 classes (zllrunning layout): "
        "2 missing (-), 3 unexpected (+), 2 of another shape (~)",
        "  - cp.arm16.bn_atten.running_var",
        "  - ffm.conv2.weight",
        "  + aa.extra",
        "  + cp.other.num_batches_tracked",
        "  + zz.extra",
        "  ~ conv_out16.conv.bn.bias: found (65,), expected (16,)",
        "  ~ cp.conv_avg.conv.weight: found (128, 32, 1, 1), expected (32, 128, 1, 1)",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    state = random_state(width=0.25)
    state["cp.resnet.bn1.running_var"][[3, 5]] = value
    state["ffm.conv1.weight"][0, 0] = value
    head, *tensors = error_of(state)
    assert head.startswith("2 tensors hold NaN or infinite values")
    assert tensors == ["  cp.resnet.bn1.running_var: 2 of 16", "  ffm.conv1.weight: 1 of 1024"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"sp.conv1.conv": 64}, ["CoinCheung's BiSeNet V1", "sp.*", "zllrunning", "yakhyo"]),
        ({"cp.resnet.layer1.0.conv3": 256}, ["bottleneck blocks", "ResNet-18 or ResNet-34"]),
        ({"cp.resnet.conv1": 65}, ["cp.resnet.conv1.weight has 65"]),
        ({"cp.resnet.conv1": 0}, ["cp.resnet.conv1.weight has 0"]),
        ({"cp.resnet.layer4.0.conv1": 480}, ["cp.resnet.layer4.0.conv1.weight has 480"]),
        ({"cp.resnet.layer2.0.conv1": 64}, ["cp.resnet.layer2.0.conv1.weight has 64"]),
        # Four times as wide.
        ({f"cp.resnet.{layer}": 4 * count for layer, count in CHANNELS.items()}, ["fit no width", "has 2048"]),
    ],
)
def test_layers_of_another_network(changes, found):
    state = random_state() | {f"{layer}.weight": np.zeros((count, 1, 1, 1)) for layer, count in changes.items()}
    with refused(CheckpointError, *found):
        weight_port.recognize(state)


def test_without_a_main_head():
    state = random_state(width=0.25)
    del state["conv_out.conv_out.weight"]
    with refused(CheckpointError, "main head", "conv_out.conv_out.weight"):
        weight_port.recognize(state)


def test_other_networks():
    with refused(CheckpointError, "bare ResNet", "weight_port.recognize_backbone"):
        weight_port.recognize(arrays(torch_network.ResNet("resnet18", True)))
    with refused(CheckpointError, "conv1.weight, layer1.0.conv1.weight"):
        weight_port.recognize_backbone(random_state(width=0.25))
    names = [f"features.{number}.weight" for number in range(4)]
    with refused(CheckpointError, f"its 4 keys begin with {', '.join(names[:3])}; ", "cp.resnet.*", "fpn.backbone.*"):
        weight_port.recognize(dict.fromkeys(names, np.zeros((1, 1, 1, 1))))


def test_keras_names_hold_on_every_backend():
    """The torch backend refuses dots in a variable's path, Keras refuses slashes in a layer's name."""
    for layer in keras.models.clone_model(BiSeNet(2, width=0.25)).layers:
        assert not set(layer.name) & set("./")
