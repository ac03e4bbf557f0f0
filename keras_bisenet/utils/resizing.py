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


def resize_from_corners(scores, image_size, size):
    """Interpolates a coarse map whose first and last pixels are those of an image (`align_corners`).

    Args:
        scores: `[h, w, C]` float32.
        image_size: (height, width) of the image.
        size: (height, width) of the result, whose pixels are those of the image resized to it.

    Returns:
        `[*size, C]` float32.
    """
    for axis, (whole, side) in enumerate(zip(image_size, size, strict=True)):
        old = scores.shape[axis]
        centers = ((np.arange(side) + 0.5) * whole / side - 0.5) * (old - 1) / max(whole - 1, 1)
        first = centers.clip(0, max(old - 2, 0)).astype(np.int64)
        second = (centers - first).clip(0, 1).astype(np.float32)
        scores = _apply(scores, axis, first, np.stack([1 - second, second], 1))
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
    return labels.take(columns, 1).take(rows, 0)


def resize_aligned(scores, size):
    """Resizes bilinearly with the corners aligned, as `BiSeNet` resizes its logits.

    Args:
        scores: `[h, w, C]` float.
        size: (height, width).

    Returns:
        `[*size, C]` of the same dtype.
    """
    for axis, side in ((0, size[0]), (1, size[1])):
        if scores.shape[axis] != side:
            scores = _repeated(scores, axis)
            lower, parts, whole = _between(scores.shape[axis], side)
            weights = (parts / whole).astype(scores.dtype).reshape([-1 if i == axis else 1 for i in range(3)])
            low = scores.take(lower, axis)
            scores = low + (scores.take(lower + 1, axis) - low) * weights
    return scores


def aligned_labels(scores, size):
    """The class of the largest score of each pixel after `resize_aligned`, without computing the most of these scores.

    A score between two pixels is a mean of theirs, so a class that is the largest at both is the largest in between.
    What remains is computed on whole numbers: of integer scores the labels are exact, whatever scale and zero point.

    Args:
        scores: `[h, w, C]` float or integer; of integers that stand for real numbers, these as they are.
        size: (height, width).

    Returns:
        `[*size]` integers; of equal scores the first class. uint8 for up to 256 classes.
    """
    scores = _repeated(_repeated(scores, 0), 1)
    (height, width, classes), dtype = scores.shape, np.uint8 if scores.shape[-1] <= 256 else np.intp
    (above, down, whole_down), (left, right, whole_right) = map(_between, (height, width), size)
    largest = scores.argmax(-1).astype(dtype)
    if np.issubdtype(scores.dtype, np.integer):
        # Of 8-bit scores the results are below 2**8 times both wholes.
        scores = scores.astype(np.int32 if scores.itemsize == 1 and whole_down * whole_right < 2**23 else np.int64)
    else:
        scores = scores.astype(np.result_type(scores, np.float32), copy=False)
    pixels = scores.reshape(-1, classes)

    # First all rows at the columns of the scores, then all columns.
    rows = largest.take(above, 0)
    y, x = np.nonzero((largest[:-1] != largest[1:]).take(above, 0))

    def at(y, x):
        pixel = above[y] * width + x
        return _mix(pixels.take(pixel, 0), pixels.take(pixel + width, 0), down[y], whole_down)

    rows[y, x] = at(y, x).argmax(-1)
    labels = rows.take(left, 1)
    differ = rows[:, :-1] != rows[:, 1:]
    y, x = np.nonzero(differ)
    low, high = at(y, x), at(y, x + 1)
    number = np.zeros(differ.shape, np.intp)
    number[y, x] = np.arange(len(y))
    y, x = np.nonzero(differ.take(left, 1))
    pair = number[y, left[x]]
    labels[y, x] = _mix(low.take(pair, 0), high.take(pair, 0), right[x], whole_right).argmax(-1)
    return labels


def _mix(low, high, parts, whole):
    """`low` and `high` `[N, C]`, mixed by `parts` `[N]` of `whole`, times `whole`."""
    high -= low
    high *= parts[:, np.newaxis].astype(high.dtype)
    return low * low.dtype.type(whole) + high


def _repeated(scores, axis):
    """Scores with at least two pixels along an axis."""
    return scores.repeat(2, axis) if scores.shape[axis] == 1 else scores


def _between(old, new):
    """For each new pixel, the last old one but one that lies before it, and how far on it is, in parts of a whole.

    Args:
        old, new: numbers of pixels, `old` at least 2.

    Returns:
        `[new]` integers, `[new]` integers, and the whole: new pixel i is at i * (old - 1) / (new - 1).
    """
    whole = max(new - 1, 1)
    places = np.arange(new) * (old - 1)
    lower = np.minimum(places // whole, old - 2)
    return lower, places - lower * whole, whole


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
