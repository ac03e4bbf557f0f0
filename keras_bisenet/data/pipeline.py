"""The stream of training batches: which example comes when, read, changed at random, and batched."""

import os

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter

from keras_bisenet.data import folder, sides
from keras_bisenet.data.augmentation import augment
from keras_bisenet.labels import IGNORE
from keras_bisenet.utils import images


class Examples:
    """Photos and their labels by number, kept in memory once they are decoded, as long as there is room.

    Args:
        examples: sequence of `folder.Example`.
        fix_left_right: `Classes` to exchange left and right labels of where they lie on the wrong side of a face, see
            `sides`; None to leave them.
        cache_bytes: how much to keep.
    """

    def __init__(self, examples, fix_left_right=None, cache_bytes=2**31):
        self.examples = tuple(examples)
        self._classes, self._pairs = fix_left_right, sides.face_pairs(fix_left_right) if fix_left_right else []
        self._room = cache_bytes
        self._kept = {}

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, number):
        """`[H, W, 3]` uint8 RGB and `[H, W]` uint8 labels of one example; `IGNORE` where it has none."""
        if number in self._kept:
            return self._kept[number]
        example = self.examples[number]
        image = images.read(example.image)
        if example.label is None:
            label = np.full(image.shape[:2], IGNORE, np.uint8)
        else:
            label = folder.read_label(example.label)
            if sides.are_exchanged(label, self._pairs):
                label = self._classes.mirrored[label]
        pair = image, label
        size = image.nbytes + label.nbytes
        if size <= self._room:
            self._room -= size
            self._kept[number] = pair
        return pair


def presence(examples, num_classes):
    """Which photo shows which class: `[len(examples), num_classes]` bool. Decodes all of them."""
    return np.stack(
        [np.bincount(examples[i][1].ravel(), minlength=256)[:num_classes] > 0 for i in range(len(examples))]
    )


def repeat_factors(present, threshold):
    """How often each example is to come, so that rare classes are seen more often.

    Repeat-factor sampling (Gupta, Dollar and Girshick, "LVIS", 2019, section 5): a class found in the share f of all
    photos has the factor max(1, sqrt(threshold / f)); a photo has the largest factor of its classes.

    Args:
        present: `[N, classes]` bool, see `presence`.
        threshold: share of photos under which a class counts as rare.

    Returns:
        `[N]` float64, at least 1.
    """
    factors = np.maximum(1.0, np.sqrt(threshold / np.maximum(present.mean(0), 1e-9)))
    return np.max(np.where(present, factors, 1.0), axis=1)


class RareParts:
    """Parts of rare classes (a hat, an earring) that are laid into other photos, where they lie in their own.

    Copy-paste (Ghiasi et al., "Simple Copy-Paste", 2021, arXiv:2012.07177) without a change of place, as faces are
    aligned: the pixels of one class of one photo replace those of another photo. Every rare class comes as often as any
    other.

    Args:
        examples: `Examples`.
        present: `[len(examples), classes]` bool, see `presence`.
        threshold: share of photos under which a class counts as rare.
        rate: share of the photos that get a part.
    """

    # Standard deviation of the blur of a part's border, in pixels: a cut edge would give it away.
    _BORDER = 1.0

    def __init__(self, examples, present, threshold, rate):
        share = present.mean(0)
        self._examples, self._rate = examples, rate
        self._sources = {
            label: np.flatnonzero(present[:, label]) for label in np.flatnonzero((share > 0) & (share < threshold))
        }

    def lay(self, image, label, seed):
        """Lays a part into a photo, or none.

        Args:
            image: `[H, W, 3]` uint8 RGB.
            label: `[H, W]` uint8 class ids; where it is `IGNORE` nothing is laid.
            seed: whole numbers; equal ones give equal results.

        Returns:
            The two, new ones where something was laid.
        """
        random = np.random.default_rng(seed)
        if not self._sources or random.random() >= self._rate:
            return image, label
        chosen = random.choice(list(self._sources))
        other, labels = self._examples[random.choice(self._sources[chosen])]
        size = label.shape[::-1]
        other, labels = (
            Image.fromarray(other).resize(size),
            Image.fromarray(labels).resize(size, Image.Resampling.NEAREST),
        )
        part = (np.asarray(labels) == chosen) & (label != IGNORE)
        mask = Image.fromarray(part.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(self._BORDER))
        return np.asarray(Image.composite(other, Image.fromarray(image), mask)), np.where(part, chosen, label).astype(
            np.uint8
        )


def order(factors, seed, epoch):
    """The numbers of the examples in the order in which an epoch shows them.

    Args:
        factors: `[N]`, see `repeat_factors`; a fraction is met by chance.
        seed, epoch: whole numbers from 0.

    Returns:
        `[N]` int64: as many as there are examples, so a repeated one takes the place of another.
    """
    random = np.random.default_rng([seed, epoch])
    times = np.floor(factors + random.random(len(factors))).astype(np.int64)
    return random.permutation(np.repeat(np.arange(len(factors)), times))[: len(factors)]


def numbers(factors, seed, batch_size, start, shard=(0, 1)):
    """Endless pairs (position in the run, number of the example), from the batch `start` on.

    Args:
        factors: see `order`.
        seed: whole number.
        batch_size: examples of a batch over all shards.
        start: number of batches to pass over.
        shard: (i, n): the i-th of n equal parts of every batch.
    """
    part = batch_size // shard[1]
    count, epoch, current = len(factors), -1, None
    batch = start
    while True:
        first = batch * batch_size + shard[0] * part
        for position in range(first, first + part):
            if position // count != epoch:
                epoch = position // count
                current = order(factors, seed, epoch)
            yield position, current[position % count]
        batch += 1


def batches(
    examples, factors, size, augmentation, classes, batch_size, seed, start=0, shard=(0, 1), replicas=1, parts=None
):
    """Batches of augmented examples without end. Equal arguments give equal batches.

    Args:
        examples: `Examples`.
        factors: see `order`.
        size: (height, width) of the photos in a batch.
        augmentation: `training.configs.Augmentation`.
        classes: `Classes`.
        batch_size: examples of a batch over all shards and replicas.
        seed: whole number.
        start: number of batches to skip, for a run that continues.
        shard: (i, n): make only the i-th of n equal parts of each batch, for several machines.
        replicas: devices among which a part is divided: each element is the batch of one.
        parts: `RareParts`, or None.

    Returns:
        `tf.data.Dataset` of `[b, *size, 3]` uint8 RGB and `[b, *size]` uint8 labels, with
        b = `batch_size / n / replicas`.
    """

    def read(position, number):
        image, label = examples[int(number)]
        return parts.lay(image, label, [seed, int(position)]) if parts else (image, label)

    def load(position, number):
        image, label = tf.numpy_function(read, [position, number], (tf.uint8, tf.uint8), stateful=False)
        image.set_shape([None, None, 3])
        label.set_shape([None, None])
        return augment(image, label, tf.stack([tf.cast(seed, tf.int64), position]), size, augmentation, classes)

    spec = (tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64))
    dataset = tf.data.Dataset.from_generator(
        lambda: numbers(factors, seed, batch_size, start, shard), output_signature=spec
    )
    dataset = dataset.map(load, num_parallel_calls=os.cpu_count(), deterministic=True)
    return dataset.batch(batch_size // shard[1] // replicas, drop_remainder=True).prefetch(2)
