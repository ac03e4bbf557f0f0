"""The deployment graph: a photo in, labels out, with pre- and post-processing inside."""

import tensorflow as tf

from keras_bisenet.bisenet import HEADS, MINIMUM_SIZE
from keras_bisenet.export.errors import ExportError
from keras_bisenet.preprocessing import normalize

# What `--output` offers -> the tensors that the graph returns, by name and in order.
OUTPUTS = {"labels": ("labels",), "logits": ("logits",), "probabilities": ("probabilities",), "all_heads": HEADS}
INPUTS = ("uint8", "float32")


def serving_function(model, image_size, input_type="uint8", output="labels"):
    """Traces the deployment graph of a model, for one image of a fixed size.

    Args:
        model: a `BiSeNet`.
        image_size: (height, width), each at least 32.
        input_type: `"uint8"`: the graph takes RGB 0..255 and normalises it; `"float32"`: RGB normalised already, see
            `keras_bisenet.normalize`.
        output: `"labels"`: uint8 `[1, H, W]` class ids; `"logits"`: float32 `[1, H, W, classes]`; `"probabilities"`:
            the same after a softmax; `"all_heads"`: three logit tensors.

    Returns:
        A concrete function from `image` `[1, H, W, 3]` to a tuple of the tensors `OUTPUTS[output]`.

    Raises:
        ExportError: a value is not one of the above, or the labels do not fit into uint8.
    """
    if output not in OUTPUTS:
        raise ExportError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    if input_type not in INPUTS:
        raise ExportError(f"input is {input_type!r}; expected one of {', '.join(INPUTS)}")
    if min(image_size) < MINIMUM_SIZE:
        raise ExportError(f"image size is {image_size[0]}x{image_size[1]}; each side must be at least {MINIMUM_SIZE}")
    if output == "labels" and model.num_classes > 256:
        raise ExportError(f"{model.num_classes} classes do not fit into uint8 labels; use the output 'logits'")

    @tf.function(input_signature=[tf.TensorSpec([1, *image_size, 3], input_type, name="image")], autograph=False)
    def serve(image):
        heads = model(normalize(image) if input_type == "uint8" else image, training=False)
        if output == "all_heads":
            return tuple(heads[head] for head in HEADS)
        logits = heads["logits"]
        if output == "labels":
            return (tf.cast(tf.argmax(logits, axis=-1, output_type=tf.int32), tf.uint8),)
        return (tf.nn.softmax(logits),) if output == "probabilities" else (logits,)

    return serve.get_concrete_function()
