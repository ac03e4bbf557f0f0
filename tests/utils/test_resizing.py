"""Resizing in NumPy, against Pillow."""

import numpy as np
import pytest
from PIL import Image

from keras_bisenet.utils import resizing

BILINEAR = Image.Resampling.BILINEAR


@pytest.mark.parametrize("size", [(9, 13), (18, 13), (5, 13), (9, 40), (9, 4), (30, 20), (1, 13), (9, 1), (60, 100)])
def test_photos_are_resized_as_pillow_does(size):
    photo = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)
    expected = Image.fromarray(photo).resize(size[::-1], BILINEAR)
    np.testing.assert_array_equal(resizing.resize_photo(photo, size), expected)


def test_where_pillow_begins_with_the_columns_a_level_may_differ():
    random = np.random.default_rng(0)
    for height, width, *size in random.integers(1, 60, (100, 4)):
        photo = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        expected = np.asarray(Image.fromarray(photo).resize(size[::-1], BILINEAR)).astype(int)
        assert np.abs(resizing.resize_photo(photo, size) - expected).max() <= 1


@pytest.mark.parametrize("size", [(9, 13), (30, 20), (5, 40), (1, 1), (4, 6)])
def test_scores_are_resized_as_pillow_does(size):
    scores = np.random.default_rng(0).normal(size=(9, 13, 2)).astype(np.float32)
    result = resizing.resize_scores(scores, size)
    assert result.dtype == np.float32
    for channel in range(2):
        expected = Image.fromarray(np.ascontiguousarray(scores[..., channel])).resize(size[::-1], BILINEAR)
        np.testing.assert_allclose(result[..., channel], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (40, 3), (9, 13), (1, 20)])
def test_labels_are_resized_as_pillow_does(size):
    """From odd sizes: no center of a new pixel lies between two old ones, where Pillow's rounding decides."""
    labels = np.random.default_rng(0).integers(0, 19, (9, 13)).astype(np.uint8)
    expected = Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resizing.resize_labels(labels, size), expected)


def test_a_center_between_two_labels_takes_the_later():
    assert resizing.resize_labels(np.array([[1, 2], [3, 4]]), (2, 1)).tolist() == [[2], [4]]
