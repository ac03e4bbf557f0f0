"""Child process: prepares what every contestant is given, the photos, and is measured by, PyTorch's labels."""

import numpy as np

import weight_port
from benchmarks.common import worker as jobs
from benchmarks.runtimes.inputs import Inputs
from keras_bisenet import preprocessing
from keras_bisenet.export.quantization.calibration import choose
from keras_bisenet.utils import images
from weight_port.reference import torch_network


def write(checkpoint, image_size, photos, calibration_images, calibration_count, output):
    """Writes `Inputs`.

    Args:
        checkpoint: path of a `.pth`, `.pt` or `.safetensors` file.
        image_size: (height, width).
        photos: path of a photo or of a folder; None is the bundled photo.
        calibration_images, calibration_count: see `calibration.choose`.
        output: path of the folder.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ImageError: a photo or a folder cannot be used.
    """
    size = tuple(image_size)
    photos = np.stack([images.read(path, size) for path in images.find(photos or images.BUNDLED)])
    calibration = np.stack(choose(size, calibration_images, calibration_count).images)
    mean, std = np.array(preprocessing.MEAN), np.array(preprocessing.STD)
    state = weight_port.load(checkpoint)
    reference = torch_network.Reference(state, weight_port.recognise(state))
    labels = []
    for photo in photos:
        logits, _, _ = reference(((photo[np.newaxis] / 255 - mean) / std).astype(np.float32))
        labels.append(logits[0].argmax(-1).astype(np.int16))
    Inputs(photos, np.stack(labels), calibration, mean, std).save(output)


if __name__ == "__main__":
    jobs.answer(write)
