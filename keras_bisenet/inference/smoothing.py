"""Steadies what a network sees in a video: probabilities are averaged along the motion of what they are of.

The motion is found by the pyramid of Lucas and Kanade (Bouguet, "Pyramidal implementation of the affine Lucas Kanade
feature tracker", 2000) on small gray pictures, in NumPy alone.
"""

import numpy as np

from keras_bisenet.utils import images, resizing
from keras_bisenet.utils.errors import ImageError

# Side of the gray pictures that motion is found in, and of the probabilities that are kept.
GRID = 128
# Sizes of the pyramid, each half the one before; steps in each; and half the side of the window that moves as one.
_LEVELS, _STEPS, _WINDOW = 3, 3, 4
# What a window is said to be more even than, gray levels squared: it goes where those around it go.
_EVEN = 20.0
# Difference, in gray levels, from which on a pixel is hardly taken for the one that it should have been, and half the
# side of the window whose mean counts.
_DOUBT, _AROUND = 16.0, 2
# After a cut or a turn, less of the picture than this is what was there before.
_CUT = 0.5


class TemporalSmoother:
    """Averages the probabilities of a video, frame after frame, along its motion.

    `p' = p + n / (n + 1) (p'_before - p)`, where `p'_before` is the last result, moved to where its pixels went, and
    `n` the number of frames behind it: a mean of all at first, and in the long run, as `n` is at most
    `strength / (1 - strength)`, one of which `strength` is left from frame to frame. Where the picture is not the same
    there, `n` is the smaller the more it differs: what comes into view, and a mouth that opens, leaves no trail. After
    a cut or a fast turn nothing before it counts.

    Labels of the result are steadier, and mostly better, as each is a mean of several looks at one thing.

    Args:
        strength: 0..1 exclusive; 0 changes nothing, 0.8 is an average over some five frames.

    Raises:
        ImageError: the strength is out of range.

    Example:
        >>> smoother = TemporalSmoother(0.8)
        >>> for frame in frames:
        ...     labels = smoother(frame, parser.probabilities(frame)).argmax(-1)
    """

    def __init__(self, strength: float = 0.8) -> None:
        check(strength)
        self._most = np.float32(strength / (1 - strength))
        self.reset()

    def reset(self) -> None:
        """Forgets the frames before, as at the start of another video."""
        self._gray: np.ndarray | None = None
        self._kept: np.ndarray | None = None
        self._counts = np.ones((GRID, GRID), np.float32)

    def __call__(self, frame: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Smooths the probabilities of the next frame.

        Args:
            frame: `[H, W, 3]` uint8 RGB, of any size.
            probabilities: `[h, w, C]` float32 over the whole frame, of any size: 128x128 are fast and lose little.

        Returns:
            `[h, w, C]` float32.
        """
        now = gray(frame, GRID)
        size = probabilities.shape[:2]
        small = resizing.resize_scores(probabilities, (GRID, GRID))
        change, counts = None, np.zeros_like(self._counts)
        if self._gray is not None and self._kept is not None and self._kept.shape == small.shape:
            moved = motion(self._gray, now)
            same = sameness(self._gray, now, moved)
            if same.mean() >= _CUT:
                places = np.indices(now.shape, np.float32) + moved
                counts = np.minimum(same * _sample(self._counts, places), self._most)
                change = (counts / (counts + 1))[..., np.newaxis] * (_sample(self._kept, places) - small)
        self._counts = counts + 1
        self._gray, self._kept = now, small if change is None else small + change
        if change is None:
            return probabilities
        return self._kept if size == small.shape[:2] else probabilities + resizing.resize_scores(change, size)


def check(strength: float, name: str = "smooth") -> None:
    """Raises `ImageError` if a strength of that name is out of range, see `TemporalSmoother`."""
    if not 0 <= strength < 1:
        raise ImageError(f"{name} is {strength}; expected a number from 0, for none, to less than 1")


def labels_of(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The labels of coarse probabilities at a finer size.

    Their logarithms are interpolated: so do logits behind them that are, and thin parts stay.

    Args:
        probabilities: `[h, w, C]` float32.
        size: (height, width).

    Returns:
        `[*size]` class ids, int64.
    """
    # Where a class has less than 1 / C, another one has more.
    found = np.flatnonzero(probabilities.max((0, 1)) >= 1 / probabilities.shape[-1])
    logits = np.log(np.maximum(probabilities[..., found], 1e-6))
    return found[resizing.resize_scores(logits, size).argmax(-1)]


def gray(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture `[H, W, 3]` uint8 RGB as `[side, side]` float32 whose mean brightness is that of all others, 128."""
    small = images.resize(picture, (side, side)).mean(-1, dtype=np.float32)
    return small * (128 / max(small.mean(), 1))


def motion(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where each pixel of a picture was in the one before.

    Args:
        before, after: of `gray`, of one size, a multiple of 4.

    Returns:
        `[2, h, w]` float32, rows and columns to be added to those of the pixel.
    """
    pyramid = [(before, after)]
    while len(pyramid) < _LEVELS:
        pyramid.append((_half(pyramid[-1][0]), _half(pyramid[-1][1])))
    found = np.zeros((2, *pyramid[-1][1].shape), np.float32)
    for before, after in reversed(pyramid):
        if found.shape[1:] != after.shape:
            found = 2 * found.repeat(2, 1).repeat(2, 2)
        places = np.indices(after.shape, np.float32)
        down, right = np.gradient(after)
        slopes = np.stack([down, right], -1)
        rows, columns, both = np.moveaxis(_mean(np.stack([down**2, right**2, down * right], -1), _WINDOW), -1, 0)
        rows, columns = rows + _EVEN, columns + _EVEN
        determinant = rows * columns - both**2
        for _ in range(_STEPS):
            difference = after - _sample(before, places + found)
            down, right = np.moveaxis(_mean(slopes * difference[..., np.newaxis], _WINDOW), -1, 0)
            step = (
                np.stack([columns * down - both * right, rows * right - both * down], -1) / determinant[..., np.newaxis]
            )
            found = np.moveaxis(_mean(np.moveaxis(found, 0, -1) + step.clip(-1, 1), 2), -1, 0)
    return found


def sameness(before: np.ndarray, after: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """How far each pixel looks as it did where it comes from: `[h, w]` float32, 0..1; 0 from beyond the edge.

    Args:
        before, after: of `gray`.
        moved: of `motion`.
    """
    places = np.indices(after.shape, np.float32) + moved
    difference = _mean(np.abs(_sample(before, places) - after), _AROUND)
    edge = np.reshape(after.shape, (2, 1, 1)) - 0.5
    return np.exp(-((difference / _DOUBT) ** 2)) * ((places >= -0.5) & (places <= edge)).all(0)


def _half(gray):
    return gray.reshape(gray.shape[0] // 2, 2, gray.shape[1] // 2, 2).mean((1, 3))


def _mean(array, reach):
    """The mean of `[h, w, ...]` float32 in the window around each pixel, `2 reach + 1` wide."""
    for axis in (0, 1):
        around = [(0, 0)] * array.ndim
        around[axis] = (reach + 1, reach)
        total = np.cumsum(np.pad(array, around, "edge"), axis, np.float32)
        windows = np.arange(array.shape[axis])
        array = (total.take(windows + 2 * reach + 1, axis) - total.take(windows, axis)) / np.float32(2 * reach + 1)
    return array


def _sample(array, places):
    """`[h, w, ...]` float32 between its pixels, at `[2, h, w]` rows and columns; at the edge beyond it."""
    height, width = array.shape[:2]
    places = np.stack([places[0].clip(0, height - 1.001), places[1].clip(0, width - 1.001)])
    first = places.astype(np.int32)
    down, right = (places - first).reshape(2, -1, 1)
    index = (first[0] * width + first[1]).ravel()
    flat = array.reshape(height * width, -1)
    upper, lower = (flat[start] + right * (flat[start + 1] - flat[start]) for start in (index, index + width))
    return (upper + down * (lower - upper)).reshape(array.shape)
