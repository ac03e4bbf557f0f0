"""The tolerances on whole networks: any correct port is accepted, whatever its weights, any wrong one refused."""

import functools

import keras
import numpy as np
import pytest
import torch
from keras import ops
from support.networks import random_images, random_state
from support.ported import reference

import weight_port
from keras_bisenet import HEADS, BiSeNet
from keras_bisenet.models import layers
from weight_port import parity
from weight_port.reference import torch_network
from weight_port.verification import Verification

SIZE = (64, 96)
# A network that several tests give weights to.
network = functools.cache(BiSeNet)


def slow(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


def verify(state, size=SIZE, spoil=None, build=network):
    """Ports a state_dict and compares all heads in both precisions; `spoil` changes the Keras model after the port."""
    architecture = weight_port.recognize(state)
    expected_of = reference(state)
    checks = Verification()
    for name, dtype in (("keras_float64", "float64"), ("keras", "float32")):
        model = build(architecture.num_classes, architecture.backbone, dtype=dtype)
        weight_port.apply(state, model.variables, architecture)
        if spoil is not None:
            spoil(model)
        images = random_images(*size, dtype)
        results = model(images)
        for head, expected in zip(HEADS, expected_of(images), strict=True):
            checks.add(name, "a.png", head, expected, ops.convert_to_numpy(results[head]))
    return checks


@functools.cache
def plain_state():
    return random_state(num_classes=5)


def scaled(factor, *heads):
    """The plain network with the logits of some heads multiplied by `factor`."""
    kernels = [f"{head}.conv_out.weight" for head in heads]
    return plain_state() | {kernel: factor * plain_state()[kernel] for kernel in kernels}


def relative_errors(checks, name):
    return [check.difference.relative for check in checks.checks if check.name == name]


# Correct ports.


def accepted(state, size=SIZE):
    """The comparisons of a right port, all of which must hold."""
    checks = verify(state, size)
    assert checks.failed() == [], checks.table()
    return checks


@pytest.mark.slow
def test_a_deep_network_with_large_logits_is_accepted():
    """ResNet-34 of the other layout, with logits near 100: an absolute tolerance of 1e-4 refuses it."""
    state = random_state("resnet34", "yakhyo", num_classes=11, seed=1)
    state["conv_out16.conv.weight"] *= np.float32(4)
    checks = accepted(state, (200, 328))
    assert max(check.difference.max_abs for check in checks.checks if check.name == "keras") > 1e-4
    # And nothing but the float32 bound itself was needed.
    assert max(relative_errors(checks, "keras")) < parity.FLOAT32_ERROR


@pytest.mark.parametrize("backbone", ["resnet18", slow("resnet34")])
def test_a_network_that_amplifies_rounding_is_accepted(backbone):
    """Batch norm took its statistics from two photos, so that channels hardly vary.

    Its float32 result is further off than `FLOAT32_ERROR`, and float64 says that this is rounding.
    """
    torch.manual_seed(0)
    trained = torch_network.BiSeNet(5, backbone)
    for module in trained.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        trained(torch.from_numpy(random_images(96, 136, count=2)).permute(0, 3, 1, 2))
    checks = accepted({key: tensor.numpy() for key, tensor in trained.state_dict().items()}, (96, 136))
    assert max(relative_errors(checks, "keras")) > parity.FLOAT32_ERROR
    assert max(relative_errors(checks, "keras_float64")) < 1e-11


@pytest.mark.parametrize("factor", [1e-30, slow(1e-6), slow(1e6), 1e30])
def test_the_size_of_the_logits_decides_nothing(factor):
    accepted(scaled(np.float32(factor), "conv_out", "conv_out32"))


def test_constant_logits_are_accepted():
    """One head is 0 everywhere, one has the same logits everywhere, of two classes exactly the same."""
    state = scaled(np.float32(0), "conv_out16")
    state["conv_out.conv.bn.weight"] = np.zeros_like(state["conv_out.conv.bn.weight"])
    state["conv_out.conv_out.weight"][1] = state["conv_out.conv_out.weight"][0]
    assert accepted(state).checks[1].difference.reference_max_abs == 0


def test_a_head_whose_classes_nearly_tie_is_accepted():
    """Every class has the kernel of the first, up to a few roundings: which label wins is a matter of rounding."""
    state = scaled(np.float32(1), "conv_out")
    kernel = state["conv_out.conv_out.weight"]
    noise = np.random.default_rng(0).choice([-1, 0, 1], kernel.shape) * np.float32(2**-23)
    state["conv_out.conv_out.weight"] = kernel[:1] * (1 + noise).astype(np.float32)
    (main, *_) = (check for check in accepted(state).checks if check.name == "keras")
    assert main.difference.agreement < 0.999, "no near ties: this tests nothing"


# Wrong ports.


def transpose(model, name):
    """Exchanges height and width of a square kernel."""
    kernel = model.get_layer(name).kernel
    kernel.assign(ops.transpose(kernel, (1, 0, 2, 3)))


def exchange(model, *names):
    """Exchanges the kernels of two layers of the same shape."""
    one, other = (model.get_layer(name).kernel for name in names)
    array = ops.convert_to_numpy(one).copy()
    one.assign(other)
    other.assign(array)


def refused(checks):
    """The port must be called wrong, by far in either precision."""
    assert checks.failed() == ["keras_float64", "keras"], checks.table()
    assert checks.explain()[0].startswith("the port is wrong: ")
    assert max(relative_errors(checks, "keras_float64")) > 1e-4
    assert max(relative_errors(checks, "keras")) > 10 * parity.FLOAT32_ERROR


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (transpose, ["backbone_conv1"]),
        slow(transpose, ["backbone_layer4_1_conv2"]),
        slow(transpose, ["conv_out32_conv"]),
        (exchange, ["conv_head16_conv", "conv_head32_conv"]),
        slow(exchange, ["backbone_layer4_1_conv1", "backbone_layer4_1_conv2"]),
    ],
)
def test_a_wrong_kernel_is_refused(spoil, names):
    refused(verify(plain_state(), spoil=lambda model: spoil(model, *names)))


def test_a_wrong_epsilon_is_refused(monkeypatch):
    monkeypatch.setattr(layers, "EPSILON", 1e-3)
    refused(verify(plain_state(), build=BiSeNet))


@pytest.mark.parametrize("wrong", [slow("backbone_conv1"), "backbone_layer4_0_conv1"])
def test_a_wrong_padding_is_refused(monkeypatch, wrong):
    """Keras' "same" pads more behind than in front at an even size; one layer of it is enough."""
    right = layers.conv

    def conv(x, filters, kernel_size, strides=1, *, name):
        if name != wrong:
            return right(x, filters, kernel_size, strides, name=name)
        return keras.layers.Conv2D(filters, kernel_size, strides, padding="same", use_bias=False, name=name)(x)

    monkeypatch.setattr(layers, "conv", conv)
    refused(verify(plain_state(), build=BiSeNet))


def test_weights_of_half_precision_are_no_float32():
    """The mapping is right and float64 says so, but float32 that went through float16 is not accepted as such."""

    def spoil(model):
        if model.dtype_policy.name == "float32":
            model.set_weights([weight.astype(np.float16).astype(np.float32) for weight in model.get_weights()])

    checks = verify(plain_state(), spoil=spoil)
    assert checks.failed() == ["keras"], checks.table()
    assert checks.explain()[0].startswith("the port is right (float64 agrees with PyTorch to ")
