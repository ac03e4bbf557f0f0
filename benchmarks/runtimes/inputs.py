"""What every contestant is given, as `.npy` files: a peer's environment needs no image library to read them."""

import dataclasses
import pathlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The photos and what is known of them. Loaded, the arrays lie on the disk until they are used.

    Attributes:
        photos: `[N, H, W, 3]` uint8 RGB; labels are compared on all of them, time is taken on the first.
        labels: `[N, H, W]` int16, what the PyTorch network says.
        calibration: `[M, H, W, 3]` uint8 RGB; every contestant that is calibrated is calibrated on these.
        mean, std: `[3]` float64, the normalisation `(photo / 255 - mean) / std`.
    """

    photos: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @property
    def image_size(self):
        """(height, width)."""
        return self.photos.shape[1:3]

    def save(self, folder):
        """Writes a file an attribute into `folder`, which is made if need be."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for field in dataclasses.fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder):
        """Opens what `save` wrote."""
        paths = {field.name: pathlib.Path(folder) / f"{field.name}.npy" for field in dataclasses.fields(cls)}
        return cls(**{name: np.load(path, mmap_mode="r") for name, path in paths.items()})
