"""The deployment graph's savings are exact: computed in float64, it equals PyTorch to rounding."""

import numpy as np
import pytest
import torch
from conftest import random_images, random_state
from torch.nn import functional

import weight_port
from keras_bisenet import HEADS, BiSeNet, preprocessing
from keras_bisenet.export import graph
from keras_bisenet.export.network import Network
from weight_port import torch_reference


class Eager:
    """Does what `Builder` writes down, at once, in float64 with PyTorch. Values are NHWC arrays."""

    def __init__(self, favours_speed=False):
        self.favours_speed = favours_speed
        self.multiplications = {}

    def conv(self, x, kernel, bias, strides=1, *, padded=False, relu=False, name):
        weights = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        padding = 0 if padded else tuple(side // 2 for side in kernel.shape[:2])
        result = functional.conv2d(channels_first(x), weights, torch.from_numpy(bias), strides, padding)
        self.multiplications[name] = kernel.size * result.shape[2] * result.shape[3]
        return channels_last(functional.relu(result) if relu else result)

    def max_pool(self, x, **_):
        return channels_last(functional.max_pool2d(channels_first(x), 3, 2, 1))

    def global_mean(self, x, **_):
        return x.mean((1, 2), keepdims=True)

    def sigmoid(self, x, **_):
        return 1 / (1 + np.exp(-x))

    def add(self, x, y, *, relu=False, **_):
        return np.maximum(x + y, 0) if relu else x + y

    def multiply(self, x, y, **_):
        return x * y

    def subtract(self, x, y, *, relu=False, **_):
        return np.maximum(x - y, 0) if relu else x - y

    def concatenate(self, *values, **_):
        return np.concatenate(values, -1)

    def pad(self, x, amount, **_):
        return np.pad(x, ((0, 0), *amount, (0, 0)))

    def reshape(self, x, shape, **_):
        return x.reshape(shape)

    def part(self, x, begin, shape, **_):
        return x[tuple(slice(first, first + size) for first, size in zip(begin, shape, strict=True))]

    def depth_to_space(self, x, **_):
        # PyTorch counts the place in the block last, TFLite first.
        blocks = x.reshape(*x.shape[:3], 4, -1).swapaxes(3, 4).reshape(x.shape)
        return channels_last(functional.pixel_shuffle(channels_first(blocks), 2))

    def resize_nearest(self, x, like, **_):
        return channels_last(functional.interpolate(channels_first(x), like.shape[1:3], mode="nearest"))

    def resize_align_corners(self, x, like, **_):
        size = like.shape[1:3]
        return channels_last(functional.interpolate(channels_first(x), size, mode="bilinear", align_corners=True))

    def centre(self, image, mean, **_):
        return image.astype(np.float64) - mean

    def quantize(self, x, _low, _high, **_):
        return x

    def dequantize(self, x, **_):
        return x

    def cast(self, x, dtype, **_):
        return x.astype(dtype)

    def argmax(self, x, **_):
        return x.argmax(-1)


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module", params=["resnet18", "resnet34"])
def ported(request):
    state = random_state(request.param, num_classes=7)
    architecture = weight_port.recognise(state)
    model = BiSeNet(7, request.param)
    weight_port.apply(state, model.variables, architecture)
    return Network.of(model), torch_reference.Reference(state, architecture)


@pytest.mark.parametrize("size", [(64, 96), (97, 65), (129, 160)])
@pytest.mark.parametrize("input_type", ["uint8", "float32"])
@pytest.mark.parametrize("favours_speed", [False, True])
def test_equals_pytorch_in_float64(ported, size, input_type, favours_speed):
    network, reference = ported
    if input_type == "uint8":
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        normalised = (image / 255 - preprocessing.MEAN) / preprocessing.STD
    else:
        image = normalised = random_images(*size, "float64")
    results = graph.write(network, Eager(favours_speed), image, "all_heads")
    for head, expected in zip(HEADS, reference(normalised), strict=True):
        np.testing.assert_allclose(results[head], expected, rtol=0, atol=1e-9)
    labels = graph.write(network, Eager(favours_speed), image, "labels")["labels"]
    np.testing.assert_array_equal(labels, results["logits"].argmax(-1))


def test_speed_is_fewer_multiplications(ported):
    """Four ninths of the upsampled convolution, two thirds of the widest one, and the same for all others."""
    network, _ = ported
    plain, fast = Eager(), Eager(favours_speed=True)
    for builder in (plain, fast):
        graph.write(network, builder, random_images(64, 96, "float64"), "logits")
    upsampled = sum(fast.multiplications.pop(f"conv_head16_{phase}") for phase in ("00", "01", "10", "11"))
    assert upsampled * 9 == plain.multiplications.pop("conv_head16") * 4
    widest = sum(fast.multiplications.pop(f"conv_out_m{number}") for number in (1, 2, 3, 4))
    assert widest * 3 == plain.multiplications.pop("conv_out") * 2
    assert fast.multiplications == plain.multiplications
