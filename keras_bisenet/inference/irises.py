"""Where the irises are: in each eye the disc that is dark beside white, and is as large as an iris.

Each eye is laid level and scaled to one width. Every disc in it, of every center and radius that an iris may have, is
scored by the lightness around its border; both eyes of a face have the same radius. The score is a sum of terms whose
weights were fitted to 95 irises that were marked by hand in CelebA-HQ photos, as those of a softmax over all discs of
an eye. So it is known how likely the best disc is, and an eye in which others are as likely is left.
"""

import dataclasses

import numpy as np

from keras_bisenet.inference.opencv import cv2
from keras_bisenet.inference.soft_masks import box_of, check_size, unit

# Width of an eye in its patch, and side of that, pixels.
_WIDTH, _SIDE = 64, 96
# Radii in the patch. An iris is 11.7 mm wide, the opening of an eye about 29 mm, and its mask ends early or late.
_RADII = np.arange(10.5, 20.1, 0.75)
_USUAL = 15.5
_ANGLES = np.deg2rad(np.arange(-90, 270, 7.5))
_ACROSS, _DOWN = (function(_ANGLES).astype(np.float32) for function in (np.cos, np.sin))
# The border at the right and at the left; that below and at the top is mostly behind a lid.
_SIDES = _ACROSS > 0.6, _ACROSS < -0.6
# Share of a side that has to lie within the eye to be seen.
_SEEN = 0.25
# Both eyes of a face: what a radius loses, by the square of the logarithm of its ratio to the common one.
_ALIKE = 20.0
# Least probability of the best disc and those that are hardly another: by so much of its radius in place, and in size.
_LEAST = 0.35
_NEAR, _NEAR_SIZE = 0.25, 0.2
# Share of what is around an eye from which on glasses are before it.
_GLASSES = 0.05
# A piece of the mask that is smaller than this, in the area of the largest, is no eye.
_PIECE = 0.2


@dataclasses.dataclass(frozen=True)
class _Eye:
    """An eye and its discs.

    Attributes:
        here: `[H, W]` bool, the eye in the photo.
        matrix: `[2, 3]`, the affine map from (x, y) in the patch to the photo.
        scale: pixels of the photo in one of the patch.
        discs: `[N, 3]`, x, y and radius in the patch.
        scores: `[N]`, log of how likely each is the iris, but for a constant.
    """

    here: np.ndarray
    matrix: np.ndarray
    scale: float
    discs: np.ndarray
    scores: np.ndarray


def find(photo, mask, glasses):
    """Finds the irises of one face.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1, of all eyes.
        glasses: `[H, W]` float, 0..1.

    Returns:
        `[H, W]` float32, 0..1, nowhere above `mask`: each iris whole, as far as the lids show it, or nothing of it; and
        for each eye without one why, a list of str.

    Raises:
        MakeupError: the sizes differ.
    """
    check_size(photo, mask)
    check_size(photo, glasses)
    result, reasons, eyes = np.zeros(mask.shape, np.float32), [], []
    if not mask.any():
        return result, reasons
    box = box_of(mask, np.ptp(np.nonzero(mask), axis=1).max())
    pixels, inside, frames = photo[box], mask[box], glasses[box] >= 0.5
    for here in _pieces(inside):
        reach = np.ptp(np.nonzero(here), axis=1).max() // 2
        around = cv2.dilate(here.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8)) > 0
        if frames[around].mean() > _GLASSES:
            reasons.append("behind glasses")
        else:
            eyes.append(_look_at(pixels, here))
    for eye, scores in zip(eyes, _alike(eyes), strict=True):
        x, y, radius = best = eye.discs[scores.argmax()]
        other = np.abs(eye.discs - best) > (np.array([_NEAR, _NEAR, _NEAR_SIZE]) * radius)
        likely = np.exp(scores - scores.max())
        if likely[~other.any(1)].sum() < _LEAST * likely.sum():
            reasons.append("no iris to be seen")
            continue
        x, y = eye.matrix @ (x, y, 1)
        rows, columns = np.indices(inside.shape)
        # Over a fifth of the radius the edge goes from 1 to 0, as the border of an iris does.
        edge = radius * eye.scale - np.hypot(rows - y, columns - x)
        edge = (edge / max(radius * eye.scale / 5, 1) + 0.5).clip(0, 1)
        result[box] = np.maximum(result[box], edge * inside * eye.here)
    return result, reasons


def _pieces(mask):
    """Each eye of a mask `[H, W]`, as one of bool."""
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats((mask >= 0.5).astype(np.uint8))
    areas = boxes[:, cv2.CC_STAT_AREA]
    return [pieces == piece for piece in range(1, count) if areas[piece] >= _PIECE * areas[1:].max()]


def _look_at(photo, here):
    """The `_Eye` of a piece of the mask."""
    points = np.argwhere(here)[:, ::-1].astype(np.float64)
    center = points.mean(0)
    along = np.linalg.eigh((points - center).T @ (points - center))[1][:, -1]
    along *= np.sign(along[0]) or 1
    scale = (np.ptp(points @ along) + 1) / _WIDTH
    turn = scale * np.array([[along[0], -along[1]], [along[1], along[0]]])
    matrix = np.column_stack([turn, center - turn @ (_SIDE / 2, _SIDE / 2)])
    # What is made smaller is smoothed before, against aliasing.
    smooth = cv2.GaussianBlur(photo, (0, 0), scale / 2) if scale > 1 else photo
    patch = _warp(smooth, matrix, cv2.INTER_CUBIC)
    inside = _warp(here.astype(np.float32), matrix, cv2.INTER_LINEAR) >= 0.5
    return _Eye(here, matrix, scale, *_score(cv2.cvtColor(unit(patch), cv2.COLOR_RGB2Lab)[..., 0], inside))


def _warp(array, matrix, interpolation):
    return cv2.warpAffine(
        array, matrix, (_SIDE, _SIDE), flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )


def _score(light, inside):
    """Scores all discs of a patch.

    Args:
        light: `[96, 96]` float32, L* 0..100.
        inside: `[96, 96]` bool, the eye.

    Returns:
        discs and scores, see `_Eye`.
    """
    dark, white = np.quantile(light[inside], (0.3, 0.9)).astype(np.float32)
    contrast = max(white - dark, 1)
    # Glints are no lighter than the white of the eye, and lashes no darker than the iris.
    light = cv2.GaussianBlur(light.clip(dark, white), (0, 0), 1.2)
    slope_x, slope_y = cv2.Scharr(light, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(light, cv2.CV_32F, 0, 1) / 32
    # Lids and lashes are steps, too.
    off_lids = cv2.erode(inside.astype(np.float32), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    lower_lid = np.where(inside.any(0), _SIDE - inside[::-1].argmax(0), 0)
    y, x = (axis[:, np.newaxis].astype(np.float32) for axis in np.nonzero(inside))
    found = []
    for radius in _RADII.astype(np.float32):

        def around(array, share, radius=radius):
            """`[N, angles]`, an array at a share of the radius from each center."""
            return cv2.remap(array, x + share * radius * _ACROSS, y + share * radius * _DOWN, cv2.INTER_LINEAR)

        slope = around(slope_x, 1) * _ACROSS + around(slope_y, 1) * _DOWN
        border, seen = (slope / max(0.05 * contrast, 0.6)).clip(-1, 1), around(off_lids, 1)
        within, seen_within = around(light, 0.75), around(inside.astype(np.float32), 0.75) > 0.5
        beyond, seen_beyond = around(light, 1.3), around(off_lids, 1.3) > 0.5
        border_seen = [seen[:, side].mean(1) > _SEEN for side in _SIDES]
        support = sum(
            np.where(shown, _mean(border[:, side], seen[:, side]), 0)
            for side, shown in zip(_SIDES, border_seen, strict=True)
        )
        steps, both_seen = [], True
        for side in _SIDES:
            shown = (seen_within[:, side].sum(1) >= 2) & (seen_beyond[:, side].sum(1) >= 2)
            step = _mean(beyond[:, side], seen_beyond[:, side]) - _mean(within[:, side], seen_within[:, side])
            steps.append(np.where(shown, (step / contrast).clip(-0.5, 1), 0))
            both_seen = both_seen & shown
        gap = (lower_lid[x[:, 0].astype(int)] - 0.5 - y[:, 0]) / radius - 1
        scores = support - 0.7 * sum(~shown for shown in border_seen)
        scores += 3.5 * sum(steps) + 2.5 * np.where(both_seen, np.minimum(*steps), 0)
        scores += 3.75 * seen_within[:, _DOWN > -0.5].mean(1) - 3.75 * np.maximum(gap - 0.1, 0)
        scores -= 0.7 * ((radius - _USUAL) / 3) ** 2
        found.append((np.column_stack([x, y, np.full_like(x, radius)]), scores))
    return tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True))


def _mean(values, weights):
    return (values * weights).sum(1) / np.maximum(weights.sum(1), 1e-3)


def _alike(eyes):
    """The scores of each eye; of two, less what the radius of a disc differs from that which fits both."""
    if len(eyes) != 2:
        return [eye.scores for eye in eyes]
    sizes = [np.log(eye.discs[:, 2] * eye.scale) for eye in eyes]
    common = np.linspace(min(size.min() for size in sizes), max(size.max() for size in sizes), 40)
    fits = sum(
        np.array([(eye.scores - _ALIKE * (size - other) ** 2).max() for other in common])
        for eye, size in zip(eyes, sizes, strict=True)
    )
    radius = common[fits.argmax()]
    return [eye.scores - _ALIKE * (size - radius) ** 2 for eye, size in zip(eyes, sizes, strict=True)]
