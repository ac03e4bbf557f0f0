"""Where the parts of a face are, as masks with soft edges: the labels of a network, fitted to the photo.

The fit is the guided filter: K. He, J. Sun, X. Tang, "Guided Image Filtering", ECCV 2010. What a function is given it
leaves as it is.
"""

import math

import numpy as np

from keras_bisenet.inference import crops
from keras_bisenet.inference.opencv import cv2, ximgproc
from keras_bisenet.labels import LABELS
from keras_bisenet.utils.errors import MakeupError

# What can be made up -> its classes.
PARTS = {
    "hair": ("hair",),
    "lips": ("u_lip", "l_lip"),
    "eyes": ("l_eye", "r_eye"),
    "brows": ("l_brow", "r_brow"),
    "skin": ("skin", "nose", "neck"),
}
# The size of the face, which all widths are fractions of, is the root of the area of these.
_FACE = ("skin", "nose", "l_brow", "r_brow", "l_eye", "r_eye", "mouth", "u_lip", "l_lip")

# Probabilities up to this are taken as 0, and those from 1 minus this as 1.
_DOUBT = 0.3

# An iris is 11.7 mm wide, the opening of an eye about 29 mm, and its mask may end too early or too late: bounds of the
# share.
_IRIS = (0.34, 0.6)
# How much lighter than the iris the white of the eye has to be on both sides, in L* 0..100.
_LIMBUS = 8.0
# Share of what is around an eye from which on glasses are before it.
_GLASSES = 0.05
# Distance of two colors, RGB 0..255, that hair and what is beside it need to tell how much of each is in a pixel.
_DISTINCT = 25.0
# Variance of RGB 0..255 below which the guided filter sees no edge. (On 0..1 OpenCV's takes all colors for one.)
_EDGE = 3.0**2


def part_masks(parsed, size=None, class_names=LABELS):
    """The masks of `PARTS`, of the whole face, and of glasses.

    Args:
        parsed: the output of a network for a photo: class ids `[H, W]`, any integer type; or probabilities `[H, W, C]`,
            which give softer edges.
        size: (height, width) to scale the masks to (bilinear), or None.
        class_names: of the network, in the order of its ids.

    Returns:
        dict: each key of `PARTS`, `"face"` and `"glasses"` -> `[*size]` float32, 0..1.

    Raises:
        MakeupError: one of the classes is not among them.
    """
    masks = {}
    for part, names in {**PARTS, "face": _FACE, "glasses": ("eye_g",)}.items():
        missing = [name for name in names if name not in class_names]
        if missing:
            raise MakeupError(
                f"the network has no class {missing[0]!r}; expected those of keras_bisenet.LABELS; use another one"
            )
        ids = [class_names.index(name) for name in names]
        if parsed.ndim == 2:
            mask = np.isin(parsed, ids).astype(np.float32)
        else:
            # Without the doubt that a network leaves far from an edge, where it would tint the background.
            mask = ((parsed[..., ids].sum(-1, dtype=np.float32) - _DOUBT) / (1 - 2 * _DOUBT)).clip(0, 1)
        if size not in (None, mask.shape):
            mask = cv2.resize(mask, size[::-1], interpolation=cv2.INTER_LINEAR)
        masks[part] = mask
    return masks


def part_masks_of_face(photo, face, parser):
    """The masks of a face that a detector has found.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        face: `detection.Face`.
        parser: `FaceParser`, without `detect`.

    Returns:
        Rows and columns of the photo that the face was cut out of, and `part_masks` of their size.

    Raises:
        MakeupError: see `part_masks`.
        ModelError: see `FaceParser.probabilities`.
    """
    probabilities = parser.probabilities(crops.cut_out(photo, face.square, parser.crop_size))
    masks = part_masks(probabilities, None, parser.class_names)
    placed = {part: crops.put_back(mask, face.square, photo.shape[:2], "BILINEAR") for part, mask in masks.items()}
    return placed["face"][1], {part: mask for part, (mask, _) in placed.items()}


def fit(photo, mask, radius):
    """Moves the edge of a mask to that of the photo nearby, and softens it: a guided filter.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1.
        radius: pixels. Nothing happens further than twice that from the mask's edge.

    Returns:
        `[H, W]` float32, 0..1.

    Raises:
        MakeupError: the sizes differ.
    """
    check_size(photo, mask)
    box = box_of(mask, 4 * radius)
    result = np.zeros(mask.shape, np.float32)
    if mask[box].size:
        guide, inside = photo[box].astype(np.float32), mask[box].astype(np.float32)
        result[box] = ximgproc.guidedFilter(guide, inside, radius, _EDGE).clip(0, 1)
    return result


def shrink(mask, radius):
    """Takes `radius` pixels off a mask `[H, W]`, float, 0..1, at each edge but the photo's."""
    side = 2 * radius + 1
    return cv2.erode(mask.astype(np.float32), np.ones((side, side), np.uint8))


def near(mask, face, radius):
    """Takes the pieces out of a mask that keep away from the face.

    Networks see hair in caps, fur and scarves; what grows on the head touches the face.

    Args:
        mask: `[H, W]` float, 0..1.
        face: `[H, W]` float, 0..1.
        radius: pixels; how close a piece must come.

    Returns:
        `[H, W]` float32, 0..1; the whole mask if all of it keeps away, as in a photo from behind.
    """
    count, pieces = cv2.connectedComponents((mask > 0).astype(np.uint8))
    side = 2 * radius + 1
    close = cv2.dilate((face >= 0.5).astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    kept = np.zeros(count, bool)
    kept[pieces[close & (mask > 0)]] = True
    return np.where(kept[pieces] | ~kept.any(), mask, 0).astype(np.float32)


def strands(photo, mask, radius):
    """A mask of hair that follows its strands: how much of each pixel near the edge is hair, by its color.

    It is that of `fit`, less what is not hair: in a band along the edge and outside of it, a color `I` lies between the
    mean color `F` of the hair beyond the band and that of what else is near, `B`. The part of hair in it is
    `(I - B) (F - B) / |F - B|^2`, which counts as far as the two colors differ.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1.
        radius: pixels; half the width of the band.

    Returns:
        `[H, W]` float32, 0..1.

    Raises:
        MakeupError: the sizes differ.
    """
    result = fit(photo, mask, radius)
    box = box_of(result)
    if not mask[box].size:
        return result
    colors, hair = photo[box].astype(np.float32), (mask[box] >= 0.5).astype(np.float32)
    beyond = shrink(hair, radius), shrink(1 - hair, radius)
    (of_hair, seen), (beside, seen_beside) = (_mean_nearby(colors, weights, 4 * radius) for weights in beyond)
    way = of_hair - beside
    length = (way**2).sum(-1)
    amount = (((colors - beside) * way).sum(-1) / np.maximum(length, 1)).clip(0, 1)
    certain = np.where(seen & seen_beside, length / (length + _DISTINCT**2), 0)
    band = (beyond[0] == 0) & (beyond[1] == 0)
    result[box] *= np.where(band | (hair == 0), 1 - certain * (1 - amount), 1)
    return result


def _mean_nearby(colors, weights, reach):
    """Mean colors of the pixels within reach of each, by weights `[H, W]`; and where there are any."""
    side = (2 * reach + 1,) * 2
    total = cv2.blur(weights, side)
    mean = cv2.blur(colors * weights[..., np.newaxis], side) / np.maximum(total, 1e-4)[..., np.newaxis]
    return mean, total > 1e-3


def irises(photo, mask, glasses):
    """Where the irises are: a disc in each eye whose border is that of dark and white on both sides.

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
    result, reasons = np.zeros(mask.shape, np.float32), []
    box = box_of(mask)
    pixels, inside = photo[box], mask[box]
    if not inside.size:
        return result, reasons
    light = cv2.cvtColor(unit(pixels), cv2.COLOR_RGB2Lab)[..., 0]
    count, eyes = cv2.connectedComponents((inside >= 0.5).astype(np.uint8))
    rows, columns = np.indices(inside.shape, np.float32)
    for eye in range(1, count):
        here = eyes == eye
        _, sides, _ = cv2.minAreaRect(np.argwhere(here).astype(np.float32))
        width = max(sides) + 1
        whole = np.zeros(mask.shape, np.uint8)
        whole[box] = here
        around = cv2.dilate(whole, np.ones((2 * round(width / 2) + 1,) * 2, np.uint8)) > 0
        if (glasses[around] >= 0.5).mean() > _GLASSES:
            reasons.append("behind glasses")
            continue
        contrast, row, column, radius = _limbus(light, here, width)
        if contrast < _LIMBUS:
            reasons.append("no iris to be seen")
            continue
        # Over a fifth of the radius the edge goes from 1 to 0, as the border of an iris does.
        edge = (radius - np.hypot(rows - row, columns - column)) / max(radius / 5, 1) + 0.5
        result[box] = np.maximum(result[box], edge.clip(0, 1) * inside * here)
    return result, reasons


def _limbus(light, here, width):
    """A dark disc in an eye: how much darker than both sides, its row, column and radius."""
    # Glints are no lighter than the white of the eye.
    light = np.minimum(light, np.quantile(light[here], 0.9)).astype(np.float32)
    points = np.argwhere(here) - np.argwhere(here).mean(0)
    along = np.linalg.eigh(points.T @ points)[1][:, -1]
    here = here.astype(np.float32)

    def mean_and_area(kernel):
        kernel = kernel.astype(np.float32)
        area = cv2.filter2D(here, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        total = cv2.filter2D(here * light, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        return total / np.maximum(area, 0.5), area / max(kernel.sum(), 1)

    best = (-math.inf, -math.inf, 0, 0, 1)
    for radius in np.linspace(*_IRIS, 7) * width / 2:
        reach = math.ceil(1.5 * radius)
        rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        distance = np.hypot(rows, columns)
        across = (rows * along[0] + columns * along[1]) / np.maximum(distance, 1e-6)
        inside, seen = mean_and_area(distance <= radius)
        outside, _ = mean_and_area((distance > radius) & (distance <= 1.5 * radius))
        steps = []
        for side in (across > 0.75, across < -0.75):
            within, _ = mean_and_area(side & (distance > 0.5 * radius) & (distance <= 0.95 * radius))
            beyond, visible = mean_and_area(side & (distance > 1.05 * radius) & (distance <= 1.45 * radius))
            steps.append(np.where(visible > 0.2, beyond - within, np.nan))
        lower = np.fmin(*steps)
        # An iris in the corner of an eye shows one side. Lashes look like that, too.
        contrast = np.where(np.isnan(steps[0]) | np.isnan(steps[1]), 0.6 * lower, lower)
        score = np.where((here > 0) & (seen > 0.45) & ~np.isnan(contrast), contrast + outside - inside, -math.inf)
        row, column = np.unravel_index(score.argmax(), score.shape)
        best = max(best, (score[row, column], contrast[row, column], row, column, max(radius, 1)))
    return best[1:]


def unit(pixels):
    """uint8 0..255 -> float32 0..1."""
    return pixels.astype(np.float32) / 255


def box_of(mask, margin=0):
    """Rows and columns that hold everything above 0, and `margin` pixels around it."""
    sides = []
    for axis, size in zip((1, 0), mask.shape, strict=True):
        found = np.flatnonzero((mask > 0).any(axis))
        sides.append(slice(max(found[0] - margin, 0), min(found[-1] + 1 + margin, size)) if found.size else slice(0, 0))
    return tuple(sides)


def check_size(photo, mask):
    """Raises `MakeupError` if a mask or labels `[H, W]` are of another size than the photo `[H, W, 3]`."""
    if mask.shape != photo.shape[:2]:
        found, expected = ("x".join(map(str, shape)) for shape in (mask.shape, photo.shape[:2]))
        raise MakeupError(f"the mask is {found}, the photo {expected}; expected the same; resize one of them")
