"""Child process: prepares what every contestant is given, the photo, and is measured by, PyTorch's labels."""

import numpy as np

import weight_port
from benchmarks import jobs
from keras_bisenet import preprocessing
from keras_bisenet.inference import images
from weight_port import torch_reference


def write(checkpoint, image_size, output):
    """Writes an `.npz` file that needs none of the libraries that made it.

    It holds `photo`: `[H, W, 3]` uint8 RGB; `labels`: `[H, W]` of the PyTorch network; `mean` and `std`: `[3]`
    float64, the normalisation `(photo / 255 - mean) / std`.

    Args:
        checkpoint: path of a `.pth`, `.pt` or `.safetensors` file.
        image_size: (height, width).
        output: path of the file.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    state = weight_port.load(checkpoint)
    reference = torch_reference.Reference(state, weight_port.recognise(state))
    photo = images.read(images.BUNDLED, tuple(image_size))
    mean, std = np.array(preprocessing.MEAN), np.array(preprocessing.STD)
    logits, _, _ = reference(((photo[np.newaxis] / 255 - mean) / std).astype(np.float32))
    np.savez(output, photo=photo, labels=logits[0].argmax(-1), mean=mean, std=std)


if __name__ == "__main__":
    jobs.answer(write)
