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

# An iris is 11.7 mm wide, the opening of an eye about 29 mm: the share, and how much it may differ.
_IRIS = (0.4, 0.5)
# Variance of RGB 0..255 below which the guided filter sees no edge. (On 0..1 OpenCV's takes all colors for one.)
_EDGE = 3.0**2


def part_masks(parsed, size=None, class_names=LABELS):
    """The masks of `PARTS`, and of the whole face.

    Args:
        parsed: the output of a network for a photo: class ids `[H, W]`, any integer type; or probabilities `[H, W, C]`,
            which give softer edges.
        size: (height, width) to scale the masks to (bilinear), or None.
        class_names: of the network, in the order of its ids.

    Returns:
        dict: each key of `PARTS`, and `"face"` -> `[*size]` float32, 0..1.

    Raises:
        MakeupError: one of the classes is not among them.
    """
    masks = {}
    for part, names in {**PARTS, "face": _FACE}.items():
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


def iris(photo, mask):
    """Where the irises are: in each eye the darkest disc as wide as an iris.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1, of all eyes.

    Returns:
        `[H, W]` float32, 0..1, nowhere above `mask`.

    Raises:
        MakeupError: the sizes differ.
    """
    check_size(photo, mask)
    result = np.zeros(mask.shape, np.float32)
    box = box_of(mask)
    pixels, inside = photo[box], mask[box]
    if not inside.size:
        return result
    light = cv2.cvtColor(unit(pixels), cv2.COLOR_RGB2Lab)[..., 0]
    count, eyes = cv2.connectedComponents((inside >= 0.5).astype(np.uint8))
    rows, columns = np.indices(inside.shape, np.float32)
    for eye in range(1, count):
        here = eyes == eye
        _, sides, _ = cv2.minAreaRect(np.argwhere(here).astype(np.float32))
        row, column, radius = _darkest_disc(light, here, max(sides) + 1)
        # Over a fifth of the radius the edge goes from 1 to 0, as the border of an iris does.
        edge = (radius - np.hypot(rows - row, columns - column)) / max(radius / 5, 1) + 0.5
        result[box] = np.maximum(result[box], edge.clip(0, 1) * inside)
    return result


def _darkest_disc(light, here, width):
    """Row, column and radius of the disc in an eye that is darkest against what is around it in the eye."""
    here = here.astype(np.float32)

    def mean_and_area(kernel):
        area = cv2.filter2D(here, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        total = cv2.filter2D(here * light, -1, kernel, borderType=cv2.BORDER_CONSTANT)
        return total / np.maximum(area, 0.5), area

    best = (-math.inf,)
    for radius in np.linspace(*_IRIS, 5) * width / 2:
        reach = np.arange(-math.ceil(1.5 * radius), math.ceil(1.5 * radius) + 1)
        distance = np.hypot(*np.meshgrid(reach, reach))
        inside, area = mean_and_area((distance <= radius).astype(np.float32))
        outside, _ = mean_and_area(((distance > radius) & (distance <= 1.5 * radius)).astype(np.float32))
        # At the corners of an eye the lashes are as dark, but there is less of the disc in the eye.
        contrast = np.where((here > 0) & (area > 0.8 * area[here > 0].max()), outside - inside, -math.inf)
        row, column = np.unravel_index(contrast.argmax(), contrast.shape)
        best = max(best, (contrast[row, column], row, column, max(radius, 1)))
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
