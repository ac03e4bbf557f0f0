"""Reads a `.tflite` file that this project exported, from uint8 photos to labels."""

import dataclasses

from keras_bisenet.tflite import flatbuffer
from keras_bisenet.utils.errors import ModelError
from keras_bisenet.utils.text_files import shown


@dataclasses.dataclass(frozen=True)
class LabelsFile:
    """A file that takes `image`, uint8 RGB `[1, H, W, 3]`, and returns `labels`, uint8 class ids `[1, H, W]`.

    Attributes:
        content: its bytes, unchanged.
        image_size: (height, width) of its photos.
        precision: one of `export.options.PRECISIONS`.
        scores: index of the inner tensor `[1, H, W, classes]` that the labels are the argmax of:
            `TFLiteRunner(file.content, inner={"logits": file.scores})` returns it besides the labels.
    """

    content: bytes
    image_size: tuple[int, int]
    precision: str
    scores: int


def read(path, num_classes):
    """Reads a file.

    Args:
        path: the file.
        num_classes: classes that its network must have.

    Returns:
        `LabelsFile`.

    Raises:
        ModelError: the file is missing, damaged, or another one.
    """
    content, model = flatbuffer.load(path)
    file = flatbuffer.describe_model(model)
    found = [[f"{shown(tensor['name'])} {tensor['dtype']}" for tensor in file[side]] for side in ("inputs", "outputs")]
    expected = found == [["image uint8"], ["labels uint8"]] and len(file["inputs"][0]["shape"]) == 4
    if not expected or not file["weights"]:
        raise ModelError(
            f"{path}: takes {', '.join(found[0])} and returns {', '.join(found[1])}; expected a file that "
            "port_and_export.py wrote with --input uint8 --output labels"
        )
    (graph,) = model.subgraphs
    scores = flatbuffer.find_scores(model, graph.outputs[0])
    if scores is None:
        raise ModelError(f"{path}: has no scores behind its labels; expected a file that port_and_export.py wrote")
    shape = graph.tensors[scores].shape.tolist()
    if shape[-1:] != [num_classes]:
        classes = shape[-1] if shape else "no"
        raise ModelError(f"{path}: has {classes} classes, the checkpoint {num_classes}; it is of another checkpoint")
    _, height, width, _ = file["inputs"][0]["shape"]
    # Some weights are float32 in any file: the largest part tells.
    stored = max(file["weights"], key=file["weights"].get)
    precision = "dynamic" if stored == "int8" and "int8" not in file["activations"] else stored
    return LabelsFile(content, (height, width), precision, scores)
