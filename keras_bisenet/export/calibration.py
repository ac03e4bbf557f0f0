"""Sees on photos which values each activation of a network takes."""

import dataclasses

import numpy as np
import tqdm
from PIL import Image, ImageEnhance

from keras_bisenet.bisenet import HEADS
from keras_bisenet.export import flatbuffer, graph
from keras_bisenet.export.builder import Builder
from keras_bisenet.inference import images
from keras_bisenet.inference.runner import TFLiteRunner

# Photos that are enough: 100 bring a hundredth of a point more, see benchmarks/QUANTISATION.md.
COUNT = 32

# Part of a channel's values that is cut off at either end. One far value would widen the steps for all others; between
# none and 1e-4 of the sampled pixels the result is the same, the extremes of all pixels are worse.
TAIL = 1e-4

# Pixels of each activation that are kept, over all photos.
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
        images: `[H, W, 3]` uint8 RGB each.
        source: where they come from, in words.
        skipped: names of files that cannot be read.
    """

    images: tuple[np.ndarray, ...] = ()
    source: str = ""
    skipped: tuple[str, ...] = ()

    def __str__(self):
        skipped = f", {len(self.skipped)} more cannot be read: {', '.join(self.skipped)}" if self.skipped else ""
        return f"{len(self.images)} photos: {self.source}{skipped}"

    def as_dict(self):
        """What a report says; None if there are no photos."""
        return {"source": self.source, "photos": len(self.images), "skipped": self.skipped} if self.images else None


def choose(size, folder=None, count=None):
    """`from_folder`, or `variations` if there is no folder."""
    return from_folder(folder, size, count or COUNT) if folder else variations(size, count or COUNT)


def variations(size, count=COUNT, seed=0):
    """`Photos`: crops of the bundled photo, mirrored, and lighter or darker, more or less colourful and contrasty.

    Args:
        size: (height, width).
        count: how many.
        seed: of the choice.
    """
    random = np.random.default_rng(seed)
    photo = Image.fromarray(images.read(images.BUNDLED))
    made = []
    for _ in range(count):
        part = random.uniform(0.6, 1.0)
        width, height = (int(side * part) for side in photo.size)
        left, top = random.integers(0, photo.width - width + 1), random.integers(0, photo.height - height + 1)
        crop = photo.resize(size[::-1], Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        if random.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            crop = enhance(crop).enhance(random.uniform(0.6, 1.4))
        made.append(np.asarray(crop))
    return Photos(tuple(made), "crops and colour variations of the bundled photo")


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
            chosen.append(images.read(files[index], size))
        except images.ImageError:
            skipped.append(files[index].name)
        if len(chosen) == count:
            break
    if not chosen:
        raise images.ImageError(f"{folder}: none of its {len(files)} photos can be read; expected photos of faces")
    return Photos(tuple(chosen), str(folder), tuple(sorted(skipped)))


def measure(network, photos, output="logits"):
    """Runs the float network on photos and looks at every activation.

    Args:
        network: `Network`.
        photos: list of `[H, W, 3]` uint8 RGB, all of one size.
        output: see `graph.build`; what that output does not need is not looked at.

    Returns:
        dict, tensor name of the deployment graph -> `Statistic`.
    """
    output = "all_heads" if output == "all_heads" else "logits"
    content = graph.build(network, Builder(), photos[0].shape[:2], output=output)
    runner = TFLiteRunner(flatbuffer.expose_all(content))
    random = np.random.default_rng(0)
    pixels, sums = {}, {}
    for photo in tqdm.tqdm(photos, "calibrate", unit=" photos", leave=False, disable=None):
        for name, result in runner(photo[np.newaxis]).items():
            if result.dtype != np.float32 or name in HEADS:
                continue
            result = result.reshape(-1, result.shape[-1])
            sums[name] = sums.get(name, 0) + result.mean(0, np.float64)
            share = -(-_PIXELS // len(photos))
            if len(result) > share:
                result = result[random.integers(0, len(result), share)]
            pixels.setdefault(name, []).append(result)
    return {
        name: Statistic(*np.quantile(np.concatenate(pixels.pop(name)), (TAIL, 1 - TAIL), axis=0), mean / len(photos))
        for name, mean in sums.items()
    }
