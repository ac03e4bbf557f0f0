"""`.tflite` files as far as Python reads them: what they hold, take and return, and say about themselves."""

from fuzzing import cases
from fuzzing.readers import _models

INSTRUMENTED = (
    "keras_bisenet.tflite.validate",
    "keras_bisenet.tflite.flatbuffer",
    "keras_bisenet.tflite.metadata_schema",
    "keras_bisenet.tflite.metadata",
    "keras_bisenet.tflite.labels_file",
    "keras_bisenet.inference.model_io",
)

seeds, mutate = _models.seeds, _models.mutate


def read(content, folder):
    from keras_bisenet.inference import model_io
    from keras_bisenet.tflite import flatbuffer, labels_file
    from keras_bisenet.utils.errors import ModelError

    path = folder / "model.tflite"
    path.write_bytes(content)
    try:
        found, model = flatbuffer.load(path)
        model_io.read(path, found, model=model)
    except ModelError as error:
        cases.check_refusal(error, path)
    try:
        labels_file.read(path, 5)
    except ModelError as error:
        cases.check_refusal(error, path)
