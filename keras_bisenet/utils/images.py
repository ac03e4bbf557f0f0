"""Reads photos as a person sees them."""

import collections.abc
import os
import pathlib
import re
import warnings

import numpy as np

from keras_bisenet.preprocessing import MINIMUM_SIZE
from keras_bisenet.utils import resizing
from keras_bisenet.utils.errors import ImageError

# A public-domain portrait (NASA), used wherever no photo is given.
BUNDLED = pathlib.Path(__file__).parents[1] / "assets" / "astronaut_face.png"

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Whatever a file is called, it is read as one of these. Pillow knows more, and would run Ghostscript on one of them.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

# The EXIF note that tells how a photo is turned; from 5 on height and width are exchanged.
_ORIENTATION = 0x0112

# Pillow warns of damage that no reader can mend, and of sizes that are within the limit. Appended, so that a filter of
# the caller's comes first.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)


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


def swapped(size, paths):
    """What to tell of a size that is higher than wide where most photos are wider than high, or the other way around.

    Args:
        size: (height, width) that photos are resized to.
        paths: image files; those that cannot be read do not count.

    Returns:
        A sentence; None if the size suits the photos.
    """
    height, width = size
    if height == width:
        return None
    higher = [sides[0] > sides[1] for sides in map(_sides, paths) if sides and sides[0] != sides[1]]
    others = higher.count(width > height)
    if 2 * others <= len(higher):
        return None
    found, expected = ("higher than wide", "wider than high")[:: 1 if height > width else -1]
    return (
        f"the image size {height}x{width} is {found}, but {others} of {len(higher)} photos are {expected}; it is "
        f"HEIGHTxWIDTH: is {width}x{height} meant?"
    )


def _sides(path):
    """(height, width) of a photo, upright, from its header; None if that cannot be read."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
    except Exception:  # Pillow trusts the file, and a damaged one fails in any way
        return None
    return (width, height) if turned else (height, width)


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


class Lazy(collections.abc.Sequence):
    """Photos that are made each time they are asked for: many take no more memory than one.

    Args:
        make: function of an item, gives the photo.
        items: sequence.
    """

    def __init__(self, make, items):
        self._make, self._items = make, items

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        items = self._items[index]
        return Lazy(self._make, items) if isinstance(index, slice) else self._make(items)


def read(path, size=None):
    """Reads a photo: turned upright by its EXIF note, in RGB, transparent parts on white, 16-bit scaled to 8.

    Of an animation it is the first picture.

    Args:
        path: image file.
        size: (height, width) to resize to (bilinear, antialiased), or None.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: the file is missing, too large, or no image that can be read; or its pixels are numbers of which
            it does not tell which is white.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ImageError("reading image files needs Pillow: pip install pillow; arrays can be given without") from error
    try:
        with Image.open(path, formats=FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            photo = _to_array(image, path)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: {too_many_pixels(error)}: shrink it first") from error
    except PermissionError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: not enough memory") from error
    except Exception as error:  # Pillow trusts the file, and a damaged one fails in any way
        raise ImageError(f"{path}: cannot be read as an image; expected one of {', '.join(SUFFIXES)}") from error
    return photo if size is None else resize(photo, size)


def too_many_pixels(error):
    """What is wrong with an image that Pillow refuses to decode for its size, in words, of its error."""
    from PIL import Image

    found = re.search("[0-9]+", str(error))[0]
    return f"has {found} pixels; expected at most {2 * Image.MAX_IMAGE_PIXELS}"


def from_pillow(image):
    """A `PIL.Image.Image` as `read` gives it, `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: its mode is `I` or `F`, numbers of which it does not tell which is white.
    """
    from PIL import ImageOps

    return _to_array(ImageOps.exif_transpose(image), "the photo")


def as_photo(photo):
    """Whatever a person takes for a photo, as `[H, W, 3]` uint8 RGB.

    Args:
        photo: path of an image file, `PIL.Image.Image`, or uint8 array: `[H, W, 3]` RGB, or `[H, W]` or `[H, W, 1]`
            gray.

    Raises:
        ImageError: it is none of these, or cannot be read.
    """
    if isinstance(photo, str | os.PathLike):
        return read(photo)
    if hasattr(photo, "getexif"):
        return from_pillow(photo)
    if photo is None:
        raise ImageError(
            "the photo is None, which cv2.imread gives for a file that it cannot read; expected a path, a Pillow image "
            "or uint8 [H, W, 3] RGB"
        )
    array = np.asarray(photo)
    if array.ndim == 2:
        array = array[..., np.newaxis]
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3) or not array.size:
        raise ImageError(
            f"the photo is a {type(photo).__name__}, {array.dtype} {list(np.shape(photo))}; expected a path, a Pillow "
            "image, or uint8 [H, W, 3] RGB of 0 to 255, not normalized"
        )
    return np.broadcast_to(array, (*array.shape[:2], 3))


def resize(photo, size):
    """Resizes `[H, W, 3]` uint8 RGB to (height, width): bilinear, antialiased; as it is if it has that size."""
    height, width = size
    if photo.shape[:2] == (height, width):
        return photo
    try:
        from PIL import Image
    except ModuleNotFoundError:
        return resizing.resize_photo(photo, size)
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def _to_array(image, name):
    """In parts of some 10^6 pixels: whole, a picture at the limit would be there in four versions of 700 MB."""
    if image.mode in ("I", "F"):
        found = "floats" if image.mode == "F" else "signed or 32-bit integers"
        raise ImageError(
            f"{name}: its pixels are {found}, and nothing tells which of them is white; expected 8 or 16 bits a "
            "channel; convert it first"
        )
    photo = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, 2**20 // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        photo[top:bottom] = _to_rgb(image.crop((0, top, image.width, bottom)))
    return photo


def _to_rgb(image):
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")  # the one way that Pillow has from there
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
