"""Resizes photos, scores and labels in NumPy."""

import numpy as np

# Pillow's weights for 8-bit pixels are whole numbers of this many bits (src/libImaging/Resample.c).
_BITS = 32 - 8 - 2


def resize_photo(photo, size):
    """Resizes by a triangle filter that grows with the reduction: Pillow's `Resampling.BILINEAR`, for want of Pillow.

    It gives Pillow's pixels, but for one level here and there where Pillow begins with the columns.

    Args:
        photo: `[H, W, C]` uint8.
        size: (height, width).

    Returns:
        `[*size, C]` uint8.
    """
    for axis, side in ((1, size[1]), (0, size[0])):
        if photo.shape[axis] != side:
            first, weights = _triangle(photo.shape[axis], side)
            whole = np.floor(weights * 2.0**_BITS + 0.5).astype(np.int32)
            total = _apply(photo.astype(np.int32), axis, first, whole) + (1 << (_BITS - 1))
            photo = (total >> _BITS).clip(0, 255).astype(np.uint8)
    return photo


def resize_scores(scores, size):
    """The same filter on floats, without rounding.

    Args:
        scores: `[H, W, C]` float.
        size: (height, width).

    Returns:
        `[*size, C]` of the same dtype.
    """
    for axis, side in ((0, size[0]), (1, size[1])):
        if scores.shape[axis] != side:
            first, weights = _triangle(scores.shape[axis], side)
            scores = _apply(scores, axis, first, weights.astype(scores.dtype))
    return scores


def resize_labels(labels, size):
    """Resizes labels by nearest neighbors: a pixel takes the label under its center.

    Args:
        labels: `[H, W]`.
        size: (height, width).

    Returns:
        `[*size]` of the same dtype.
    """
    if labels.shape == tuple(size):
        return labels
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    return labels[np.ix_(rows, columns)]


def _triangle(old, new):
    """For each new pixel, the first old one that it is made of, and the weights `[new, taps]` from there on."""
    scale = old / new
    reach = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    first = np.maximum((centers - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + reach + 0.5).astype(np.int64), old)
    taps = first[:, np.newaxis] + np.arange((last - first).max())
    weights = np.maximum(1.0 - np.abs(taps - centers[:, np.newaxis] + 0.5) / reach, 0.0)
    weights[taps >= last[:, np.newaxis]] = 0.0
    return first, weights / weights.sum(axis=1, keepdims=True)


def _apply(array, axis, first, weights):
    old, shape = array.shape[axis], [1] * array.ndim
    shape[axis] = -1
    total = 0
    for tap in range(weights.shape[1]):
        index = np.minimum(first + tap, old - 1)  # beyond the edge the weight is 0
        total += np.take(array, index, axis=axis) * weights[:, tap].reshape(shape)
    return total
