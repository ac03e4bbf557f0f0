"""Each building block against the PyTorch operation that it stands for; test_backends.py runs it on every backend."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from support.networks import random_images

from keras_bisenet.models import layers

SIZES = [(1, 1), (1, 7), (2, 3), (5, 8), (16, 12), (17, 13)]
TARGETS = [(1, 1), (7, 1), (5, 9), (10, 16), (33, 24), (64, 100)]


def to_torch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def to_numpy(tensor):
    return tensor.detach().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", TARGETS)
def test_nearest_resize_is_exact(size, target):
    images = random_images(*size)
    result = layers.NearestResize()([images, np.zeros((1, *target, 1), np.float32)])
    expected = torch.nn.functional.interpolate(to_torch(images), target, mode="nearest")
    np.testing.assert_array_equal(ops.convert_to_numpy(result), to_numpy(expected))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", TARGETS)
# float64: positions and weights round at 1e-16. float32: a position up to 100 rounds by 4e-6, times steps of about 5.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 5e-5)])
def test_align_corners_resize(size, target, dtype, tolerance):
    images = random_images(*size, dtype=dtype)
    result = layers.AlignCornersResize(dtype=dtype)([images, np.zeros((1, *target, 1), dtype)])
    expected = torch.nn.functional.interpolate(to_torch(images), target, mode="bilinear", align_corners=True)
    assert ops.convert_to_numpy(result).dtype == dtype
    np.testing.assert_allclose(ops.convert_to_numpy(result), to_numpy(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize("layer", [layers.NearestResize, layers.AlignCornersResize])
def test_resizes_of_unknown_size_take_it_from_the_reference(layer):
    images, reference = keras.Input((None, None, 2)), keras.Input((None, None, 5))
    model = keras.Model([images, reference], layer()([images, reference]))
    assert model.output_shape == (None, None, None, 2)
    assert tuple(model([np.ones((1, 3, 4, 2)), np.ones((1, 6, 9, 5))]).shape) == (1, 6, 9, 2)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (11, 7)])
@pytest.mark.parametrize(("kernel", "strides"), [(1, 1), (3, 1), (1, 2), (3, 2), (7, 2)])
def test_convolution_pads_as_torch_does(height, width, kernel, strides):
    inputs = keras.Input((height, width, 3), dtype="float64")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    model = keras.Model(inputs, layers.conv(inputs, 5, kernel, strides, name="conv"))
    keras.config.set_dtype_policy(before)
    network = torch.nn.Conv2d(3, 5, kernel, strides, padding=kernel // 2, bias=False).double()
    model.get_layer("conv").kernel.assign(network.weight.detach().numpy().transpose(2, 3, 1, 0))
    images = random_images(height, width, "float64")
    result = ops.convert_to_numpy(model(images))
    np.testing.assert_allclose(result, to_numpy(network(to_torch(images))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (32, 7)])
def test_max_pool_of_what_a_relu_gives(size):
    images = np.maximum(random_images(*size), 0)
    inputs = keras.Input((*size, 3))
    result = keras.Model(inputs, layers.max_pool(inputs))(images)
    expected = torch.nn.functional.max_pool2d(to_torch(images), 3, 2, 1)
    np.testing.assert_array_equal(ops.convert_to_numpy(result), to_numpy(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_global_mean(dtype):
    images = random_images(13, 7, dtype, count=2)
    result = ops.convert_to_numpy(layers.GlobalMean(dtype=dtype)(images))
    assert result.shape == (2, 1, 1, 3)
    np.testing.assert_allclose(result[:, 0, 0], images.mean((1, 2)), rtol=0, atol=1e-15 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_and_its_moving_statistics(training):
    torch.manual_seed(0)
    network = torch.nn.BatchNorm2d(3).double().train(training)
    layer = layers.BatchNorm(epsilon=1e-5, momentum=0.9, dtype="float64")
    layer.build((None, None, None, 3))
    for variable, tensor in [
        (layer.gamma, network.weight.data.uniform_(0.5, 1.5)),
        (layer.beta, network.bias.data.normal_()),
        (layer.moving_mean, network.running_mean.normal_()),
        (layer.moving_variance, network.running_var.uniform_(0.5, 2)),
    ]:
        variable.assign(tensor.numpy())
    for seed in range(3):
        images = random_images(4, 5, "float64", seed, count=2) * 3 + 1
        result = ops.convert_to_numpy(layer(images, training=training))
        np.testing.assert_allclose(result, to_numpy(network(to_torch(images))), rtol=0, atol=1e-12)
    # PyTorch averages the unbiased variance; over 40 values the biased one differs by 2.5 %.
    np.testing.assert_allclose(layer.moving_variance.numpy(), network.running_var.numpy(), rtol=1e-12)
    np.testing.assert_allclose(layer.moving_mean.numpy(), network.running_mean.numpy(), rtol=1e-12, atol=1e-12)


def test_batch_norm_of_a_single_value_stays_finite():
    """A batch of one image after the global mean."""
    layer = layers.BatchNorm(epsilon=1e-5, momentum=0.9)
    layer(np.ones((1, 1, 1, 3), np.float32), training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9, rtol=1e-6)


def test_convolutions_start_from_different_kernels_of_the_right_variance():
    inputs = keras.Input((8, 8, 64))
    x = layers.conv(inputs, 64, 3, name="first")
    model = keras.Model(inputs, layers.conv(x, 64, 3, name="second"))
    first, second = (ops.convert_to_numpy(model.get_layer(name).kernel) for name in ("first", "second"))
    assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    for kernel in (first, second):
        np.testing.assert_allclose(kernel.var(), 1 / (3 * 3 * 64), rtol=0.05)
