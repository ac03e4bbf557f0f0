"""Deployment models, their statistics, and what their operations compute, by numpy and PyTorch."""

import keras
import numpy as np
import torch
from scipy import special
from torch.nn import functional

from keras_bisenet.export import deployment, passes
from keras_bisenet.export.quantization import calibration

# Channels of a narrow network, no two of which are the same.
WIDTHS = (6, 5, 4, 7, 3, 8, 2, 9)
SIZE = (64, 96)


def optimized(model, size=SIZE, output="labels", input_type="uint8"):
    """The deployment model that is measured and rounded."""
    return passes.optimize(deployment.deploy(model, size, input_type, output), "int8")


def measure(model, photos):
    return calibration.measure(model, [deployment.encode(photo, model) for photo in photos])


def compute(model, image):
    # Not by predict_on_batch, which compiles each model before it runs it once.
    results = model(keras.ops.convert_to_tensor(image), training=False)
    return {name: keras.ops.convert_to_numpy(result) for name, result in results.items()}


def photo(size):
    return np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)


def assert_equal(results, expected):
    assert results.keys() == expected.keys()
    for name, result in results.items():
        tolerance = 1e-9 * np.abs(expected[name]).max()
        np.testing.assert_allclose(result, expected[name], rtol=0, atol=tolerance, err_msg=name)


def by_torch(function, x, *arguments, **options):
    """What a function of PyTorch makes of an NHWC array."""
    return function(torch.from_numpy(x).permute(0, 3, 1, 2), *arguments, **options).permute(0, 2, 3, 1).numpy()


def resize_aligned(x, size):
    """PyTorch's bilinear resize with `align_corners=True`."""
    return by_torch(functional.interpolate, x, size, mode="bilinear", align_corners=True)


OPERATIONS = {
    "Relu": lambda x: np.maximum(x, 0),
    "Add": np.add,
    "Multiply": np.multiply,
    "Sigmoid": special.expit,
    "GlobalMean": lambda x: x.mean((1, 2), keepdims=True),
    "Concatenate": lambda *parts: np.concatenate(parts, -1),
    "ZeroPadding2D": lambda x: np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))),
    # Convolutions read it, and these are PyTorch's.
    "ColorPadding2D": lambda x: x,
    "MaxPooling2D": lambda padded: by_torch(functional.max_pool2d, padded, 3, 2),
    "NearestResize": lambda x, like: by_torch(functional.interpolate, x, like.shape[1:3], mode="nearest"),
    # Nothing behind a head is measured.
    "AlignCornersResize": lambda x, _: x,
}
