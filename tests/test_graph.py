"""The deployment graph's savings are exact: computed in float64, it equals PyTorch to rounding."""

import numpy as np
import pytest
import torch
from conftest import random_images, random_state
from torch.nn import functional

import weight_port
from keras_bisenet import HEADS, BiSeNet, preprocessing
from keras_bisenet.export import graph
from weight_port import torch_reference


class Eager:
    """Does what `Builder` writes down, at once, in float64 with PyTorch. Values are NHWC arrays."""

    def conv(self, x, kernel, bias, strides=1, *, relu=False, **_):
        weights = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        padding = kernel.shape[0] // 2
        result = functional.conv2d(channels_first(x), weights, torch.from_numpy(bias), strides, padding)
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

    def concatenate(self, x, y, **_):
        return np.concatenate([x, y], -1)

    def resize_nearest(self, x, like, **_):
        return channels_last(functional.interpolate(channels_first(x), like.shape[1:3], mode="nearest"))

    def resize_align_corners(self, x, like, **_):
        size = like.shape[1:3]
        return channels_last(functional.interpolate(channels_first(x), size, mode="bilinear", align_corners=True))

    def cast(self, x, dtype, **_):
        return x.astype(np.float64 if dtype == "float32" else dtype)

    def argmax(self, x, **_):
        return x.argmax(-1)


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def channels_last(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module", params=["resnet18", "resnet34"])
def network(request):
    state = random_state(request.param, num_classes=7)
    architecture = weight_port.recognise(state)
    model = BiSeNet(7, request.param)
    weight_port.apply(state, model.variables, architecture)
    return model, torch_reference.Reference(state, architecture)


@pytest.mark.parametrize("size", [(64, 96), (97, 65), (129, 160)])
@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_equals_pytorch_in_float64(network, size, input_type):
    model, reference = network
    if input_type == "uint8":
        image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
        normalised = (image / 255 - preprocessing.MEAN) / preprocessing.STD
    else:
        image = normalised = random_images(*size, "float64")
    results = graph.write(model, Eager(), image, "all_heads")
    for head, expected in zip(HEADS, reference(normalised), strict=True):
        np.testing.assert_allclose(results[head], expected, rtol=0, atol=1e-9)
    labels = graph.write(model, Eager(), image, "labels")["labels"]
    np.testing.assert_array_equal(labels, results["logits"].argmax(-1))
