"""Reads a `.tflite` file that this project exported, from uint8 photos to labels."""

from keras_bisenet.export import flatbuffer
from keras_bisenet.export.errors import ExportError


def read(path, num_classes):
    """Reads the file and makes its logits one more output.

    Args:
        path: the file.
        num_classes: classes that its network must have.

    Returns:
        The edited bytes; the (height, width) of its photos; its precision, one of `tflite.PRECISIONS`.

    Raises:
        ExportError: the file is missing, damaged, or another one.
    """
    content, file = flatbuffer.read(path)
    found = [[f"{tensor['name']} {tensor['dtype']}" for tensor in file[side]] for side in ("inputs", "outputs")]
    if found != [["image uint8"], ["labels uint8"]]:
        raise ExportError(
            f"{path}: takes {', '.join(found[0])} and returns {', '.join(found[1])}; expected a file that "
            "port_and_export.py wrote with --input uint8 --output labels"
        )
    try:
        content = flatbuffer.expose(content, "logits")
    except KeyError as error:
        raise ExportError(f"{path}: has no tensor 'logits'; expected a file that port_and_export.py wrote") from error
    classes = flatbuffer.describe(content)["outputs"][-1]["shape"][-1]
    if classes != num_classes:
        raise ExportError(f"{path}: has {classes} classes, the checkpoint {num_classes}; it is of another checkpoint")
    _, height, width, _ = file["inputs"][0]["shape"]
    # Some weights are float32 in any file: the largest part tells.
    stored = max(file["weights"], key=file["weights"].get)
    precision = "dynamic" if stored == "int8" and "int8" not in file["activations"] else stored
    return content, (height, width), precision
