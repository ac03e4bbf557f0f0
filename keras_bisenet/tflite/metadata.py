"""TFLite Metadata: how a `.tflite` file describes itself to people and to the libraries that open it.

A flatbuffer inside the file describes the model and each of its tensors; the labels lie in a zip archive behind the
file, as `labels.txt` (`unzip model.tflite` gives it), and beside it `labels.json` where the classes are not those of a
face. MediaPipe Tasks, the TFLite Task Library and Netron read the flatbuffer and `labels.txt`; LiteRT runs the file as
if they were not there.
"""

import contextlib
import dataclasses
import io
import json
import zipfile

import numpy as np

from keras_bisenet import __version__, classes
from keras_bisenet.classes import FACE, FILE, Classes
from keras_bisenet.preprocessing import MEAN, STD
from keras_bisenet.tflite import flatbuffer, metadata_schema
from keras_bisenet.utils import archives, text_files

LABELS_FILE = "labels.txt"
# Bytes of a label file, and of the list of files in its archive. Ours have a hundred each.
MAX_LABELS = 100_000

# Entries of the model's own list of metadata. The hash has one to itself, which any reader of the file finds without
# this schema; people see it at the end of the description.
_METADATA, _CHECKPOINT = "TFLITE_METADATA", "checkpoint_sha256"
# Entry of a file of scores: what its caller does with them, as JSON.
_POST_PROCESSING, _ALIGNED = "post_processing", "bilinear, align_corners=True"
# Entry of the subgraph that tells MediaPipe's ImageSegmenter how probabilities are made of the output.
_SEGMENTER = "SEGMENTER_METADATA"
_IDENTIFIER, _SEGMENTER_IDENTIFIER = b"M001", b"V001"
_ACTIVATIONS = ("NONE", "SIGMOID", "SOFTMAX")
# What the one output of a file has to be for ImageSegmenter -> how probabilities are made of it.
_OUTPUT_ACTIVATIONS = {"logits": "SOFTMAX", "probabilities": "NONE"}
# Version of the schema that brought the newest field in use: in any file, and in one with the entry above.
_PARSER, _SEGMENTER_PARSER = "1.0.0", "1.5.0"

# Codes of the schema's enums and unions.
_RGB, _GRAYSCALE = 1, 2
_AXIS_LABELS, _VALUE_LABELS = 2, 3
_IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 2, 1

_OUTPUTS = {
    "labels": f"Class of each pixel: a line of {LABELS_FILE}, counted from 0.",
    "logits": "Score of each class at each pixel; softmax makes probabilities of them.",
    "logits16": "Scores of the first auxiliary head, which is there for training.",
    "logits32": "Scores of the second auxiliary head, which is there for training.",
    "probabilities": "Probability of each class at each pixel.",
    "scores": (
        "Scores of each class at every eighth pixel, (integer - zero point) * scale of this tensor. Resize them to the "
        f"photo ({_ALIGNED}), then take the class of the largest; softmax makes probabilities of them."
    ),
}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a file cannot tell of itself.

    Attributes:
        classes: `Classes`, in the order of the channels.
        checkpoint_sha256: SHA-256 of the checkpoint that the weights come from, hexadecimal.
        author: of the model; may be empty.
        license: the terms of the weights; empty if there are none to tell.
        name, description, version: of the model.
    """

    classes: Classes
    checkpoint_sha256: str
    author: str = ""
    license: str = ""
    name: str = "BiSeNet face parsing"
    description: str = "Segments a photo into face parts: one class id per pixel."
    version: str = __version__


def attach(model, info):
    """Packs a `.tflite` file with metadata. Weights and ops stay as they are; the same input gives the same bytes.

    Inputs and outputs are called as the signature calls them. Readers match the metadata to the tensors by their order
    in the subgraph, so it is written in that order, whatever the order in the signature.

    A file whose one output is `logits` or `probabilities` also tells the activation function, with which MediaPipe's
    ImageSegmenter opens it if its input is uint8.

    Args:
        model: the file, unpacked by `flatbuffer.unpack`; it gets the metadata too.
        info: `ModelInfo`.

    Returns:
        bytes. When they are unpacked and packed anew, the label file is lost and all else is kept.

    Raises:
        ValueError: the file has metadata already, its signature has an output of another name than those of `_OUTPUTS`,
            or its channels are not as many as the labels.
    """
    if _entry(model, _METADATA) is not None:
        raise ValueError("the file has metadata already")
    (graph,) = model.subgraphs
    names = flatbuffer.signature_names(model)
    inputs, outputs = (
        [tensor for index in indices for tensor in flatbuffer.tensors(model, {int(index): of_side[int(index)]})]
        for indices, of_side in zip((graph.inputs, graph.outputs), names, strict=True)
    )
    for output in outputs:
        if output["name"] not in _OUTPUTS:
            raise ValueError(f"the file has the output {output['name']}; expected some of {', '.join(_OUTPUTS)}")
        if output["shape"][3:] not in ([], [len(info.classes)]):
            raise ValueError(
                f"{output['name']} has {output['shape'][3]} channels; there are {len(info.classes)} labels"
            )
    metadata = metadata_schema.pack("ModelMetadata", _model(inputs, outputs, info), _IDENTIFIER)
    flatbuffer.add_metadata(model, _METADATA, metadata)
    flatbuffer.add_metadata(model, _CHECKPOINT, info.checkpoint_sha256.encode())
    files = {LABELS_FILE: "\n".join(info.classes.names)}
    if info.classes != FACE:
        files[FILE] = info.classes.as_json()
    return _append_files(flatbuffer.pack(model), files)


def add_post_processing(model, image_size):
    """Adds what the caller of a file of scores has to do.

    Args:
        model: the file, unpacked by `flatbuffer.unpack`, whose one output is scores.
        image_size: (height, width) of the photo.
    """
    (graph,) = model.subgraphs
    scale, zero_point = flatbuffer.quantization(graph.tensors[graph.outputs[0]])
    steps = {
        "scale": scale or 1.0,
        "zero_point": zero_point,
        "resize": _ALIGNED,
        "size": list(image_size),
        "then": "argmax over the classes",
    }
    flatbuffer.add_metadata(model, _POST_PROCESSING, json.dumps(steps).encode())


def is_aligned(model):
    """Whether the scores that a file returns are resized with their corners aligned, see `add_post_processing`."""
    # An entry of that name in a third-party file may be anything.
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        return _post_processing(model)["resize"] == _ALIGNED
    return False


def _post_processing(model):
    entry = _entry(model, _POST_PROCESSING)
    return None if entry is None else text_files.parse_json(entry.decode())


def read(content, model=None):
    """Reads what `attach` has written.

    Args:
        content: bytes of a `.tflite` file.
        model: the same, unpacked by `flatbuffer.unpack`; None to unpack it here.

    Returns:
        dict: `name`, `description`, `version`, `author`, `license`, `labels` (a list), `checkpoint_sha256`,
        `activation` (`"SOFTMAX"` or `"NONE"`; None where MediaPipe's ImageSegmenter is not served), `post_processing`
        (a dict: what the caller of a file of scores does; None of other files). An author or a license that was empty
        is missing. Empty if the file has no metadata.
    """
    model = model or flatbuffer.unpack(content)
    entry = _entry(model, _METADATA)
    if entry is None:
        return {}
    values = metadata_schema.unpack(entry, "ModelMetadata", _IDENTIFIER)
    result = {key: values[key] for key in ("name", "description", "version", "author", "license") if key in values}
    result["labels"] = _read_file(content, LABELS_FILE).split("\n")
    result[_CHECKPOINT] = _entry(model, _CHECKPOINT).decode()
    result["activation"], result[_POST_PROCESSING] = None, _post_processing(model)
    for entry in values["subgraph_metadata"][0].get("custom_metadata", ()):
        if entry["name"] == _SEGMENTER:
            options = metadata_schema.unpack(entry["data"], "ImageSegmenterOptions", _SEGMENTER_IDENTIFIER)
            result["activation"] = _ACTIVATIONS[options.get("activation", 0)]
    return result


def of_others(content, model):
    """The normalization and the classes in the metadata of a file, ours or a third-party one.

    Args:
        content: bytes of a `.tflite` file.
        model: the same, unpacked by `flatbuffer.unpack`.

    Returns:
        dict: `normalization`: mean and standard deviation of pixels 0..255, `[3]` arrays each; `classes`: `Classes`.
        What the file does not say is missing.
    """
    result = {}
    # Third-party metadata may be damaged in any way, and the file runs without them; what was read before stays.
    with contextlib.suppress(Exception):
        entry = _entry(model, _METADATA)
        if entry is None:
            return {}
        values = metadata_schema.unpack(entry, "ModelMetadata", _IDENTIFIER)
        (graph,) = values["subgraph_metadata"]
        for unit in graph["input_tensor_metadata"][0].get("process_units", ()):
            if unit.get("options_type") == _NORMALIZATION_OPTIONS:
                result["normalization"] = _normalization(unit["options"])
        for tensor in graph.get("output_tensor_metadata", ()):
            for file in tensor.get("associated_files", ()):
                if file.get("type") in (_AXIS_LABELS, _VALUE_LABELS):
                    result["classes"] = classes.of_others(_read_file(content, file["name"]).splitlines())
        # Ours; the names are those of `labels.txt`.
        stated = classes.of_json(text_files.parse_json(_read_file(content, FILE)))
        if stated.names == result["classes"].names:
            result["classes"] = stated
    return result


def _normalization(options):
    mean, std = (np.broadcast_to(np.array(options[name], float), 3) for name in ("mean", "std"))
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 1e-6).all()):
        raise ValueError("mean and standard deviation are no numbers to compute with")
    return mean, std


def _read_file(content, name):
    """The text of a file in the archive behind a `.tflite`; only so much of it is unpacked as labels may have."""
    with archives.open_zip(io.BytesIO(content), MAX_LABELS) as archive, archive.open(name) as file:
        text = file.read(MAX_LABELS + 1)
    if len(text) > MAX_LABELS:
        raise ValueError(f"the labels have more than {MAX_LABELS} bytes")
    return text.decode()


def _model(inputs, outputs, info):
    """The table ModelMetadata of a file with these inputs and outputs, `{name, shape, dtype}` each."""
    graph = {
        "input_tensor_metadata": [_image(tensor) for tensor in inputs],
        "output_tensor_metadata": [_output(tensor, len(info.classes)) for tensor in outputs],
    }
    (output, *more), parser = [tensor["name"] for tensor in outputs], _PARSER
    if not more and output in _OUTPUT_ACTIVATIONS:
        activation = _ACTIVATIONS.index(_OUTPUT_ACTIVATIONS[output])
        options = {"activation": activation, "min_parser_version": "1.0.0"}
        data = metadata_schema.pack("ImageSegmenterOptions", options, _SEGMENTER_IDENTIFIER)
        graph["custom_metadata"] = [{"name": _SEGMENTER, "data": data}]
        parser = _SEGMENTER_PARSER
    values = {
        "name": info.name,
        "description": f"{info.description} SHA-256 of the checkpoint: {info.checkpoint_sha256}",
        "version": info.version,
        "subgraph_metadata": [graph],
        "author": info.author,
        "license": info.license,
        "min_parser_version": parser,
    }
    return {field: value for field, value in values.items() if value}


def _image(tensor):
    """The table TensorMetadata of the input."""
    values = {"name": tensor["name"], "content": _picture(_RGB)}
    if tensor["dtype"] != "float32":
        # Without a process unit readers put in the photo as it is.
        description = "Photo in RGB, 0 to 255. The model normalizes it."
        return values | {"description": description, "stats": {"max": [255], "min": [0]}}
    # In the schema's terms: what a reader does with values of 0 to 255.
    mean, std = 255 * np.array(MEAN), 255 * np.array(STD)
    return values | {
        "description": "Photo in RGB, normalized with ImageNet's mean and standard deviation.",
        "process_units": [{"options_type": _NORMALIZATION_OPTIONS, "options": {"mean": mean, "std": std}}],
        "stats": {"max": (255 - mean) / std, "min": -mean / std},
    }


def _output(tensor, num_classes):
    """The table TensorMetadata of an output."""
    name = tensor["name"]
    labels = {
        "name": LABELS_FILE,
        "description": "Names of the classes, one a line.",
        "type": _VALUE_LABELS if name == "labels" else _AXIS_LABELS,
    }
    values = {
        "name": name,
        "description": _OUTPUTS[name],
        # Axes 1 and 2 are those of the picture.
        "content": _picture(_GRAYSCALE) | {"range": {"min": 1, "max": 2}},
        "associated_files": [labels],
    }
    largest = {"labels": num_classes - 1, "probabilities": 1}
    if name in largest:
        values["stats"] = {"max": [largest[name]], "min": [0]}
    return values


def _picture(color_space):
    """The table Content of a tensor that holds pictures."""
    return {"content_properties_type": _IMAGE_PROPERTIES, "content_properties": {"color_space": color_space}}


def _entry(model, name):
    """Bytes of an entry of the model's own metadata; None if there is none."""
    buffers = [entry.buffer for entry in model.metadata or () if entry.name == name.encode()]
    return model.buffers[buffers[-1]].data.tobytes() if buffers else None


def _append_files(content, files):
    """Puts a zip archive of files, name -> text, behind `content`; its offsets count from where that begins."""
    stream = io.BytesIO()
    stream.write(content)
    with zipfile.ZipFile(stream, "w") as archive:
        for name, text in files.items():
            # Its time is always 1980 and its system always Unix, so that equal models make equal files.
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, text)
    return stream.getvalue()
