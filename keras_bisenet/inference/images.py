"""Reads photos as a person sees them."""

import pathlib
import re

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_bisenet.bisenet import MINIMUM_SIZE

# A public-domain portrait (NASA), used wherever no photo is given.
BUNDLED = pathlib.Path(__file__).parents[1] / "assets" / "astronaut_face.png"

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class ImageError(ValueError):
    """A photo or a folder of photos cannot be used. The message says which and why."""


def parse_size(text):
    """`"512"` -> (512, 512); `"480x640"` -> (480, 640): height first.

    Raises:
        ImageError: `text` is neither, or a side is too small for the network.
    """
    if re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        sides = [int(side) for side in text.split("x")]
        if min(sides) >= MINIMUM_SIZE:
            return sides[0], sides[-1]
    raise ImageError(
        f"image size is {text!r}; expected SIDE or HEIGHTxWIDTH in pixels, each at least {MINIMUM_SIZE}, "
        "for example 512 or 480x640"
    )


def find(path):
    """The photos of a folder, sorted by name; or the one photo that `path` is.

    Raises:
        ImageError: there is no such path, or no photo in it.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ImageError(f"{path}: no such file or folder; expected photos ({', '.join(SUFFIXES)})")
    photos = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    if not photos:
        raise ImageError(f"{path}: holds no photo; expected files ending in {', '.join(SUFFIXES)}")
    return photos


def read(path, size=None):
    """Reads a photo: turned upright by its EXIF note, in RGB, transparent parts on white, 16-bit scaled to 8.

    Args:
        path: image file.
        size: (height, width) to resize to (bilinear, antialiased), or None.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: the file is missing or no image that can be read.
    """
    try:
        with Image.open(path) as image:
            image = _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: cannot be read as an image; expected one of {', '.join(SUFFIXES)}") from error
    photo = np.asarray(image)
    return photo if size is None else resize(photo, size)


def resize(photo, size):
    """Resizes `[H, W, 3]` uint8 RGB to (height, width): bilinear, antialiased; as it is if it has that size."""
    height, width = size
    if photo.shape[:2] == (height, width):
        return photo
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def _to_rgb(image):
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
