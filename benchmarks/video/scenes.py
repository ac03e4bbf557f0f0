"""Videos whose motion is known: labeled photos under a moving camera, and people who move before a still background."""

import dataclasses
import io

import numpy as np
from PIL import Image, ImageFilter

# Side of the frames, pixels, and the part of the photo that one shows, so that there is room to move.
SIDE, SHOWN = 512, 0.8
# Of the motion: farthest way from the middle as a fraction of the frame, turn in degrees, change of scale; and after
# how many frames it comes back.
_WAY, _TURN, _SCALE, _PERIODS = 0.06, 4.0, 0.05, (24, 60)
# Of the camera: deviation of the noise of a pixel and of the brightness, and the quality of its JPEG.
_NOISE, _BRIGHTNESS, _QUALITY = 4.0, 0.015, 75
# How far a face jumps in a fast turn, as a fraction of the frame.
_JUMP = 0.2


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a video, `[SIDE, SIDE, 3]` uint8 RGB, and the truth about it: `[SIDE, SIDE]` uint8 class ids."""

    picture: np.ndarray
    labels: np.ndarray
    # `[3, 3]`, from the pixels of the frame to those of the photo, where whole numbers lie between pixels.
    matrix: np.ndarray
    # Whether the background does not move with the person.
    is_still: bool


def video(photo, labels, seed, count, background=None, jumps_at=None):
    """Yields the `Frame`s of a video, which depend on the arguments alone.

    Args:
        photo, labels: `[H, W, 3]` uint8 RGB, a square, and `[H, W]` uint8 class ids.
        seed, count: of the motion and the noise; number of frames.
        background: like `photo`, shows, blurred, behind a person who moves; None if the camera moves.
        jumps_at: number of a frame, from 0 on, before which the person turns fast; None for never.
    """
    random = np.random.default_rng(seed)
    periods, phases = random.uniform(*_PERIODS, 4), random.uniform(0, 2 * np.pi, 4)
    if background is not None:
        blurred = Image.fromarray(background[:, ::-1]).filter(ImageFilter.GaussianBlur(8)).resize((SIDE, SIDE))
    for number in range(count):
        waves = np.sin(2 * np.pi * number / periods + phases)
        jump = 0 if jumps_at is None or number < jumps_at else _JUMP
        matrix = _matrix(len(photo), waves, jump)
        truth = _warp(Image.fromarray(labels), matrix, Image.Resampling.NEAREST)
        picture = _warp(Image.fromarray(photo), matrix, Image.Resampling.BICUBIC)
        if background is not None:
            person = _warp(Image.fromarray((labels > 0) * np.uint8(255)), matrix, Image.Resampling.BILINEAR)
            picture = Image.composite(picture, blurred, person.filter(ImageFilter.GaussianBlur(1)))
        yield Frame(_taken(np.asarray(picture), random), np.asarray(truth), matrix, background is not None)


def _matrix(side, waves, jump):
    scale = SHOWN * side / SIDE * (1 + _SCALE * waves[3])
    angle = np.deg2rad(_TURN * waves[2])
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    x, y = SIDE * (0.5 + _WAY * waves[:2]) + [jump * SIDE, 0]
    turned = np.array([[cos, -sin, side / 2], [sin, cos, side / 2], [0, 0, 1]])
    return turned @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])


def _warp(image, matrix, resampling):
    return image.transform((SIDE, SIDE), Image.Transform.AFFINE, tuple(matrix[:2].ravel()), resampling)


def _taken(picture, random):
    """A picture as a camera takes it: with noise, of uneven brightness, compressed."""
    light = random.normal(1, _BRIGHTNESS)
    noisy = (light * picture + random.normal(0, _NOISE, picture.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=_QUALITY)
    return np.asarray(Image.open(file))


def unexplained(before, frame, labels_before, labels):
    """The share of the pixels that change their label to that of the next `Frame` without motion that explains it."""
    rows, columns = np.indices((SIDE, SIDE)) + 0.5
    moved = np.stack([columns, rows, np.ones_like(rows)], -1) @ (np.linalg.inv(before.matrix) @ frame.matrix)[:2].T
    changed, is_counted = changes(labels_before, labels, moved[..., 1] - 0.5, moved[..., 0] - 0.5)
    if frame.is_still:
        person = frame.labels > 0
        changed = np.where(person, changed, labels_before != labels)
        is_counted = np.where(person, is_counted, before.labels == 0)
    return float(changed[is_counted].mean())


def changes(labels_before, labels, rows, columns):
    """Which pixels have another label than all four of the frame before between which they were.

    All arrays are `[H, W]`. `rows` and `columns` are floats, where each pixel was; whether that is in the frame is
    returned, too.
    """
    top, left = (np.floor(places).astype(int) for places in (rows, columns))
    height, width = labels.shape
    was_shown = (top >= 0) & (top < height - 1) & (left >= 0) & (left < width - 1)
    top, left = top.clip(0, height - 2), left.clip(0, width - 2)
    changed = np.ones(labels.shape, bool)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        changed &= labels_before[top + row, left + column] != labels
    return changed, was_shown
