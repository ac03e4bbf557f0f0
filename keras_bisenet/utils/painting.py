"""Paints labels."""

import numpy as np

from keras_bisenet.labels import PALETTE


def colorize(labels):
    """Paints labels in the palette; classes beyond it start over.

    Args:
        labels: `[H, W]` class ids.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    return np.asarray(PALETTE, np.uint8)[np.asarray(labels) % len(PALETTE)]


def overlay(photo, labels, opacity=0.5):
    """Paints labels over a photo; the background, class 0, stays as it is.

    Args:
        photo: `[H, W, 3]` uint8 RGB.
        labels: `[H, W]` class ids.
        opacity: 0..1.

    Returns:
        `[H, W, 3]` uint8 RGB.
    """
    shares = np.where(labels == 0, 0, opacity).astype(np.float32)[..., np.newaxis]
    return np.rint(photo * (1 - shares) + colorize(labels) * shares).astype(np.uint8)
