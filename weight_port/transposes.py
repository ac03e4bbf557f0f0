"""The axis order of a weight in each framework. Everything but a convolution kernel is a vector and stays as it is."""

import numpy as np


def to_keras(array: np.ndarray) -> np.ndarray:
    """Convolution kernel `[O, I, H, W]` (PyTorch) -> `[H, W, I, O]` (Keras); a vector is returned unchanged."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def to_torch(array: np.ndarray) -> np.ndarray:
    """Convolution kernel `[H, W, I, O]` (Keras) -> `[O, I, H, W]` (PyTorch), contiguous; a vector unchanged."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1)) if array.ndim == 4 else array


def torch_shape(keras_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that `to_torch` gives an array of `keras_shape`."""
    if len(keras_shape) != 4:
        return tuple(keras_shape)
    height, width, inputs, outputs = keras_shape
    return (outputs, inputs, height, width)
