"""Where the parts of a face are, as masks with soft edges: the labels of a network, fitted to the photo.

The fit is the guided filter: K. He, J. Sun, X. Tang, "Guided Image Filtering", ECCV 2010. What a function is given it
leaves as it is.
"""

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

# Share of a face that its nose has at least; about 0.08 in portraits.
_NOSE = 0.005
# Distance of two colors, RGB 0..255, that hair and what is beside it need to tell how much of each is in a pixel.
_DISTINCT = 15.0
# The same for strands, since blond hair and lit skin are hardly distinct.
_CLEAR = 50.0
# How far loose strands are followed, in widths of that band, and the share of hair from which a pixel is of a strand.
_REACH = 3
_LINE = 0.2
# Variance of RGB 0..255 below which the guided filter sees no edge. (On 0..1 OpenCV's takes all colors for one.)
_EDGE = 3.0**2


def part_masks(parsed, size=None, class_names=LABELS):
    """The masks of `PARTS`, of the whole face, and of its nose and glasses.

    Args:
        parsed: the output of a network for a photo: class ids `[H, W]`, any integer type; or probabilities `[H, W, C]`,
            which give softer edges.
        size: (height, width) to scale the masks to (bilinear), or None.
        class_names: of the network, in the order of its ids.

    Returns:
        dict: each key of `PARTS`, `"face"`, `"nose"` and `"glasses"` -> `[*size]` float32, 0..1.

    Raises:
        MakeupError: one of the classes is not among them.
    """
    masks = {}
    for part, names in {**PARTS, "face": _FACE, "nose": ("nose",), "glasses": ("eye_g",)}.items():
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


def has_face(masks):
    """Whether `part_masks` are of a face: where none is, a network sees hair and skin, too, but no nose."""
    return bool(masks["nose"].sum() > _NOSE * masks["face"].sum())


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

    In a band along the edge and outside of it, a color `I` lies between the mean color `F` of the hair beyond the band
    and that of what else is near, `B`. The part of hair in it is `(I - B) (F - B) / |F - B|^2`, which counts as far as
    the two colors differ. By this the mask of `fit` is less what is not hair, and more the loose strands: thin lines of
    hair's color that begin at the hair.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1.
        radius: pixels; half the width of the band. Strands are followed as far as three times that, and are less wide.

    Returns:
        `[H, W]` float32, 0..1.

    Raises:
        MakeupError: the sizes differ.
    """
    result = fit(photo, mask, radius)
    box = box_of(result, _REACH * radius)
    if not mask[box].size:
        return result
    colors, hair = photo[box].astype(np.float32), (mask[box] >= 0.5).astype(np.float32)
    beyond = shrink(hair, radius), shrink(1 - hair, radius)
    (of_hair, seen), (beside, seen_beside) = (_mean_nearby(colors, weights, 4 * radius) for weights in beyond)
    way = of_hair - beside
    length = (way**2).sum(-1)
    amount = (((colors - beside) * way).sum(-1) / np.maximum(length, 1)).clip(0, 1)
    certain, clear = (np.where(seen & seen_beside, length / (length + least**2), 0) for least in (_DISTINCT, _CLEAR))
    band = (beyond[0] == 0) & (beyond[1] == 0)
    edge = result[box] * np.where(band | (hair == 0), 1 - certain * (1 - amount), 1)
    result[box] = np.maximum(edge, _lines(np.where(hair > 0, 1, clear * amount), edge, hair, radius))
    return result


def _lines(amount, edge, hair, radius):
    """The thin lines in `amount` that begin at the hair: `[h, w]` float32, 0..1."""
    # An opening keeps what is wide, as a background of the color of the hair.
    lines = 1.5 * cv2.morphologyEx(amount.astype(np.float32), cv2.MORPH_TOPHAT, _disc(max(1, round(0.6 * radius))))
    lines *= cv2.dilate(hair, _disc(_REACH * radius))
    count, pieces = cv2.connectedComponents((np.maximum(lines, edge) > _LINE).astype(np.uint8))
    begins = np.zeros(count, np.float32)
    begins[pieces[hair > 0]] = 1
    begins[0] = 0
    # Their soft sides are below the threshold.
    return (lines * cv2.dilate(begins[pieces], _disc(1))).clip(0, 1)


def _disc(radius):
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def _mean_nearby(colors, weights, reach):
    """Mean colors of the pixels within reach of each, by weights `[H, W]` and a Gaussian; and where there are any."""

    def blurred(array):
        return cv2.GaussianBlur(array, (4 * reach + 1,) * 2, reach / 2, borderType=cv2.BORDER_REFLECT)

    total = blurred(weights)
    mean = blurred(colors * weights[..., np.newaxis]) / np.maximum(total, 1e-4)[..., np.newaxis]
    return mean, total > 1e-3


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
