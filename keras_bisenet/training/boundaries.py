"""How well the borders between classes are met (numpy only)."""

import numpy as np
import numpy.typing as npt

from keras_bisenet.labels import IGNORE

# Pixels that a border may lie beside its place.
TOLERANCE = 3


def count(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    tolerance: int = TOLERANCE,
    ignore: int = IGNORE,
) -> np.ndarray:
    """Counts the border pixels of each class, and how many of them have a border of the same class near them.

    A pixel lies on the border of its class if one of its four neighbors has another class. What lies beyond the photo
    or is ignored is no other class. Counts of several photos add up.

    Args:
        labels: `[H, W]` truth: class ids 0 to `num_classes - 1`, or `ignore`; integers.
        predictions: `[H, W]` class ids; integers. They do not count where the truth is `ignore`.
        num_classes: how many classes there are.
        tolerance: largest distance (Euclidean, in pixels) that is near.
        ignore: label of the pixels that do not count.

    Returns:
        `[num_classes, 4]` int64: border pixels of the truth, of these near a predicted border, predicted border pixels,
        of these near a true border.
    """
    labels = np.asarray(labels)
    truth = _borders(labels, ignore)
    predicted = _borders(np.where(labels == ignore, ignore, predictions), ignore)
    counts = np.zeros((num_classes, 4), np.int64)
    for index in range(num_classes):
        true, found = truth == index, predicted == index
        for column, (these, others) in enumerate(((true, found), (found, true))):
            total = np.count_nonzero(these)
            near = np.count_nonzero(these & _grown(others, tolerance)) if total and others.any() else 0
            counts[index, 2 * column : 2 * column + 2] = total, near
    return counts


def f1(counts: npt.ArrayLike) -> np.ndarray:
    """Boundary F1 of each class: harmonic mean of the shares of true and of predicted border pixels that are met.

    Csurka et al., "What is a good evaluation measure for semantic segmentation?", 2013, which takes the mean over
    photos; here the counts of all photos are summed, as for IoU.

    Args:
        counts: `[C, 4]`, see `count`.

    Returns:
        `[C]` float64, 0..1; nan for a class without a border in truth and prediction.
    """
    true, met, predicted, right = np.asarray(counts, np.float64).T
    recall, precision = met / np.maximum(true, 1), right / np.maximum(predicted, 1)
    score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(true + predicted == 0, np.nan, score)


def _borders(labels, ignore):
    """`[H, W]` int64: the class of each border pixel, -1 elsewhere."""
    border = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        one, other = (np.moveaxis(labels, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        differ = (one != other) & (one != ignore) & (other != ignore)
        view = np.moveaxis(border, axis, 0)
        view[:-1] |= differ
        view[1:] |= differ
    return np.where(border, labels.astype(np.int64), -1)


def _grown(mask, radius):
    """Where a pixel of `mask` lies at most `radius` away."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    grown = np.zeros((height + 2 * radius, width + 2 * radius), bool)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            if down**2 + right**2 <= radius**2:
                grown[rows + radius + down, columns + radius + right] = True
    return grown[radius : radius + height, radius : radius + width]
