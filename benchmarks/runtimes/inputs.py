"""Photos and expected labels of the comparison, as `.npy` files that every environment can read."""

import dataclasses
import pathlib

import numpy as np


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Photos, labels and normalization, `(photo / 255 - mean) / std`. After `load` the arrays are memory-mapped."""

    # `[N, H, W, 3]` uint8 RGB; labels are compared on all of them, time is taken on the first.
    photos: np.ndarray
    # `[N, H, W]` int16, of the PyTorch network.
    labels: np.ndarray
    # `[M, H, W, 3]` uint8 RGB, that every int8 candidate is calibrated on.
    calibration: np.ndarray
    # `[3]` float64.
    mean: np.ndarray
    std: np.ndarray

    @property
    def image_size(self):
        """(height, width)."""
        return self.photos.shape[1:3]

    def save(self, folder):
        """Writes a file for each attribute."""
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for field in dataclasses.fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder):
        """Opens the files of `save`."""
        paths = (pathlib.Path(folder, f"{field.name}.npy") for field in dataclasses.fields(cls))
        return cls(*(np.load(path, mmap_mode="r") for path in paths))


def write(checkpoint, image_size, photos, calibration_images, calibration_count, output):
    """Child process: writes `Inputs` with the labels of the PyTorch network into the folder `output`.

    `photos` is a photo or a folder, None the bundled photo; for `calibration_images` and `calibration_count` see
    `calibration.choose`. All that is read and written is given as paths.
    """
    from benchmarks.common import networks
    from keras_bisenet import preprocessing
    from keras_bisenet.export.quantization.calibration import choose
    from keras_bisenet.utils import images
    from weight_port.reference import torch_network

    size = tuple(image_size)
    photos = np.stack([images.read(path, size) for path in images.find(photos or images.BUNDLED)])
    calibration = np.stack(choose(size, calibration_images, calibration_count).images)
    mean, std = np.array(preprocessing.MEAN), np.array(preprocessing.STD)
    reference = torch_network.Reference(*networks.read(checkpoint))
    normalized = (((photo[np.newaxis] / 255 - mean) / std).astype(np.float32) for photo in photos)
    labels = np.concatenate([reference(photo)[0].argmax(-1) for photo in normalized]).astype(np.int16)
    Inputs(photos, labels, calibration, mean, std).save(output)
