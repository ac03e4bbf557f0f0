"""`.tflite` files as far as Python reads them: what they hold, take and return, and say about themselves."""

from fuzzing import cases
from fuzzing.readers import _models

INSTRUMENTED = (
    "keras_bisenet.export.soundness",
    "keras_bisenet.export.flatbuffer",
    "keras_bisenet.export.metadata_schema",
    "keras_bisenet.export.metadata",
    "keras_bisenet.export.labels_file",
    "keras_bisenet.inference.contract",
)

seeds, mutate = _models.seeds, _models.mutate


def read(content, folder):
    from keras_bisenet.export import flatbuffer, labels_file
    from keras_bisenet.export.errors import ExportError
    from keras_bisenet.inference import contract

    path = folder / "model.tflite"
    path.write_bytes(content)
    try:
        found, model = flatbuffer.load(path)
        contract.read(path, found, model=model)
    except ExportError as error:
        cases.check_refusal(error, path)
    try:
        labels_file.read(path, 5)
    except ExportError as error:
        cases.check_refusal(error, path)
