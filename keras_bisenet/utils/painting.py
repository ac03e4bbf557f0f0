"""Paints labels."""

import numpy as np

from keras_bisenet.labels import PALETTE


def colorize(labels, palette=PALETTE):
    """Paints labels in a palette; classes beyond it start over.

    Args:
        labels: `[H, W]` class ids.
        palette: uint8 RGB of each class.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    return np.asarray(palette, np.uint8)[np.asarray(labels) % len(palette)]


def overlay(photo, labels, opacity=0.5, palette=PALETTE):
    """Paints labels over a photo; the background, class 0, stays as it is.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        labels: `[H, W]` class ids.
        opacity: 0..1.
        palette: uint8 RGB of each class.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    result = np.empty_like(photo)
    # In parts of some 10^6 pixels: whole, a frame of 8K would be there in four versions of 400 MB.
    rows = max(1, 2**20 // photo.shape[1])
    for top in range(0, len(photo), rows):
        part = np.s_[top : top + rows]
        shares = np.where(labels[part] == 0, 0, opacity).astype(np.float32)[..., np.newaxis]
        result[part] = np.rint(photo[part] * (1 - shares) + colorize(labels[part], palette) * shares)
    return result
