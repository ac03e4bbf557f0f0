"""Resizing in NumPy, against Pillow and PyTorch."""

import numpy as np
import pytest
from PIL import Image
from support.graphs import resize_aligned

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
@pytest.mark.parametrize("shape", [(9, 13), (40, 3), (1, 1)])
def test_scores_are_resized_as_pillow_does(shape, size):
    scores = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
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


@pytest.mark.parametrize("size", [(9, 13), (64, 100), (33, 47), (5, 40), (1, 1), (2, 13)])
@pytest.mark.parametrize("shape", [(9, 13), (2, 3), (1, 4), (1, 1)])
def test_scores_with_aligned_corners_are_resized_as_pytorch_does(shape, size):
    scores = np.random.default_rng(0).normal(size=(*shape, 3))
    result = resizing.resize_aligned(scores, size)
    np.testing.assert_allclose(result, resize_aligned(scores[np.newaxis], size)[0], atol=1e-12)
    assert resizing.resize_aligned(scores.astype(np.float32), size).dtype == np.float32


def exact_labels(scores, size):
    """The first largest class of each pixel, of all scores in whole numbers."""
    numbers = scores.astype(object)
    for axis, new in enumerate(size):
        old, whole = numbers.shape[axis], max(new - 1, 1)
        rows = []
        for i in range(new):
            lower, part = divmod(i * (old - 1), whole)
            upper = min(lower + 1, old - 1)
            rows.append(numbers.take(lower, axis) * (whole - part) + numbers.take(upper, axis) * part)
        numbers = np.stack(rows, axis)
    return np.array([[max(range(len(pixel)), key=pixel.__getitem__) for pixel in row] for row in numbers.tolist()])


# int8 as in a file; a few values, many of which are the same; and pixels of 8 bits.
SCORES = {"int8": (-128, 128, np.int8), "ties": (-1, 2, np.int8), "uint8": (0, 256, np.uint8)}


@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize(
    ("shape", "size"), [((5, 6), (33, 47)), ((8, 12), (64, 96)), ((4, 4), (4, 4)), ((1, 5), (3, 40)), ((7, 3), (2, 1))]
)
def test_labels_of_integer_scores_are_exact(shape, size, kind):
    low, high, dtype = SCORES[kind]
    # Runs of one class, as faces have, and a third class between two others.
    scores = np.random.default_rng(0).integers(low, high, (*shape, 5)).astype(dtype)
    scores[: shape[0] // 2, :, 3] = high - 1
    labels = resizing.aligned_labels(scores, size)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, exact_labels(scores, size))


def test_labels_of_float_scores_are_those_of_the_resized_scores():
    scores = np.random.default_rng(0).normal(size=(9, 13, 19)).astype(np.float32)
    labels = resizing.aligned_labels(scores, (70, 101))
    np.testing.assert_array_equal(resizing.aligned_labels(scores > 0, (9, 13)), (scores > 0).argmax(-1))
    np.testing.assert_array_equal(labels, resizing.resize_aligned(scores.astype(np.float64), (70, 101)).argmax(-1))


def test_labels_of_a_huge_photo_do_not_overflow():
    """The whole numbers of 3000x3000 pixels need more than 32 bits. Class 0 has a corner alone."""
    scores = np.full((2, 400, 2), (-128, 127), np.int8)
    scores[0, 0] = 127, -128
    labels = resizing.aligned_labels(scores, (3000, 3000))
    down, right = np.arange(3000)[:, np.newaxis], 399 * np.arange(3000)
    expected = 2 * (2999 - down) * np.maximum(2999 - right, 0) < 2999**2
    np.testing.assert_array_equal(labels, expected)
