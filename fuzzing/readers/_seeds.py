"""Writes small `.tflite` files as this project exports them; `_models.seeds` runs it in a process of its own.

Usage: python -m fuzzing.readers._seeds FOLDER
"""

import pathlib
import sys

import keras
from keras import ops

from keras_bisenet import classes
from keras_bisenet.export import convert
from keras_bisenet.export.options import PRECISIONS
from keras_bisenet.export.quantization import calibration
from keras_bisenet.models import layers
from keras_bisenet.tflite import flatbuffer, metadata

CLASSES, SIZE = tuple("abcde"), (32, 32)


def network():
    """A network with the layers of a `BiSeNet`. One kernel has more than 1024 values: smaller ones stay float."""
    keras.utils.set_random_seed(0)
    photo = keras.Input((*SIZE, 3), name="image")
    x = ops.relu(layers.batch_norm(layers.conv(photo, 4, 3, 2, name="conv"), name="bn"))
    y = ops.concatenate([x, x * ops.sigmoid(layers.GlobalMean()(x))], axis=-1)
    y = layers.NearestResize(name="nearest")([layers.max_pool(y), x])
    y = layers.conv_bn_relu(y, 16, 3, name="wide")
    logits = layers.conv(y, len(CLASSES), 1, name="scores")
    return keras.Model(photo, {"logits": layers.AlignCornersResize(name="logits_resize")([logits, photo])})


def write(folder):
    """Writes a file a seed into a folder."""
    model, info = network(), metadata.ModelInfo(classes.named(CLASSES), "0" * 64)
    settings = {
        **{precision: {"precision": precision} for precision in PRECISIONS},
        "logits": {"input_type": "float32", "output": "logits"},
        "segmenter": {"output": "logits", "info": info},
    }
    photos = calibration.variations(SIZE, count=2).images
    for name, options in settings.items():
        (folder / name).write_bytes(convert.to_tflite(model, SIZE, photos=photos, **options))
    labels = flatbuffer.unpack((folder / "float32").read_bytes())
    (folder / "metadata").write_bytes(metadata.attach(labels, info))


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
