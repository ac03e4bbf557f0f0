"""Recolors hair, lips, eyes and brows of a photo, and smooths its skin, by the parts that a network found in it.

Everything is a pure function on the photo and a mask: the photo given is left as it is, pixels where the mask is 0 come
back bit for bit, and the same input gives the same output.

Colors are changed in CIE Lab (D65) as OpenCV converts it, within 0.6 units of the definition. Skin is smoothed by
the guided filter, see `soft_masks`.
"""

import dataclasses
import math

import numpy as np

from keras_bisenet.inference import irises, soft_masks
from keras_bisenet.inference.opencv import cv2, ximgproc
from keras_bisenet.inference.soft_masks import box_of, check_size, unit
from keras_bisenet.utils.errors import MakeupError

# Those that take a color -> how far their mean lightness goes to that of the color. Dye covers; dark eyes would glow.
LIGHTNESS = {"hair": 1.0, "lips": 0.8, "eyes": 0.25, "brows": 1.0}
# Above this exponent of the tone curve highlights would stand out as they do on no dark hair, and look pink in red.
_MOST_CONTRAST = 1.3
# Fractions of the size of the face: how far the edge of a mask may move to that of the photo (that of hair further, for
# its curls), half the width of the spots that smoothing removes, and how far from the face hair may begin.
_FEATHER = 0.012
_STRANDS = 0.025
_SPOT = 0.03
_NEAR = 0.1
# Variance of RGB 0..255 below which smoothing sees no edge: the mottling of skin deviates by less than 15.
_SKIN_EDGE = 15.0**2


@dataclasses.dataclass(frozen=True)
class Look:
    """What to change.

    Attributes:
        hair, lips, eyes, brows: color as (red, green, blue) 0..255, see `parse_color`; None to leave the part as it
            is. Of the eyes, the irises are colored.
        smooth: 0..1, how much of the skin's unevenness goes.
        strength: 0..1, how far the parts go to their colors.
    """

    hair: tuple[int, int, int] | None = None
    lips: tuple[int, int, int] | None = None
    eyes: tuple[int, int, int] | None = None
    brows: tuple[int, int, int] | None = None
    smooth: float = 0.0
    strength: float = 0.8

    def colors(self):
        """dict: part -> color, of those that have one."""
        return {part: getattr(self, part) for part in LIGHTNESS if getattr(self, part) is not None}

    def check(self):
        """Raises `MakeupError` if a number is out of range, or nothing is asked for."""
        for name in ("smooth", "strength"):
            _check_fraction(name, getattr(self, name))
        if not self.colors() and not self.smooth:
            raise MakeupError(f"nothing to change; give at least one of {', '.join(LIGHTNESS)}, or smooth above 0")


def parse_color(text):
    """`"#7a2f1d"` or a CSS name -> (red, green, blue), 0..255.

    Raises:
        MakeupError: `text` is no opaque color.
    """
    from PIL import ImageColor

    try:
        color = ImageColor.getrgb(text)
    except ValueError:
        color = ()
    if len(color) != 3:
        raise MakeupError(f"color is {text!r}; expected a CSS name or #rrggbb, for example 'crimson' or '#7a2f1d'")
    return color


def apply(photo, masks, look):
    """Makes up a photo of one face: skin first, then hair, lips, eyes and brows.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        masks: of `soft_masks.part_masks`, of the photo's size.
        look: `Look`.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        MakeupError: the look is none, the masks are of another size, or a part is asked for that is not in the photo.
    """
    return apply_to_faces(photo, [(np.s_[:, :], masks)], look)[0]


def apply_to_faces(photo, faces, look):
    """Makes up each face of a photo.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        faces: list of pairs, one a face, of the rows and columns of the photo that it is in, and the masks in them; see
            `soft_masks.part_masks_of_face`.
        look: `Look`.

    Returns:
        `[H, W, 3]` uint8 RGB; and why eyes were left as they are, a list of str, one for each: an iris is colored whole
        or not at all.

    Raises:
        MakeupError: the look is none, masks are of another size, or a part is asked for that no face has.
    """
    look.check()
    for part in (*look.colors(), *(["skin"] if look.smooth else [])):
        for place, masks in faces:
            check_size(photo[place], masks[part])
        if not any(_has(masks, part) for _, masks in faces):
            option = "smooth" if part == "skin" else part
            raise MakeupError(f"no {part} found in the photo; give another one, or leave {option} out")
    left = []
    if look.eyes is not None:
        found = [irises.find(photo[place], masks["eyes"], masks["glasses"]) for place, masks in faces]
        left = [reason for _, reasons in found for reason in reasons]
        if not any(mask.any() for mask, _ in found):
            raise MakeupError(
                f"no eyes can be made up: {', '.join(dict.fromkeys(left))}; give another photo, or leave eyes out"
            )
        faces = [(place, masks | {"eyes": mask}) for (place, masks), (mask, _) in zip(faces, found, strict=True)]
    result = photo.copy()
    for place, masks in faces:
        result[place] = _apply(result[place], masks, look)
    return result, left


def _has(masks, part):
    return bool((masks[part] >= 0.5).any())


def _apply(photo, masks, look):
    face = math.sqrt(masks["face"].sum())

    def pixels(fraction):
        return max(1, round(fraction * face))

    result = photo.copy()
    if look.smooth and _has(masks, "skin"):
        # Kept off the edges, so that eyes, brows, lips and hair stay sharp.
        inner = soft_masks.shrink(masks["skin"], 2 * pixels(_FEATHER))
        result = smooth(result, soft_masks.fit(photo, inner, pixels(_FEATHER)), look.smooth, pixels(_SPOT))
    for part, color in look.colors().items():
        if not _has(masks, part):
            continue
        if part == "eyes":
            mask = masks[part]
        elif part == "hair":
            mask = soft_masks.near(masks[part], masks["face"], pixels(_NEAR))
            mask = soft_masks.strands(photo, mask, pixels(_STRANDS))
            # Thin and dark like strands, and beside the hair.
            mask *= 1 - np.max([masks[other] for other in ("brows", "eyes", "glasses")], axis=0)
        else:
            mask = soft_masks.fit(photo, masks[part], pixels(_FEATHER))
        result = recolor(result, mask, color, look.strength, LIGHTNESS[part])
    return result


def recolor(photo, mask, color, strength=1.0, lightness=0.5):
    """Moves a part to a color and keeps its light and shade.

    In Lab, with the color's `L*, a*, b*`: the lightness of the part goes through the curve `100 (L / 100)^g`, which
    keeps black and white and moves the part's mean to `mean + lightness (L* - mean)`. Where this takes a `g` above 1.3,
    as from blond to brown, it is 1.3, and `L + 16` is scaled for the rest, as by less light. The chroma becomes that of
    the color: `f (a*, b*)`, where `f = min(1, (L + 16) / (L* + 16), 1.4 (100 - L) / (100 - L*))` of the new lightness.
    In shade this is what less light does to the color (X, Y and Z times k are L + 16, a and b times the cube root of
    k), and towards white it makes room for highlights.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1.
        color: (red, green, blue), 0..255.
        strength: 0..1, where 0 changes nothing.
        lightness: 0..1, how far the mean lightness goes to that of the color.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        MakeupError: a number is out of range, or the sizes differ.
    """
    _check_fraction("strength", strength)
    _check_fraction("lightness", lightness)
    check_size(photo, mask)
    box = box_of(mask)
    if not mask[box].size:
        return photo.copy()
    lab = cv2.cvtColor(unit(photo[box]), cv2.COLOR_RGB2Lab)
    target = cv2.cvtColor(unit(np.uint8([[color]])), cv2.COLOR_RGB2Lab)[0, 0]
    mean = np.clip(np.average(lab[..., 0], weights=mask[box]), 1, 99)
    goal = np.clip(mean + lightness * (target[0] - mean), 1, 99)
    exponent = min(math.log(goal / 100) / math.log(mean / 100), _MOST_CONTRAST)
    scale = (goal + 16) / (100 * (mean / 100) ** exponent + 16)
    curve = 100 * (lab[..., 0].clip(0, 100) / 100) ** np.float32(exponent)
    lab[..., 0] = (np.float32(scale) * (curve + 16) - 16).clip(0, 100)
    shade = (lab[..., :1] + 16) / (target[0] + 16)
    highlight = 1.4 * (100 - lab[..., :1]) / max(100 - target[0], 1)
    lab[..., 1:] = np.minimum(np.minimum(shade, highlight), 1) * target[1:]
    return _blend(photo, box, 255 * cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), strength * mask[box])


def smooth(photo, mask, strength, radius):
    """Evens out a part, but for its edges: a guided filter, by the photo itself.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        mask: `[H, W]` float, 0..1.
        strength: 0..1, the share of the unevenness that goes.
        radius: half the width of what is evened out, pixels.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        MakeupError: the strength is out of range, or the sizes differ.
    """
    _check_fraction("strength", strength)
    check_size(photo, mask)
    box = box_of(mask, 2 * radius)
    if not mask[box].size:
        return photo.copy()
    pixels = photo[box].astype(np.float32)
    return _blend(photo, box, ximgproc.guidedFilter(pixels, pixels, radius, _SKIN_EDGE), strength * mask[box])


def _blend(photo, box, changed, weights):
    """The photo with `changed` (float RGB 0..255) in its box by weights 0..1; where they are 0, its own pixels."""
    result = photo.copy()
    old = photo[box].astype(np.float32)
    new = old + weights[..., np.newaxis].astype(np.float32) * (changed - old)
    result[box] = np.rint(new).clip(0, 255).astype(np.uint8)
    return result


def _check_fraction(name, value):
    if not 0 <= value <= 1:
        raise MakeupError(f"{name} is {value}; expected a number from 0 to 1")
