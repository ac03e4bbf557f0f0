"""Photos with ground truth."""

import pathlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_bisenet.inference import images


class DataError(ValueError):
    """A data set cannot be used. The message says what was expected."""


class Dataset:
    """A folder with `images/<name>.jpg`, `labels/<name>.png` and lists of names, `train.txt` and `val.txt`.

    Args:
        folder: path.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)

    def names(self, split):
        """The names in `<split>.txt`, in its order.

        Raises:
            DataError: there is no such file, or no name in it.
        """
        path = self._folder / f"{split}.txt"
        try:
            names = path.read_text(encoding="utf-8").split()
        except OSError as error:
            raise DataError(f"{path}: cannot be read; expected the names of photos, one a line") from error
        if not names:
            raise DataError(f"{path}: is empty; expected the names of photos, one a line")
        return names

    def photo(self, name, size):
        """A photo `[*size, 3]` uint8 RGB.

        Raises:
            ImageError: it is missing or cannot be read.
        """
        return images.read(self._folder / "images" / f"{name}.jpg", size)

    def labels(self, name, size, num_classes):
        """Its ground truth `[*size]` uint8, brought to the size by taking the nearest pixel.

        Raises:
            DataError: it is missing, or holds something else than one class id below `num_classes` a pixel.
        """
        path = self._folder / "labels" / f"{name}.png"
        try:
            with Image.open(path) as image:
                labels = np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST))
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{path}: cannot be read; expected a PNG with one class id a pixel") from error
        if labels.ndim != 2 or labels.max() >= num_classes:
            found = f"values up to {labels.max()}" if labels.ndim == 2 else f"{labels.shape[2]} channels"
            raise DataError(f"{path}: has {found}; expected one class id below {num_classes} a pixel")
        return labels.astype(np.uint8)
