"""Opens `.keras` files.

Keras itself builds whatever classes such a file names and follows links out of its weights. Here nothing of the file is
used but six checked values, which say what network to build, and arrays no larger than the file, which fill it.
"""

import collections
import io
import json
import pathlib
import zipfile

import numpy as np

from keras_bisenet.models import architecture
from keras_bisenet.utils import archives
from keras_bisenet.utils.errors import ModelError

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
# Ours are 300 bytes, and 1000 with an optimizer.
_CONFIG_LIMIT = 100_000
# Ours lists three entries in 200 bytes.
_DIRECTORY_LIMIT = 100_000
# What Keras calls the layers that have weights, in a weights file: the second `conv2d_1`, and so on.
_KINDS = {"Conv2D": "conv2d", "BatchNorm": "batch_norm"}
_VALUES = {"num_classes", "backbone", "width", "input_shape", "dtype", "name"}
# What else is taken for a .keras file, and what takes it.
_KINDS_OF_FILES = {
    ".tflite": "a .tflite file, which FaceParser, scripts/parse_faces.py and scripts/evaluate.py run",
    ".onnx": "an .onnx file, which scripts/check_onnx.py compares with a checkpoint",
    **dict.fromkeys(
        (".pth", ".pt", ".safetensors"),
        "a PyTorch checkpoint, of which scripts/port_and_export.py --checkpoint makes .keras and .tflite files",
    ),
}
_DTYPES = ("bfloat16", "float16", "float32", "float64", "mixed_bfloat16", "mixed_float16")
# Of the image that a network is fixed to, in pixels; running it takes memory in proportion.
_LONGEST_SIDE = 8192


class _RefusedError(Exception):
    """The message goes behind the name of the file."""


def load_model(path):
    """Loads a `.keras` file as `port_and_export.py` and `train.py` write it. No code that it may hold is run.

    Args:
        path: the file.

    Returns:
        `BiSeNet`, not compiled.

    Raises:
        ModelError: the file is missing, damaged, or holds another model.
    """
    path = check(path)
    problem = "no .keras file"
    try:
        config, weights = _read(path)
        problem = "no BiSeNet of this version"
        arrays = _arrays(weights)
        model = _build(_arguments(config, arrays))
        _assign(model, arrays)
    except ImportError:
        raise
    except _RefusedError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # the readers trust the file, and a damaged one fails in any way
        raise ModelError(f"{path}: is damaged, or {problem}; export it again") from error
    return model


def check(path):
    """`pathlib.Path` of a file that may be a `.keras` file.

    Raises:
        ModelError: it is missing, or another kind of file by its name.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected a .keras file of a BiSeNet")
    kind = _KINDS_OF_FILES.get(path.suffix.lower())
    if kind is not None:
        raise ModelError(f"{path}: is {kind}; expected a .keras file of a BiSeNet")
    return path


def _read(path):
    """The `config` of a file, and the bytes of its weights."""
    with path.open("rb") as file:
        try:
            archive = archives.open_zip(file, _DIRECTORY_LIMIT)
        except ValueError as error:
            raise _RefusedError(str(error)) from error
        with archive:
            size = path.stat().st_size
            config = json.loads(_entry(archive, _CONFIG, min(size, _CONFIG_LIMIT)))
            found = config["class_name"]
            if found != "BiSeNet":
                found = found if isinstance(found, str) and found.isidentifier() else "model of another kind"
                raise _RefusedError(
                    f"holds a {found[:100]}; expected a BiSeNet, as port_and_export.py and train.py write it"
                )
            return config["config"], _entry(archive, _WEIGHTS, size) if _WEIGHTS in archive.namelist() else b""


def _entry(archive, name, limit):
    """The content of an entry that is there once, uncompressed, and of at most `limit` bytes."""
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if len(entries) > 1:
        raise _RefusedError(f"holds {name} {len(entries)} times; expected it once")
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise _RefusedError(
            f"{name} is compressed; expected it as Keras writes it: unpack the file, and pack it again uncompressed"
        )
    if max(entry.file_size, entry.compress_size) > limit:
        raise _RefusedError(f"{name} claims {entry.file_size} bytes; expected at most {limit}")
    return archive.read(entry)


def _arrays(content):
    """Layer -> its arrays in order, of a weights file that Keras has written; by Keras' name for the layer there.

    The layer's own name is a note beside them. Notes are not read: HDF5 does not come back from some that are damaged.
    """
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        arrays, left = {}, len(content)
        layers = _inside(file, "layers")
        for key in layers:
            group = _inside(layers, key)
            values = _inside(group, "vars")
            datasets = [_inside(values, str(place)) for place in range(len(values))]
            for dataset in datasets:
                left -= _size(dataset)
                if left < 0:
                    raise _RefusedError(f"{_WEIGHTS} claims more bytes of arrays than the {len(content)} that it has")
            arrays[key] = [dataset[()] for dataset in datasets]
    return arrays


def _inside(group, name):
    """What a group of HDF5 holds itself; a link to elsewhere could open any file of this machine."""
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink | None):
        raise _RefusedError(f"{_WEIGHTS} holds a link to elsewhere; expected arrays of its own")
    return group[name]


def _size(dataset):
    """Bytes of an array; of one that lies in the file itself, and in one piece."""
    if dataset.external or dataset.is_virtual:
        raise _RefusedError(f"{_WEIGHTS} takes values from another file; expected arrays of its own")
    # bfloat16 is no type of HDF5's: Keras writes two bytes of no type.
    if dataset.chunks is not None or (dataset.dtype.kind != "f" and dataset.dtype != np.dtype("V2")):
        raise _RefusedError(f"{_WEIGHTS} holds compressed or strange arrays; expected numbers as Keras writes them")
    return dataset.nbytes


def _arguments(config, arrays):
    """What to build the network with, checked.

    Raises:
        ValueError: it is none of ours.
    """
    if config.keys() != _VALUES:
        raise ValueError(f"expected {', '.join(sorted(_VALUES))}")
    if config["dtype"] not in _DTYPES or not isinstance(config["name"], str):
        raise ValueError("no dtype or name")
    *sides, channels = config["input_shape"]
    if any(side is not None and (not isinstance(side, int) or side > _LONGEST_SIDE) for side in sides):
        raise _RefusedError(f"takes images of {sides}; expected at most {_LONGEST_SIDE} pixels a side")
    architecture.check(config["num_classes"], config["backbone"], config["width"])
    # Or a few bytes could ask for a network of any size: its largest kernel, and that of its classes.
    deepest, fused = (architecture.channels(count, config["width"]) for count in (512, 256))
    shapes = {array.shape for values in arrays.values() for array in values}
    if not {(3, 3, deepest, deepest), (1, 1, fused, config["num_classes"])} <= shapes:
        raise ValueError("other weights than the network has")
    return {**config, "input_shape": (*sides, channels)}


def _build(arguments):
    # Here: to refuse a file needs no TensorFlow.
    from keras_bisenet.models.bisenet import BiSeNet

    return BiSeNet(**arguments)


def _assign(model, arrays):
    """Fills a network.

    Raises:
        ValueError: an array is missing, too much, or of another shape.
    """
    counts = collections.Counter()
    left = {name for name, values in arrays.items() if values}
    for layer in (layer for layer in model.layers if layer.weights):
        kind = _KINDS[type(layer).__name__]
        name = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        left.discard(name)
        for variable, array in zip(layer.weights, arrays[name], strict=True):
            array = array.view(np.dtype(variable.dtype)) if array.dtype.kind == "V" else array
            if array.shape != tuple(variable.shape):
                raise ValueError(f"{variable.path} is {array.shape}; expected {tuple(variable.shape)}")
            variable.assign(array)
    if left:
        raise ValueError(f"also holds {len(left)} other layers")
