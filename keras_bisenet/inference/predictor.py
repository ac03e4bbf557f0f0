"""Labels photos with a trained network, whatever file it comes in."""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_bisenet.bisenet import HEADS, BiSeNet
from keras_bisenet.export import flatbuffer, graph
from keras_bisenet.export.errors import ExportError
from keras_bisenet.inference import images
from keras_bisenet.inference.runner import TFLiteRunner
from keras_bisenet.preprocessing import normalize


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Called with a photo of any size, `[H, W, 3]` uint8 RGB, gives its labels `[H, W]`, integers.

    With an `image_size`, the photo is resized to it (bilinear, antialiased), and the labels back (nearest).

    Attributes:
        network: what is called with the resized photo and gives labels of its size.
        num_classes: classes of the network.
        image_size: (height, width), or None to take each photo as it is.
    """

    network: Callable[[np.ndarray], np.ndarray]
    num_classes: int
    image_size: tuple[int, int] | None = None

    def __call__(self, photo):
        if self.image_size is None:
            return self.network(photo)
        return resize_labels(self.network(images.resize(photo, self.image_size)), photo.shape[:2])


def resize_labels(labels, size):
    """Resizes labels to (height, width) by nearest neighbours: a pixel takes the label under its centre.

    Args:
        labels: `[H, W]`.
        size: (height, width).

    Returns:
        `[*size]` of the same dtype.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(labels.shape, size, strict=True))
    return labels[np.ix_(rows, columns)]


def from_keras(path, image_size=None):
    """The predictor of a `.keras` file.

    Args:
        path: file that holds a `BiSeNet`.
        image_size: see `Predictor`; None for the size of each photo, or that which the model is fixed to.

    Raises:
        ExportError: the file is missing, damaged, or another one; or it takes another size.
    """
    model = load_keras(path)
    fixed = model.input_shape[1:3]
    if None not in fixed:
        image_size = _only(path, fixed, image_size)
    # Without the auxiliary heads.
    network = keras.Model(model.input, ops.argmax(model.output[HEADS[0]], axis=-1))
    dtype = model.input.dtype

    def predict(photo):
        return ops.convert_to_numpy(network.predict_on_batch(normalize(photo[np.newaxis], dtype)))[0]

    return Predictor(predict, model.num_classes, image_size)


def from_tflite(path, image_size=None):
    """The predictor of a `.tflite` file as `tflite.convert` makes it, with any of its inputs and outputs.

    Args:
        path: the file. It fixes the size of the photos.
        image_size: None, or that size.

    Raises:
        ExportError: the file is missing, damaged, or another one; or it takes another size.
    """
    content, file = flatbuffer.read(path)
    inputs = [(tensor["name"], tensor["dtype"]) for tensor in file["inputs"]]
    outputs = tuple(tensor["name"] for tensor in file["outputs"])
    kinds = {names: output for output, names in graph.OUTPUTS.items()}
    if outputs not in kinds or inputs not in [[("image", dtype)] for dtype in graph.INPUTS]:
        found = ", ".join(f"{name} {dtype}" for name, dtype in inputs)
        raise ExportError(
            f"{path}: takes {found} and returns {', '.join(outputs)}; expected a file that port_and_export.py wrote"
        )
    try:
        *_, logits = flatbuffer.describe(flatbuffer.expose(content, HEADS[0]))["outputs"]
    except KeyError as error:
        raise ExportError(
            f"{path}: has no tensor {HEADS[0]!r}; expected a file that port_and_export.py wrote"
        ) from error
    _, height, width, _ = file["inputs"][0]["shape"]
    output, normalised, run = kinds[outputs], inputs[0][1] == "float32", TFLiteRunner(content)

    def predict(photo):
        batch = photo[np.newaxis]
        return graph.read_labels(run(ops.convert_to_numpy(normalize(batch)) if normalised else batch), output)[0]

    return Predictor(predict, logits["shape"][-1], _only(path, (height, width), image_size))


def load_keras(path):
    """Loads a `.keras` file.

    Returns:
        `BiSeNet`, not compiled.

    Raises:
        ExportError: the file is missing, damaged, or holds another model.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected a .keras file of a BiSeNet")
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("config.json"))["class_name"]
    except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{path}: is damaged, or no .keras file; export it again") from error
    if found != BiSeNet.__name__:
        raise ExportError(f"{path}: holds a {found}; expected a BiSeNet, as port_and_export.py and train.py write it")
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # the loader trusts the file, and a wrong part fails in any way
        raise ExportError(f"{path}: is damaged, or no BiSeNet of this version; export it again") from error


def _only(path, fixed, asked):
    if asked not in (None, fixed):
        raise ExportError(
            f"{path}: takes photos of {fixed[0]}x{fixed[1]} alone, not of {asked[0]}x{asked[1]}; "
            "leave the image size out"
        )
    return fixed
