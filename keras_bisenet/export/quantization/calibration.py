"""Sees on photos which values each activation of a network takes."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageEnhance

from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.quantization import quantize
from keras_bisenet.utils import images, progress
from keras_bisenet.utils.errors import ImageError
from keras_bisenet.utils.text_files import shown

# Photos that are enough: 100 bring a hundredth of a point more, see benchmarks/quantization/QUANTIZATION.md.
COUNT = 32

# Part of a channel's values that is cut off at either end. One far value would widen the steps for all others; between
# none and 1e-4 of the sampled pixels the result is the same, the extremes of all pixels are worse.
TAIL = 1e-4

# Pixels of each activation that are looked at, over all photos.
_PIXELS = 32_768


@dataclasses.dataclass(frozen=True)
class Statistic:
    """What was seen of a tensor, one number a channel.

    Attributes:
        low, high: `[C]` all values but a part of `TAIL` at either end.
        mean: `[C]`.
    """

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray

    def divided(self, factors):
        """That of the tensor divided by `factors`: `[C]`, positive."""
        return Statistic(self.low / factors, self.high / factors, self.mean / factors)


@dataclasses.dataclass(frozen=True)
class Photos:
    """Photos to calibrate on.

    Attributes:
        images: `[H, W, 3]` uint8 RGB each; a sequence that may make them when they are asked for.
        source: where they come from, in words.
        skipped: names of files that cannot be read.
    """

    images: Sequence[np.ndarray] = ()
    source: str = ""
    skipped: tuple[str, ...] = ()

    def __str__(self):
        skipped = (
            f", {len(self.skipped)} more cannot be read: {', '.join(map(shown, self.skipped))}" if self.skipped else ""
        )
        return f"{len(self.images)} photos: {self.source}{skipped}"

    def as_dict(self):
        """The entry of the report, a dict; None if there are no photos."""
        return {"source": self.source, "photos": len(self.images), "skipped": self.skipped} if self.images else None


def choose(size, folder=None, count=None):
    """`from_folder`, or `variations` if there is no folder."""
    return from_folder(folder, size, count or COUNT) if folder else variations(size, count or COUNT)


def variations(size, count=COUNT, seed=0):
    """`Photos`: crops of the bundled photo, mirrored, and lighter or darker, more or less colorful and contrasty.

    Args:
        size: (height, width).
        count: how many.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    photo = Image.fromarray(images.read(images.BUNDLED))
    choices = []
    for _ in range(count):
        part = random.uniform(0.6, 1.0)
        width, height = (int(side * part) for side in photo.size)
        left, top = random.integers(0, photo.width - width + 1), random.integers(0, photo.height - height + 1)
        mirrored = random.random() < 0.5
        choices.append(((left, top, left + width, top + height), mirrored, random.uniform(0.6, 1.4, 3)))
    make = functools.partial(_variation, photo, size)
    return Photos(images.Lazy(make, choices), "crops and color variations of the bundled photo")


def _variation(photo, size, choice):
    """`[*size, 3]` uint8 RGB: a part of a photo.

    Args:
        photo: `PIL.Image.Image`.
        size: (height, width).
        choice: box of the part, whether it is mirrored, and factors of brightness, contrast and color.
    """
    box, mirrored, factors = choice
    crop = photo.resize(size[::-1], Image.Resampling.BILINEAR, box)
    if mirrored:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance, factor in zip(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color), factors, strict=True
    ):
        crop = enhance(crop).enhance(factor)
    return np.asarray(crop)


def from_folder(folder, size, count=COUNT, seed=0):
    """`Photos`: some of a folder. Files that cannot be read are passed over.

    Args:
        folder: path.
        size: (height, width) that they are resized to.
        count: how many at most.
        seed: of the choice.

    Raises:
        ImageError: there is no such folder, or no photo in it that can be read.
    """
    files = images.find(folder)
    chosen, skipped = [], []
    for index in np.random.default_rng(seed).permutation(len(files)):
        try:
            images.read(files[index])
            chosen.append(files[index])
        except ImageError:
            skipped.append(files[index].name)
        if len(chosen) == count:
            break
    if not chosen:
        raise ImageError(f"{folder}: none of its {len(files)} photos can be read; expected photos of faces")
    photos = images.Lazy(functools.partial(images.read, size=size), chosen)
    return Photos(photos, str(folder), tuple(sorted(skipped)))


def measure(model, images):
    """Runs a float network on photos and looks at the tensors that its 8-bit version rounds.

    Args:
        model: functional Keras model whose convolutions are `FixedConv2D`, on TensorFlow.
        images: sequence of its inputs, `[1, H, W, 3]` each; one is held at a time.

    Returns:
        dict, name of a node -> `Statistic`.

    Raises:
        ExportError: see `quantize.quantize`.
    """
    copy, graph = rewriting.read(model)
    names = sorted(quantize.measured(graph))
    network = keras.Model(copy.input, [graph.named(name).output for name in names])
    share = -(-_PIXELS // len(images))

    image_spec, places_spec = tf.TensorSpec(copy.input.shape, copy.input.dtype), tf.TensorSpec([share], tf.float32)

    @tf.function(input_signature=[image_spec, places_spec])
    def look(image, places):
        results = []
        for x in keras.tree.flatten(network(image, training=False)):
            pixels = tf.reshape(tf.cast(x, tf.float32), (-1, x.shape[-1]))
            mean = tf.reduce_mean(pixels, 0)
            if pixels.shape[0] > share:
                pixels = tf.gather(pixels, tf.cast(places * pixels.shape[0], tf.int32))
            results.append((mean, tf.transpose(pixels)))
        return results

    random = np.random.default_rng(0)
    means, extents = [np.zeros(()) for _ in names], [_Extent(share * len(images)) for _ in names]
    for image in progress.shown(images, "calibrate"):
        for number, (mean, seen) in enumerate(look(image, random.random(share, np.float32))):
            means[number] = means[number] + mean.numpy().astype(np.float64)
            extents[number].add(seen.numpy())
    return {
        name: Statistic(*extent.range(), mean / len(images))
        for name, extent, mean in zip(names, extents, means, strict=True)
    }


class _Extent:
    """The range of all but a part of `TAIL` at either end of the values of each channel.

    It is `numpy.quantile` of them, and keeps no more values than it needs at the end.

    Args:
        most: number of values of a channel that may come.
    """

    def __init__(self, most):
        self._kept = int(TAIL * most) + 2
        self._count, self._low, self._high = 0, None, None

    def add(self, values):
        """Takes in more values of each channel, `[C, n]`."""
        self._count += values.shape[1]
        self._low = self._smallest(self._low, values)
        self._high = self._smallest(self._high, -values)

    def _smallest(self, before, values):
        values = values if before is None else np.concatenate([before, values], axis=1)
        kept = min(self._kept, values.shape[1])
        return np.partition(values, kept - 1, axis=1)[:, :kept]

    def range(self):
        """Both ends, `[C]` each."""
        place = TAIL * (self._count - 1)
        first, part = int(place), place % 1
        low, high = (np.sort(kept.astype(np.float64), axis=1) for kept in (self._low, self._high))
        second = min(first + 1, self._count - 1)
        return low[:, first] * (1 - part) + low[:, second] * part, -high[:, first] * (1 - part) - high[:, second] * part
