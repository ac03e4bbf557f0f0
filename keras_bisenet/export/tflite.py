"""Exports a model to TFLite."""

from keras_bisenet.export import graph
from keras_bisenet.export.errors import ExportError

# What `--precisions` offers -> how the weights are stored.
PRECISIONS = {"float32": "float32", "float16": "float16", "dynamic": "int8"}


def check_precisions(names):
    """Raises `ExportError` unless there are names and all are of `PRECISIONS`."""
    offered = ", ".join(PRECISIONS)
    if not names:
        raise ExportError(f"no precision is asked for; expected some of {offered}")
    for name in names:
        if name not in PRECISIONS:
            raise ExportError(f"precision is {name!r}; expected one of {offered}")


def convert(model, image_size, precision="float32", input_type="uint8", output="labels"):
    """Exports a model as a `.tflite` file of TFLite builtin ops, for one image of a fixed size.

    Args:
        model: a `BiSeNet`.
        image_size: (height, width).
        precision: `"float32"`; `"float16"`: weights in half precision, computed with in float32 (or in float16 on a
            GPU); `"dynamic"`: 8-bit kernels and float activations, a quarter of the size and about twice as fast on a
            CPU (this is no full int8).
        input_type: see `graph.build`.
        output: see `graph.build`.

    Returns:
        The file as bytes. Its input is called `image`, its outputs `graph.OUTPUTS[output]`; the signature
        `serving_default` has the same names. Unless it is an output itself, the main head is the inner tensor `logits`.

    Raises:
        ExportError: a value is not one of those offered.
    """
    check_precisions([precision])
    return graph.build(model, image_size, input_type, output, PRECISIONS[precision])
