"""Borders between classes, against SciPy and by hand."""

import numpy as np
import pytest
from scipy import ndimage, stats

from keras_bisenet.labels import IGNORE
from keras_bisenet.training import boundaries, evaluation

CLASSES = 4


def blobs(seed, shape=(61, 83)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return np.digitize(noise, np.quantile(noise, [0.3, 0.6, 0.8])).astype(np.uint8)


def scipy_counts(labels, predictions, tolerance):
    """The border of a class is what an erosion by a cross takes away; near is by the distance transform."""
    counts = np.zeros((CLASSES, 4), np.int64)
    for index in range(CLASSES):
        borders = [
            mask & ~ndimage.binary_erosion(mask, border_value=1) for mask in (labels == index, predictions == index)
        ]
        for column, (these, others) in enumerate((borders, borders[::-1])):
            distance = ndimage.distance_transform_edt(~others) if others.any() else np.full(these.shape, np.inf)
            counts[index, 2 * column] = these.sum()
            counts[index, 2 * column + 1] = (these & (distance <= tolerance)).sum()
    return counts


@pytest.mark.parametrize("tolerance", [1, 3, 5])
def test_counts_equal_scipy(tolerance):
    labels = blobs(0)
    predictions = np.where(np.random.default_rng(1).random(labels.shape) < 0.9, np.roll(labels, 2, 0), blobs(2))
    predictions[predictions == 3] = 0
    counts = boundaries.count(labels, predictions, CLASSES, tolerance)
    np.testing.assert_array_equal(counts, scipy_counts(labels, predictions, tolerance))
    assert counts.dtype == np.int64


def test_a_border_moved_by_the_tolerance_is_met_and_by_more_is_not():
    labels, moved, far = (np.zeros((20, 30), np.uint8) for _ in range(3))
    labels[:, 10:], moved[:, 13:], far[:, 15:] = 1, 1, 1
    np.testing.assert_array_equal(boundaries.f1(boundaries.count(labels, moved, 2)), [1, 1])
    np.testing.assert_array_equal(boundaries.f1(boundaries.count(labels, far, 2)), [0, 0])


def test_f1_by_hand():
    """3 of 4 true border pixels are met, 2 of 5 predicted ones are right; a class that is nowhere has no score."""
    score = boundaries.f1([[4, 3, 5, 2], [0, 0, 0, 0], [0, 0, 7, 0]])
    np.testing.assert_allclose(score, [2 * 0.75 * 0.4 / 1.15, np.nan, 0])


def test_what_is_ignored_is_no_border():
    labels = blobs(3)
    ignored = np.zeros(labels.shape, bool)
    ignored[20:40, 30:60] = True
    masked = np.where(ignored, IGNORE, labels)
    other = np.where(ignored, (labels + 1) % CLASSES, labels)
    counts = boundaries.count(masked, other, CLASSES)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_array_equal(counts[:, 2], counts[:, 3])
    all_one = np.full((9, 9), IGNORE)
    all_one[:4] = 2
    assert not boundaries.count(all_one, np.zeros((9, 9)), CLASSES).any()


def evaluated(count, seed=0):
    random = np.random.default_rng(seed)
    matrices = random.integers(1, 50, (count, CLASSES, CLASSES)) + 400 * np.eye(CLASSES, dtype=np.int64)
    borders = np.sort(random.integers(1, 90, (count, CLASSES, 4)))[..., ::-1]
    return evaluation.Evaluation(matrices, borders)


def test_intervals_are_those_of_scipys_bootstrap():
    found = evaluated(40)
    numbers = np.arange(40)
    for name, (low, high) in found.intervals.items():
        result = stats.bootstrap(
            (numbers,),
            lambda drawn, name=name: found.means(drawn)[name],
            n_resamples=1000,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(5),
        )
        expected, width = result.confidence_interval, high - low
        np.testing.assert_allclose((low, high), tuple(expected), atol=0.15 * width)
        assert low < found.means()[name] < high


def test_equal_photos_leave_no_doubt():
    one = evaluated(1)
    same = evaluation.Evaluation(np.repeat(one.matrices, 9, 0), np.repeat(one.borders, 9, 0))
    for name, edges in same.intervals.items():
        np.testing.assert_allclose(edges, one.means()[name], rtol=1e-12)
