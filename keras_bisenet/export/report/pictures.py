"""The pictures of `report.html`, as data URIs: photo, label maps, where they differ, and a close-up of that."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image, ImageDraw

from keras_bisenet.utils.painting import colorize

# Larger pictures are made smaller: the page is to stay small, and the close-ups show single pixels.
_LARGEST_SIDE = 1024
# Side of what a close-up shows, and of a pixel in it.
_SIDE, _ZOOM = 48, 12
_MARK, _FRAME = (255, 45, 85), (255, 214, 10)
# The frame of a pixel that differs, which any color of a palette has to show: black around white.
_OUTER, _INNER = (0, 0, 0), (255, 255, 255)


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture for an `img` element.

    Attributes:
        uri: `data:` URI.
        width, height: in pixels.
    """

    uri: str
    width: int
    height: int


def photo(pixels):
    """A photo, `[H, W, 3]` uint8 RGB, as JPEG."""
    return _jpeg(Image.fromarray(pixels))


def label_map(labels, palette):
    """Labels `[H, W]` in a palette, as PNG."""
    picture = _painted(labels, palette)
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.NEAREST)
    return _png(picture)


def differences(pixels, differs, window):
    """A darkened photo with a dot where labels differ, and a frame around the close-up.

    Args:
        pixels: `[H, W, 3]` uint8 RGB.
        differs: `[H, W]` bool.
        window: see `busiest`.
    """
    picture = Image.fromarray(pixels).convert("L").point(lambda value: value // 2).convert("RGB")
    full = max(picture.size)
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    scale = max(picture.size) / full
    draw, radius = ImageDraw.Draw(picture), max(1, round(max(picture.size) / 200))
    for row, column in np.argwhere(differs):
        x, y = int((column + 0.5) * scale), int((row + 0.5) * scale)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), _MARK)
    rows, columns = window
    corners = (columns.start, rows.start, columns.stop, rows.stop)
    draw.rectangle([corner * scale for corner in corners], outline=_FRAME, width=radius)
    return _jpeg(picture)


def close_up(labels, differs, window, palette):
    """A part of a label map, enlarged, with a frame around each pixel that differs.

    Args:
        labels: `[H, W]` class ids.
        differs: `[H, W]` bool.
        window: see `busiest`.
        palette: uint8 RGB of each class.
    """
    picture = _painted(labels[window], palette)
    picture = picture.resize((picture.width * _ZOOM, picture.height * _ZOOM), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for row, column in np.argwhere(differs[window]):
        x, y = column * _ZOOM, row * _ZOOM
        draw.rectangle((x, y, x + _ZOOM - 1, y + _ZOOM - 1), outline=_OUTER)
        draw.rectangle((x + 1, y + 1, x + _ZOOM - 2, y + _ZOOM - 2), outline=_INNER)
    return _png(picture)


def busiest(differs):
    """Where most pixels differ.

    Args:
        differs: `[H, W]` bool, true somewhere.

    Returns:
        (rows, columns): slices of a square of `_SIDE` pixels, or of all where there are fewer.
    """
    height, width = differs.shape
    side = min(_SIDE, height, width)
    sums = np.pad(differs.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    corner = np.array(np.unravel_index(counts.argmax(), counts.shape))
    # The first of many equal squares: move it so that what it holds lies in its middle.
    inside = np.argwhere(differs[corner[0] : corner[0] + side, corner[1] : corner[1] + side])
    middle = corner + (inside.min(0) + inside.max(0) + 1) // 2
    top, left = np.clip(middle - side // 2, 0, (height - side, width - side)).tolist()
    return slice(top, top + side), slice(left, left + side)


def _painted(labels, palette):
    return Image.fromarray(colorize(labels, palette))


def _jpeg(picture):
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    # Not at half the resolution for color: the dots are small.
    return _picture(picture, "jpeg", quality=85, subsampling=0)


def _png(picture):
    return _picture(picture, "png", optimize=True)


def _picture(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    content = base64.b64encode(stream.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{content}", picture.width, picture.height)
