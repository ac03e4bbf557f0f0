"""The deployment model: a photo of a fixed size in, labels or scores out, with pre- and post-processing inside."""

import keras
import numpy as np
from keras import ops

from keras_bisenet.export.options import INPUTS, OUTPUTS, SCORES, check_size
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.layers import Scores
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.models.layers import AlignCornersResize
from keras_bisenet.preprocessing import normalize
from keras_bisenet.utils import resizing
from keras_bisenet.utils.errors import ExportError


def deploy(model, image_size, input_type="uint8", output="labels"):
    """Fixes a network to one photo of one size, with the processing around it.

    Args:
        model: functional Keras model as `BiSeNet` is: normalized photos `[N, H, W, 3]` in, dict of logits out.
        image_size: (height, width), each at least 32.
        input_type: `"uint8"`: the model takes RGB 0..255 and normalizes it; `"float32"`: RGB normalized already, see
            `keras_bisenet.normalize`.
        output: `"labels"`: uint8 `[1, H, W]` class ids; `"logits"`: float32 `[1, H, W, classes]`; `"probabilities"`:
            the same after a softmax; `"scores"`: float32 `[1, h, w, classes]`, the logits before the network's last
            resize; `"all_heads"`: three logit tensors.

    Returns:
        Functional model in the dtype of `model`: input `image`, outputs a dict with the keys `OUTPUTS[output]`.

    Raises:
        ExportError: a value is not one of the above, or the labels do not fit into uint8.
    """
    check(model.output[HEADS[0]].shape[-1], image_size, input_type, output)
    dtype = model.input.dtype
    heads = HEADS if output == "all_heads" else HEADS[:1]
    network = keras.Model(model.input, {head: model.output[head] for head in heads}, name=model.name)
    if output == SCORES:
        network = _without_resize(network)
    image = keras.Input((*image_size, 3), batch_size=1, dtype="uint8" if input_type == "uint8" else dtype, name="image")
    prepare = (lambda image: normalize(image, dtype)) if input_type == "uint8" else (lambda image: image)
    logits = rewriting.rewrite(network, [], image, prepare).output
    if output == "labels":
        outputs = {"labels": ArgMax()(logits[HEADS[0]])}
    elif output == "probabilities":
        outputs = {"probabilities": ops.softmax(logits[HEADS[0]])}
    else:
        outputs = logits
    return keras.Model(image, outputs, name=model.name)


def _without_resize(network):
    """A network that returns as `scores` what it resizes last, or its logits if that is no resize."""
    copy, graph = rewriting.read(network)
    logits = copy.output[HEADS[0]]
    last = graph.producer(logits)
    scores = last.inputs[0] if isinstance(last.operation, AlignCornersResize) else logits
    return keras.Model(copy.input, {SCORES: Scores(name=SCORES, dtype=scores.dtype)(scores)}, name=network.name)


def read_labels(results, output, image_size, head=HEADS[0]):
    """The predicted labels of a file, read as its user would read them.

    Args:
        results: dict, output name -> array, as the file returns them.
        output: key of `OUTPUTS`.
        image_size: (height, width).
        head: which of all heads.

    Returns:
        `[1, H, W]` class ids.
    """
    if "labels" in results:
        return results["labels"]
    if output == SCORES:
        return resizing.aligned_labels(results[SCORES][0], image_size)[np.newaxis]
    return results[head if output == "all_heads" else OUTPUTS[output][0]].argmax(-1)


def check(num_classes, image_size, input_type, output):
    """Raises `ExportError` where `deploy` would."""
    if output not in OUTPUTS:
        raise ExportError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    if input_type not in INPUTS:
        raise ExportError(f"input is {input_type!r}; expected one of {', '.join(INPUTS)}")
    check_size(image_size)
    if output == "labels" and num_classes > 256:
        raise ExportError(f"{num_classes} classes do not fit into uint8 labels; use the output 'logits'")


def encode(photo, model):
    """A photo as a deployment model takes it.

    Args:
        photo: `[H, W, 3]` uint8 RGB of the model's size.
        model: see `deploy`.

    Returns:
        `[1, H, W, 3]` array: the photo, or the photo normalized if the model takes floats.
    """
    batch = photo[np.newaxis]
    return batch if model.input.dtype == "uint8" else ops.convert_to_numpy(normalize(batch, model.input.dtype))


class ArgMax(keras.layers.Layer):
    """The channel of the largest value: `[N, H, W, C]` float -> `[N, H, W]` uint8; of equal values the first."""

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape[:-1], "uint8")

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Keras orders -0.0 before 0.0, in six operations, one of which TFLite does not have.
            return tf.cast(tf.argmax(inputs, -1, tf.int32), tf.uint8)
        return ops.cast(ops.argmax(inputs, axis=-1), "uint8")
