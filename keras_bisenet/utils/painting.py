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
    shares = np.where(labels == 0, 0, opacity).astype(np.float32)[..., np.newaxis]
    return np.rint(photo * (1 - shares) + colorize(labels, palette) * shares).astype(np.uint8)
