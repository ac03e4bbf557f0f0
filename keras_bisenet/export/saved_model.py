"""Writes a SavedModel that TF Serving loads: photos in, as pixels or as JPEG and PNG files, labels out."""

import pathlib
import tempfile

import keras
import tensorflow as tf

from keras_bisenet.export.options import SAVED_MODEL_OUTPUTS, check_size
from keras_bisenet.labels import LABELS
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.preprocessing import normalize
from keras_bisenet.utils.errors import ExportError

# TF Serving looks for versions, folders named by a number, below the folder that it is given.
NAME, VERSION = "saved_model", "1"

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def write(model, folder, image_size, output="labels", class_names=LABELS):
    """Writes `<folder>/saved_model/1/`.

    Its signatures:

    - `serving_default` takes `image`: uint8 RGB `[N, H, W, 3]`, any N from 1, any H and W from 32;
    - `serving_bytes` takes `image_bytes`: strings `[N]`, each the content of a JPEG or PNG file of any size. The photos
      are resized to `image_size` (bilinear, antialiased, each value within 1 of what Pillow computes).

    Both return `labels`, uint8 `[N, H, W]` class ids, and `probabilities`, float32 `[N, H, W, classes]`, if asked for.

    Files are read like `inference.images` reads them: grayscale and CMYK become RGB, 16 bits are scaled to 8,
    transparent parts of a PNG are white. Two things differ: a photo whose EXIF data asks to turn it is not turned (do
    so before you send it), and of the other formats that TensorFlow decodes (BMP, GIF, WebP) the transparency is
    ignored. A file that cannot be read fails its whole batch with an InvalidArgumentError.

    The class names are the lines of `assets/labels.txt`, in the order of their ids. The folder holds the main head
    alone and no custom op: `tf.saved_model.load` needs neither Keras nor this package. What it returns also has
    `logits`, a function from `image` to the float32 logits `[N, H, W, classes]` that the labels are made of, and
    `class_names.asset_path`.

    Args:
        model: a `BiSeNet` of any dtype and input shape; it is served in float32.
        folder: existing folder.
        image_size: (height, width) that `serving_bytes` resizes to, each at least 32.
        output: one of `OUTPUTS`.
        class_names: a name for each class.

    Returns:
        `pathlib.Path` of the version's folder.

    Raises:
        ExportError: Keras does not run on TensorFlow, a value is not one of the above, or the labels do not fit into
            uint8.
        OSError: the folder cannot be written.
    """
    _check(model, image_size, output, class_names)
    path = pathlib.Path(folder, NAME, VERSION)
    with tempfile.TemporaryDirectory() as scratch:
        names = pathlib.Path(scratch, "labels.txt")
        names.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
        module = _module(model, image_size, output)
        module.class_names = tf.saved_model.Asset(str(names))
        signatures = {"serving_default": module.parse, "serving_bytes": module.parse_bytes}
        try:
            tf.saved_model.save(module, str(path), signatures)
        except tf.errors.OpError as error:
            # The message has the reason between the name of a file and that of an op.
            raise OSError(error.message.rpartition("; ")[2].partition(" [")[0]) from error
    return path


class Runner:
    """A SavedModel that `write` has written, run like a `TFLiteRunner`.

    Args:
        folder: that which `write` was given.
    """

    def __init__(self, folder):
        self._model = tf.saved_model.load(str(pathlib.Path(folder, NAME, VERSION)))

    def __call__(self, image):
        """Runs `[N, H, W, 3]` uint8 RGB. Returns a dict: what `serving_default` gives, and `logits`."""
        image = tf.constant(image)
        results = self._model.signatures["serving_default"](image=image) | {"logits": self._model.logits(image)}
        return {name: result.numpy() for name, result in results.items()}


def _check(model, image_size, output, class_names):
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"the Keras backend is {keras.backend.backend()!r}; a SavedModel needs KERAS_BACKEND=tensorflow"
        )
    if output not in SAVED_MODEL_OUTPUTS:
        raise ExportError(f"output is {output!r}; a SavedModel offers {', '.join(SAVED_MODEL_OUTPUTS)}")
    check_size(image_size)
    if model.num_classes > 256:
        raise ExportError(f"{model.num_classes} classes do not fit into the uint8 labels of a SavedModel")
    if len(class_names) != model.num_classes:
        raise ExportError(f"{len(class_names)} class names for {model.num_classes} classes; give one for each")


def _module(model, image_size, output):
    """The functions that are served, with the variables that they read."""
    network = BiSeNet(model.num_classes, model.backbone, model.width, dtype="float32")
    network.set_weights(model.get_weights())
    network = keras.Model(network.input, network.output[HEADS[0]])
    module = tf.Module()
    # The bare variables: with the Keras model itself, all that it was built from would be saved.
    module.weights = [weight.value for weight in network.variables]
    images = tf.TensorSpec((None, None, None, 3), tf.uint8, "image")
    photo = tf.TensorSpec((*image_size, 3), tf.uint8)

    @tf.function(input_signature=[images])
    def logits(image):
        return network(normalize(image), training=False)

    @tf.function(input_signature=[images])
    def parse(image):
        values = logits(image)
        results = {"labels": tf.cast(tf.argmax(values, -1), tf.uint8)}
        if output == "probabilities":
            results["probabilities"] = tf.nn.softmax(values)
        return results

    # TF Serving's mark for strings that are no text is a name that ends in `_bytes`.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def parse_bytes(image_bytes):
        return parse(tf.map_fn(lambda encoded: decode(encoded, image_size), image_bytes, fn_output_signature=photo))

    module.logits, module.parse, module.parse_bytes = logits, parse, parse_bytes
    return module


def decode(encoded, size):
    """Reads a photo inside a TensorFlow graph like `inference.images.read` does outside of one.

    Args:
        encoded: scalar string, the content of an image file.
        size: (height, width) to resize to.

    Returns:
        `[*size, 3]` uint8 RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, and the content cannot be read.
    """
    readers = [
        # TensorFlow's default is a faster and less exact transform; with this one, pixels equal Pillow's.
        (_starts_with(encoded, _JPEG), lambda: tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE")),
        (_starts_with(encoded, _PNG), lambda: _decode_png(encoded)),
    ]
    image = tf.case(readers, lambda: tf.io.decode_image(encoded, 3, expand_animations=False))
    return _to_uint8(tf.image.resize(image, size, antialias=True))


def _starts_with(encoded, signature):
    return tf.strings.substr(encoded, 0, len(signature)) == signature


def _decode_png(encoded):
    pixels = tf.io.decode_png(encoded, 4)
    # Opaque pixels of 1, 2 and 4 bits get the alpha 1, 3 and 15, so the alpha counts only where the file has one:
    # a color type of 4 or 6, or a tRNS chunk before the pixels.
    color_type = tf.io.decode_raw(tf.strings.substr(encoded, 0, 26), tf.uint8)[25:]
    transparent = tf.reduce_any(color_type >= 4) | _has_transparency_chunk(encoded)
    alpha = tf.where(transparent, tf.cast(pixels[..., 3:], tf.float32), 255.0) / 255.0
    white = 255.0 * (1.0 - alpha)
    return _to_uint8(tf.cast(pixels[..., :3], tf.float32) * alpha + white)


def _has_transparency_chunk(encoded):
    """Whether a tRNS chunk comes before the pixels of a PNG; its name may also stand in a text.

    A chunk is the length of its content (4 bytes, big-endian), its name (4), the content and a checksum (4); see "PNG
    Specification", 3rd edition, section 5.3.
    """
    size = tf.strings.length(encoded)
    # At the end a nameless chunk, for files that break off: decode_png refuses them.
    encoded = tf.strings.join([encoded, bytes(8)])

    def name(start):
        return tf.strings.substr(encoded, start + 4, 4)

    def is_before_pixels(start):
        return (start < size) & tf.reduce_all(name(start) != [b"IDAT", b"tRNS", b"IEND"])

    def next_chunk(start):
        length = tf.io.decode_raw(tf.strings.substr(encoded, start, 4), tf.int32, little_endian=False)[0]
        # A length beyond the end, or one of 2^31 and more, which is negative here, ends the walk.
        return tf.where((length >= 0) & (length < size - start - 12), start + 12 + length, size)

    start = tf.while_loop(is_before_pixels, lambda start: [next_chunk(start)], [len(_PNG)])[0]
    return name(start) == b"tRNS"


def _to_uint8(image):
    return tf.cast(tf.round(image), tf.uint8)
