"""The port and its reverse, and what it says of state_dicts that do not fit."""

import re

import keras
import numpy as np
import pytest
import torch
from support.networks import random_state

import weight_port
from keras_bisenet import BiSeNet
from weight_port import CheckpointError, layouts, transposes
from weight_port.port import key_map
from weight_port.reference import torch_network


def model_for(architecture):
    return BiSeNet(architecture.num_classes or 19, architecture.backbone, architecture.width)


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
    assert (architecture.layout.name, architecture.backbone, architecture.num_classes) == (
        layout,
        backbone,
        num_classes,
    )
    assert str(architecture) == f"BiSeNet {backbone} with {num_classes} classes ({layout} layout)"


@pytest.mark.parametrize(
    ("width", "named"), [(0.5, 0.5), (0.25, 0.25), (0.3, 0.3), (0.29, 0.29), (0.0625, 0.07), (1.9, 1.9)]
)
def test_recognizes_the_width(width, named):
    architecture = weight_port.recognize(random_state(num_classes=2, width=width))
    assert architecture.width == named
    assert str(architecture) == f"BiSeNet resnet18 at width {named} with 2 classes (zllrunning layout)"
    backbone = torch_network.BiSeNet(2, width=width).cp.resnet
    state = {key: tensor.numpy() for key, tensor in backbone.state_dict().items()}
    assert weight_port.recognize_backbone(state).width == named


@pytest.mark.parametrize("thousandths", range(63, 2001, 13))
def test_every_width_is_recognized_as_one_with_the_same_channels(thousandths):
    channels = torch_network.channels_at(thousandths / 1000)
    layers = {64: "conv1", 128: "layer2.0.conv1", 256: "layer3.0.conv1", 512: "layer4.0.conv1"}
    state = {f"cp.resnet.{layer}.weight": np.zeros((channels(base), 1, 1, 1)) for base, layer in layers.items()}
    state |= {f"{module}.weight": np.zeros((channels(256), 1, 1, 1)) for module in layouts.ZLLRUNNING.modules.values()}
    state["conv_out.conv_out.weight"] = np.zeros((2, channels(256), 1, 1))
    again = torch_network.channels_at(weight_port.recognize(state).width)
    assert [again(base) for base in layers] == [channels(base) for base in layers]


@pytest.mark.parametrize("width", [1.0, 0.3])
@pytest.mark.parametrize("layout", ["zllrunning", "yakhyo"])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
def test_round_trip_is_bit_for_bit_and_loads_strictly(layout, backbone, width):
    state = random_state(backbone, layout, num_classes=6, width=width)
    architecture = weight_port.recognize(state)
    model = model_for(architecture)
    unmapped = weight_port.apply(state, model.variables, architecture)
    again = weight_port.reverse(weight_port.keras_weights(model.variables), architecture.layout, unmapped)
    assert again.keys() == state.keys()
    for key, array in state.items():
        assert again[key].dtype == array.dtype, key
        np.testing.assert_array_equal(again[key], array, err_msg=key)
    network = torch_network.BiSeNet(6, backbone, layout, width)
    network.load_state_dict({key: torch.from_numpy(array) for key, array in again.items()}, strict=True)


def test_every_tensor_is_mapped_once():
    state = random_state()
    architecture = weight_port.recognize(state)
    paths = [variable.path for variable in model_for(architecture).variables]
    keys = key_map(paths, architecture.layout)
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    assert len(keys) == len(set(keys.values())) == len(paths)
    assert set(keys.values()) | counters == set(state)


def test_a_model_never_seen_by_pytorch_goes_there():
    """From one layout into the other, without unmapped tensors: the counters and the unused classifier are zero."""
    model = BiSeNet(5)
    state = weight_port.reverse(weight_port.keras_weights(model.variables), layouts.YAKHYO)
    network = torch_network.BiSeNet(5, layout="yakhyo")
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()}, strict=True)
    assert not network.fpn.backbone.fc.weight.any()
    assert network.fpn.backbone.bn1.num_batches_tracked == 0


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize("classifier", [True, False])
def test_torchvision_backbone(backbone, classifier):
    network = torch_network.ResNet(backbone, classifier)
    state = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}
    architecture = weight_port.recognize_backbone(state)
    assert str(architecture) == f"a {backbone} backbone (torchvision layout)"
    model = BiSeNet(3, backbone)
    head_before = weight_port.keras_weights(model.get_layer("conv_out_logits").variables)
    weight_port.apply(state, model.variables, architecture)
    kernel = weight_port.keras_weights(model.variables)["backbone_layer3_1_conv2/kernel"]
    np.testing.assert_array_equal(kernel, state["layer3.1.conv2.weight"].transpose(2, 3, 1, 0))
    head_after = weight_port.keras_weights(model.get_layer("conv_out_logits").variables)
    np.testing.assert_array_equal(*(head["conv_out_logits/kernel"] for head in (head_before, head_after)))


def error_of(state, num_classes=19, backbone="resnet18"):
    model = BiSeNet(num_classes, backbone)
    before = weight_port.keras_weights(model.variables)
    with pytest.raises(CheckpointError) as error:
        weight_port.apply(state, model.variables, weight_port.recognize(state))
    after = weight_port.keras_weights(model.variables)
    assert all(np.array_equal(before[path], after[path]) for path in before), "a refused checkpoint changed the model"
    return str(error.value)


def test_missing_extra_and_misshaped_keys_are_all_listed_sorted():
    state = random_state()
    del state["ffm.conv2.weight"], state["cp.arm16.bn_atten.running_var"]
    state["zz.extra"] = state["aa.extra"] = np.zeros(1, np.float32)
    state["conv_out16.conv.bn.bias"] = np.zeros(65, np.float32)
    state["cp.conv_avg.conv.weight"] = state["cp.conv_avg.conv.weight"].transpose(1, 0, 2, 3)
    assert error_of(state) == (
        "the checkpoint does not fit BiSeNet resnet18 with 19 classes (zllrunning layout): "
        "2 missing (-), 2 unexpected (+), 2 of another shape (~)\n"
        "  - cp.arm16.bn_atten.running_var\n"
        "  - ffm.conv2.weight\n"
        "  + aa.extra\n"
        "  + zz.extra\n"
        "  ~ conv_out16.conv.bn.bias: found (65,), expected (64,)\n"
        "  ~ cp.conv_avg.conv.weight: found (512, 128, 1, 1), expected (128, 512, 1, 1)"
    )


def test_a_counter_without_its_batch_norm_is_unexpected():
    state = random_state()
    state["cp.other.num_batches_tracked"] = np.zeros((), np.int64)
    assert error_of(state).endswith("(~)\n  + cp.other.num_batches_tracked")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value):
    state = random_state()
    state["cp.resnet.bn1.running_var"][[3, 5]] = value
    state["ffm.conv1.weight"][0, 0] = value
    assert error_of(state) == (
        "2 tensors hold NaN or infinite values; the training diverged or the file is damaged:\n"
        "  cp.resnet.bn1.running_var: 2 of 64\n"
        "  ffm.conv1.weight: 1 of 16384"
    )


def recognition_error(state):
    with pytest.raises(CheckpointError) as error:
        weight_port.recognize(state)
    return str(error.value)


def test_coincheung_v1_with_its_spatial_path():
    state = random_state() | {"sp.conv1.conv.weight": np.zeros((64, 3, 7, 7), np.float32)}
    assert recognition_error(state) == (
        "this is CoinCheung's BiSeNet V1: its keys hold a spatial path (sp.*), which the face-parsing network does not "
        "have; expected the zllrunning or the yakhyo layout"
    )


def test_bare_resnet():
    state = {key: tensor.numpy() for key, tensor in torch_network.ResNet("resnet18", True).state_dict().items()}
    assert recognition_error(state) == (
        "this is a bare ResNet, a backbone without the face-parsing network; expected a BiSeNet checkpoint "
        "(to start a training from it, port it with weight_port.recognize_backbone)"
    )


def test_deeper_backbone():
    state = random_state() | {"cp.resnet.layer1.0.conv3.weight": np.zeros((256, 64, 1, 1), np.float32)}
    assert recognition_error(state) == (
        "the backbone has bottleneck blocks (ResNet-50 or deeper); expected ResNet-18 or ResNet-34"
    )


def test_another_network():
    state = {f"features.{i}.weight": np.zeros((1, 1, 1, 1), np.float32) for i in range(4)}
    assert recognition_error(state) == (
        "this is no face-parsing BiSeNet: its 4 keys begin with features.0.weight, features.1.weight, "
        "features.2.weight; expected the zllrunning layout (cp.resnet.*, ffm.*, conv_out.*) or the yakhyo layout "
        "(fpn.backbone.*)"
    )


@pytest.mark.parametrize(
    ("layer", "count"), [("conv1", 65), ("conv1", 0), ("layer4.0.conv1", 480), ("layer2.0.conv1", 64)]
)
def test_channels_that_fit_no_width(layer, count):
    state = random_state()
    state[f"cp.resnet.{layer}.weight"] = np.zeros((count, 3, 7, 7), np.float32)
    message = recognition_error(state)
    assert f"cp.resnet.{layer}.weight has {count}" in message
    assert "\n" not in message


def test_channels_of_too_wide_a_network():
    state = random_state()
    for base, layer in ((64, "conv1"), (128, "layer2.0.conv1"), (256, "layer3.0.conv1"), (512, "layer4.0.conv1")):
        state[f"cp.resnet.{layer}.weight"] = np.zeros((4 * base, 1, 1, 1), np.float32)
    assert "fit no width" in recognition_error(state)


def test_without_a_main_head():
    state = random_state()
    del state["conv_out.conv_out.weight"]
    assert recognition_error(state) == "the main head is missing: expected the key conv_out.conv_out.weight"


def test_no_torchvision_resnet():
    with pytest.raises(CheckpointError, match=re.escape("expected the keys conv1.weight, layer1.0.conv1.weight, ...")):
        weight_port.recognize_backbone(random_state())


def test_keras_names_hold_on_every_backend():
    """The torch backend refuses dots in a variable's path, Keras refuses slashes in a layer's name."""
    for layer in keras.models.clone_model(BiSeNet(2)).layers:
        assert not set(layer.name) & set("./")
