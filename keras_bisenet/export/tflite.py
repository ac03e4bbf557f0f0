"""Exports a model to TFLite."""

from keras_bisenet.export import calibration, equalisation, graph
from keras_bisenet.export.builder import Builder
from keras_bisenet.export.errors import ExportError
from keras_bisenet.export.network import Network
from keras_bisenet.export.quantised_builder import QuantisedBuilder

# Precisions that compute in float -> how they store the weights.
_STORED = {"float32": "float32", "float16": "float16", "dynamic": "int8"}

# What `--precisions` offers.
PRECISIONS = (*_STORED, "int8")


def check_precisions(names):
    """Raises `ExportError` unless there are names and all are of `PRECISIONS`."""
    offered = ", ".join(PRECISIONS)
    if not names:
        raise ExportError(f"no precision is asked for; expected some of {offered}")
    for name in names:
        if name not in PRECISIONS:
            raise ExportError(f"precision is {name!r}; expected one of {offered}")


def convert(model, image_size, precision="float32", input_type="uint8", output="labels", photos=None):
    """Exports a model as a `.tflite` file of TFLite builtin ops, for one image of a fixed size.

    Args:
        model: a `BiSeNet`.
        image_size: (height, width).
        precision: `"float32"`; `"float16"`: weights in half precision, computed with in float32 (or in float16 on a
            GPU); `"dynamic"`: 8-bit kernels and float activations, which the runtime rounds before each convolution;
            `"int8"`: 8-bit kernels and activations up to the last convolution and the logits, which are float32.
        input_type: see `graph.build`.
        output: see `graph.build`.
        photos: for int8, list of `[*image_size, 3]` uint8 RGB to calibrate on; None for
            `calibration.variations(image_size)`.

    Returns:
        The file as bytes. Its input is called `image`, its outputs `graph.OUTPUTS[output]`; the signature
        `serving_default` has the same names. Unless it is an output itself, the main head is the inner tensor `logits`.

    Raises:
        ExportError: a value is not one of those offered.
    """
    check_precisions([precision])
    network = Network.of(model)
    if precision != "int8":
        # Who asks for less than float32 wants a small file, or has a GPU, which is best at plain convolutions.
        builder = Builder(_STORED[precision], favours_speed=precision == "float32")
        return graph.build(network, builder, image_size, input_type, output)
    graph.check(network, image_size, input_type, output)
    if photos is None:
        photos = calibration.variations(image_size).images
    network, statistics = equalisation.equalise(network, calibration.measure(network, photos, output))
    return graph.build(network, QuantisedBuilder(statistics), image_size, input_type, output)
