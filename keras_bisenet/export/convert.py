"""How TFLiteConverter is called: a Keras model in, the bytes of a `.tflite` file out."""

import functools
import gc
import warnings
from collections.abc import Sequence

import keras
import numpy as np

from keras_bisenet.export import deployment, passes
from keras_bisenet.export.options import SCORES, check_precisions
from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.quantization import calibration, equalization, quantize
from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.utils import images, native_output
from keras_bisenet.utils.errors import ConversionError, ExportError


def check_backend() -> None:
    """Raises `ExportError` unless Keras runs on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"the Keras backend is {keras.backend.backend()!r}; a TFLite export needs KERAS_BACKEND=tensorflow "
            "(porting a checkpoint works on every backend)"
        )


def to_tflite(
    model: keras.Model,
    image_size: tuple[int, int],
    precision: str = "float32",
    input_type: str = "uint8",
    output: str = "labels",
    photos: Sequence[np.ndarray] | None = None,
    info: metadata.ModelInfo | None = None,
) -> bytes:
    """Exports a model as a `.tflite` file of TFLite builtin ops, for one image of a fixed size.

    Args:
        model: a `BiSeNet`, or another functional Keras model that takes normalized photos `[N, H, W, 3]` float RGB and
            returns a dict with float logits `[N, H, W, classes]` under `logits`. Keras must run on TensorFlow.
        image_size: (height, width).
        precision: `"float32"`; `"float16"`: weights in half precision, computed with in float32 (or in float16 on a
            GPU); `"dynamic"`: 8-bit kernels and float activations, which the runtime rounds before each convolution;
            `"int8"`: 8-bit kernels and activations up to the last convolution and the logits, which are float32 but
            for the output `"scores"`: then no tensor is float.
        input_type, output: see `deployment.deploy`.
        photos: for int8, list of `[*image_size, 3]` uint8 RGB to calibrate on; None for
            `calibration.variations(image_size)`.
        info: `metadata.ModelInfo` for the file's metadata; None for a file without.

    Returns:
        The file as bytes. Its signature `serving_default` has the input `image` and the outputs
        `options.OUTPUTS[output]`.

    Raises:
        ExportError: a value is not one of those offered, Keras runs on another backend, or the network holds a layer
            that a pass cannot carry.
        ConversionError: TFLiteConverter refuses the network.

    Example:
        >>> content = to_tflite(BiSeNet(num_classes=3, width=0.25), (64, 96), "float16")
        >>> pathlib.Path("face_parsing_float16.tflite").write_bytes(content) == len(content)
        True
    """
    check_precisions([precision])
    check_backend()
    if isinstance(model, BiSeNet):
        # Every file computes in float32, but for whole numbers.
        model = model.with_config(dtype="float32")
    deployed = deployment.deploy(model, image_size, input_type, output)
    names = list(deployed.output)
    module = _trace(rewriting.renumber(optimize(deployed, precision, photos)), names)
    del deployed
    # Layers refer to each other in circles: the converter needs the memory of their kernels.
    gc.collect()
    output_type = "int8" if _is_integer(precision, names) else "float32"
    file = flatbuffer.unpack(_convert(module, precision, input_type, output_type))
    flatbuffer.read_constants_late(file)
    flatbuffer.set_signature(file, ["image"], names)
    if SCORES in names:
        metadata.add_post_processing(file, image_size)
    return flatbuffer.pack(file) if info is None else metadata.attach(file, info)


def optimize(deployed: keras.Model, precision: str, photos: Sequence[np.ndarray] | None = None) -> keras.Model:
    """A deployment model in the operations of a precision, as TFLiteConverter gets it.

    Args:
        deployed: see `deployment.deploy`.
        precision: one of `PRECISIONS`.
        photos: see `to_tflite`.

    Returns:
        Functional Keras model of the same inputs and outputs; for int8 with `tf.quantization.fake_quant_*` operations.

    Raises:
        ExportError: the network holds a layer that a pass cannot carry.
    """
    rules = "int8_scores" if _is_integer(precision, deployed.output) else precision
    optimized = passes.optimize(deployed, rules)
    if precision != "int8":
        return optimized
    if photos is None:
        photos = calibration.variations(deployed.input.shape[1:3]).images
    inputs = images.Lazy(functools.partial(deployment.encode, model=deployed), photos)
    statistics = calibration.measure(optimized, inputs)
    return quantize.quantize(*equalization.equalize(optimized, statistics))


def _is_integer(precision, outputs):
    """Whether a file of these outputs computes with integers alone."""
    return precision == "int8" and SCORES in outputs


def _trace(model, names):
    """A `tf.Module` with the concrete function `compute` of a model; it returns a list in the order of `names`."""
    import tensorflow as tf

    def compute(image):
        outputs = model(image, training=False)
        return [outputs[name] for name in names]

    image = tf.TensorSpec(model.input.shape, model.input.dtype, "image")
    module = tf.Module()
    # The function alone does not keep the variables of layers that no pass has made constant.
    module.weights = [weight.value for weight in model.variables]
    module.compute = tf.function(compute, input_signature=[image], autograph=False).get_concrete_function()
    return module


def _convert(module, precision, input_type, output_type):
    """Bytes of a `.tflite` file whose outputs are in the order of the function's results, without a signature."""
    import tensorflow as tf

    with native_output.captured() as log, warnings.catch_warnings():
        # The ranges are in the network's own fake_quant operations.
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected")
        try:
            converter = tf.lite.TFLiteConverter.from_concrete_functions([module.compute], module)
            # A SavedModel on the way takes twice the time and memory, and its one use is the signature.
            converter.experimental_lower_to_saved_model = False
            if precision != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if precision == "int8":
                converter.inference_input_type = tf.as_dtype(input_type)
                converter.inference_output_type = tf.as_dtype(output_type)
            return converter.convert()
        except Exception as error:  # the converter has no error of its own for what it cannot do
            raise ConversionError(precision, error, log()) from error
