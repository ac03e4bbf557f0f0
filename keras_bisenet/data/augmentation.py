"""Random changes of a labeled photo: one affine map (scale, rotation, crop, flip) and three changes of color."""

import numpy as np
import tensorflow as tf

from keras_bisenet.labels import IGNORE
from keras_bisenet.preprocessing import MEAN

# ITU-R BT.601 luma of RGB, as Pillow's ImageEnhance and torchvision's ColorJitter take it.
LUMA = (0.299, 0.587, 0.114)


def augment(image, label, seed, size, augmentation, classes):
    """Changes one example at random. Equal seeds give equal results, on any machine and in any order.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        label: `[H, W]` uint8 class ids.
        seed: `[2]` int64.
        size: (height, width) of the result.
        augmentation: `training.configs.Augmentation`.
        classes: `Classes`, which say what left and right are.

    Returns:
        `[*size, 3]` uint8 RGB and `[*size]` uint8 labels. What lies outside the photo has the mean color of
        ImageNet and the label `IGNORE`.
    """
    draws = tf.unstack(tf.random.stateless_uniform([8], seed))
    scale, angle, top, left, flip, brightness, contrast, saturation = draws
    scale = augmentation.scale[0] + scale * (augmentation.scale[1] - augmentation.scale[0])
    angle = (2 * angle - 1) * (augmentation.rotation * np.pi / 180)
    flip = tf.logical_and(augmentation.flip, flip < 0.5)
    matrix = _sampling(tf.shape(image)[:2], size, scale, angle, (top, left), flip)

    mean = 255 * tf.constant(MEAN)
    image = _sample(tf.cast(image, tf.float32) - mean, matrix, size, "BILINEAR", 0.0) + mean
    label = _sample(label[..., tf.newaxis], matrix, size, "NEAREST", IGNORE)[..., 0]
    label = tf.where(flip, tf.gather(classes.mirrored, tf.cast(label, tf.int32)), label)
    factors = [
        1 + (2 * draw - 1) * reach
        for draw, reach in (
            (brightness, augmentation.brightness),
            (contrast, augmentation.contrast),
            (saturation, augmentation.saturation),
        )
    ]
    return tf.cast(tf.round(_recolor(image, *factors)), tf.uint8), label


def _sampling(shape, size, scale, angle, place, flip):
    """The affine map from a pixel (x, y) of the result to one of the photo, as ImageProjectiveTransform takes it.

    The enlarged photo and the window have their corners at `place`: where the photo is larger the window lies inside
    of it, where it is smaller it lies inside of the window.
    """
    rows, columns = tf.unstack(tf.cast(shape, tf.float32))
    height, width = (float(side) for side in size)
    # Center of the window in the photo; pixel centers are whole numbers, so the photo begins at -0.5.
    center_y = (place[0] * (rows * scale - height) + height / 2) / scale - 0.5
    center_x = (place[1] * (columns * scale - width) + width / 2) / scale - 0.5
    mirror = tf.where(flip, -1.0, 1.0)
    cos, sin = tf.cos(angle) / scale, tf.sin(angle) / scale
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    a, b = cos * mirror, -sin
    d, e = sin * mirror, cos
    c, f = center_x - a * middle_x - b * middle_y, center_y - d * middle_x - e * middle_y
    return tf.stack([a, b, c, d, e, f, 0.0, 0.0])


def _sample(image, matrix, size, interpolation, fill):
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=matrix[tf.newaxis],
        output_shape=size,
        fill_value=float(fill),
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )[0]


def _recolor(image, brightness, contrast, saturation):
    """Pillow's `ImageEnhance.Brightness`, `Contrast` and `Color`, one after the other, on float RGB 0..255."""
    image = tf.clip_by_value(image * brightness, 0.0, 255.0)
    gray = tf.reduce_mean(tf.tensordot(image, tf.constant(LUMA), 1))
    image = tf.clip_by_value(gray + (image - gray) * contrast, 0.0, 255.0)
    gray = tf.tensordot(image, tf.constant(LUMA), 1)[..., tf.newaxis]
    return tf.clip_by_value(gray + (image - gray) * saturation, 0.0, 255.0)
