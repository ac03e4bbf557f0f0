import numpy as np
from keras import ops

from keras_bisenet import normalize


def test_against_hand_computed_values():
    # By hand: red (0 - 0.485) / 0.229, green (128 / 255 - 0.456) / 0.224, blue (1 - 0.406) / 0.225.
    photo = np.array([[[0, 128, 255]]], np.uint8)
    expected = [[[-2.117903930131, 0.205182072829, 2.640000000000]]]
    np.testing.assert_allclose(ops.convert_to_numpy(normalize(photo, "float64")), expected, rtol=0, atol=1e-12)


def test_float32_is_within_rounding_of_the_definition():
    photo = np.stack(np.meshgrid(np.arange(256), np.arange(3)), -1).astype(np.uint8)[..., :1].repeat(3, -1)
    expected = (photo / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    result = ops.convert_to_numpy(normalize(photo))
    assert result.dtype == np.float32
    # Two roundings of numbers below 4: at most 2 * 2**-23 * 4 / 2.
    np.testing.assert_allclose(result, expected, rtol=0, atol=2**-21)
