"""Compares predicted labels with labeled photos."""

import numpy as np

from keras_bisenet.data import folder
from keras_bisenet.training.metrics import confusion
from keras_bisenet.utils import images


def evaluate(predict, examples, num_classes):
    """Runs a predictor over labeled photos, one after another.

    Args:
        predict: called with a photo, `[H, W, 3]` uint8 RGB, gives its labels `[H, W]`, integers.
        examples: `folder.Example`s that `folder.check` found good; any iterable, a progress bar for one.
        num_classes: classes of the network.

    Returns:
        `[num_classes, num_classes]` int64, see `metrics.confusion`: over the pixels of all photos, at the size of each
        photo. `metrics.Scores` makes figures of it.

    Raises:
        DataError, ImageError: a file has gone or cannot be read.
        ValueError: a label or a prediction is none of these classes, or a prediction has another size.
    """
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for example in examples:
        matrix += confusion(folder.read_label(example.label), predict(images.read(example.image)), num_classes)
    return matrix
