"""Squares around faces, as the network knows them: cut out of a photo, and what was found in them put back.

The network was trained on CelebAMask-HQ: one face per photo, upright, in the middle. `square_of` is how CelebA-HQ was
made (Karras et al., "Progressive Growing of GANs", 2018, appendix C).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_bisenet.utils import images

Point = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Square:
    """A square of a photo, which may be turned and may reach beyond the photo.

    Attributes:
        center: (x, y) in pixels of the photo; whole numbers lie between pixels.
        side: in pixels.
        angle: in radians, clockwise.
    """

    center: tuple[float, float]
    side: float
    angle: float

    def matrix(self, size: int) -> np.ndarray:
        """The affine map from a pixel of the crop, `size` pixels wide, to one of the photo: `[2, 3]` float64."""
        scale = self.side / size
        cos, sin = math.cos(self.angle) * scale, math.sin(self.angle) * scale
        x, y = self.center
        half = size / 2
        return np.array([[cos, -sin, x - half * (cos - sin)], [sin, cos, y - half * (sin + cos)]])


def square_of(left_eye: Point, right_eye: Point, mouth_left: Point, mouth_right: Point) -> Square:
    """The square that CelebA-HQ would cut out around a face.

    Args:
        left_eye, right_eye, mouth_left, mouth_right: (x, y) in the photo; left and right are those of the picture.
    """
    eyes, mouth = (np.array(pair, float) for pair in ((left_eye, right_eye), (mouth_left, mouth_right)))
    between_eyes = eyes[1] - eyes[0]
    down = mouth.mean(0) - eyes.mean(0)
    x, y = (eyes.mean(0) + 0.1 * down).tolist()
    side = max(4.0 * math.hypot(*between_eyes), 3.6 * math.hypot(*down))
    # The way of the eyes, and that of eyes to mouth turned by 90 degrees, are both a guess at what is level.
    level = between_eyes + np.array([down[1], -down[0]])
    return Square((x, y), side, math.atan2(level[1], level[0]))


def cut_out(photo: np.ndarray, square: Square, size: int) -> np.ndarray:
    """A square of a photo, upright.

    Args:
        photo: `[H, W, 3]` uint8 RGB. What lies outside of it is mirrored.
        square: what is cut out.
        size: side of the result, pixels.

    Returns:
        `[size, size, 3]` uint8 RGB.
    """
    # Warping takes single pixels: a large face is cut out at twice the size and then made smaller, and one that is
    # larger still is made smaller before, which also bounds the memory.
    warped = size if square.side <= size else 2 * size
    scale = min(1.0, warped / square.side)
    photo = images.resize(photo, tuple(max(1, round(side * scale)) for side in photo.shape[:2]))
    matrix = square.matrix(warped) * scale
    (left, top), (right, bottom) = _bounds(matrix, warped)
    height, width = photo.shape[:2]
    around = (max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width)), (0, 0)
    padded = np.pad(photo, around, "symmetric")
    shift = np.array([[0, 0, around[1][0]], [0, 0, around[0][0]]])
    return images.resize(_warp(padded, matrix + shift, (warped, warped), "BILINEAR"), (size, size))


def put_back(
    crop: np.ndarray, square: Square, size: tuple[int, int], resampling: str = "NEAREST"
) -> tuple[np.ndarray, tuple[slice, slice]]:
    """What was found in a square, where it belongs in the photo.

    Args:
        crop: `[size, size]` uint8, int32 or float32: one value a pixel of what `cut_out` gave.
        square: that was cut out.
        size: (height, width) of the photo.
        resampling: `"NEAREST"` or `"BILINEAR"`.

    Returns:
        `[h, w]` of the crop's dtype, 0 outside of the square; and the rows and columns of the photo that it covers.
    """
    matrix = square.matrix(len(crop))
    (left, top), (right, bottom) = _bounds(matrix, len(crop))
    rows, columns = (
        slice(max(0, low), min(most, high)) for low, high, most in ((top, bottom, size[0]), (left, right, size[1]))
    )
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    corner = np.array([columns.start, rows.start, 1])
    inverse[:, 2] = inverse @ corner
    return _warp(crop, inverse[:2], (rows.stop - rows.start, columns.stop - columns.start), resampling), (rows, columns)


def _bounds(matrix, size):
    """The least whole (left, top) and (right, bottom) around a crop of `size` pixels, where `matrix` maps it."""
    corners = matrix @ np.array([[x, y, 1] for x in (0, size) for y in (0, size)]).T
    return np.floor(corners.min(1)).astype(int), np.ceil(corners.max(1)).astype(int)


def _warp(array, matrix, size, resampling):
    """Each pixel of the result, (height, width) of `size`, is that of `array` where `matrix` maps it."""
    from PIL import Image

    # Pillow maps centers: it adds the half pixel itself.
    warped = Image.fromarray(array).transform(
        size[::-1], Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling[resampling]
    )
    return np.asarray(warped)
