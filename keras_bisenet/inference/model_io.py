"""The inputs and outputs of a `.tflite` file, ours or a third-party one, read from the file itself."""

import dataclasses
import math
import warnings

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_bisenet.classes import Classes
from keras_bisenet.preprocessing import OFFSET, SCALE
from keras_bisenet.tflite import flatbuffer, metadata
from keras_bisenet.utils.errors import ModelError
from keras_bisenet.utils.text_files import shown

# What networks of this kind are fed, as (scale, offset) of pixels 0..255, a number a channel.
NORMALIZATIONS = {
    "0..255": (np.ones(3), np.zeros(3)),
    "0..1": (np.full(3, 1 / 255), np.zeros(3)),
    "-1..1": (np.full(3, 2 / 255), np.full(3, -1.0)),
    "imagenet": (np.array(SCALE), np.array(OFFSET)),
}

# Size of the photos for a file that takes any.
DEFAULT_SIZE = (512, 512)
# Longest side of the photos that a file may take; running it takes memory in proportion.
MAX_SIDE = 8192
# Names of the output that counts, as our files have them in the signature; the first that is there.
MAIN_OUTPUTS = ("logits", "probabilities", "labels")

_ARITHMETIC = ("ADD", "SUB", "MUL", "DIV")
_TRANSPARENT = ("CAST", "DEQUANTIZE", "PAD", "PADV2", "QUANTIZE", "RESHAPE", "TRANSPOSE")


@dataclasses.dataclass(frozen=True)
class ModelIO:
    """How to put a photo into a file, and what its output means.

    Attributes:
        image_size: (height, width).
        shape: of the input, to be set before it runs; None where the file has it.
        dtype: of the input.
        channels_first: whether the input is `[1, 3, H, W]`.
        scale, offset: `[3]`; the network computes with pixel * scale + offset.
        quantization: (scale, zero point) of an integer input; (0, 0) for none.
        output: name of the output that counts, as the signature has it.
        returns_labels: whether it is class ids; otherwise scores of each class.
        channels_last: whether the scores are `[1, h, w, C]`; `[1, h, w]` are scores of one class.
        aligned: whether scores are resized with their corners aligned, as the file's metadata say.
        activation: what computes the scores, `"SOFTMAX"`, `"LOGISTIC"` or None for anything else.
        one_score: whether there is one score a pixel, that of class 1; class 0 is the rest.
        num_classes: None where a file that returns labels does not tell.
        classes: `Classes` that its metadata states, or None.
        scores: index of the inner tensor with the scores that labels are made of, or None.
        scores_channels_last: whether that tensor is `[1, h, w, C]`.
    """

    image_size: tuple[int, int]
    shape: tuple[int, ...] | None
    dtype: str
    channels_first: bool
    scale: np.ndarray
    offset: np.ndarray
    quantization: tuple[float, int]
    output: str
    returns_labels: bool
    channels_last: bool
    aligned: bool
    activation: str | None
    one_score: bool
    num_classes: int | None
    classes: Classes | None
    scores: int | None
    scores_channels_last: bool

    def encode(self, image):
        """The input tensor of an image `[*image_size, 3]` uint8 RGB."""
        scale, zero_point = self.quantization
        if self.dtype == "uint8" and not zero_point and np.allclose(self.scale, scale or 1) and not self.offset.any():
            tensor = image
        else:
            tensor = image * self.scale.astype(np.float32) + self.offset.astype(np.float32)
            if scale:
                limits = np.iinfo(self.dtype)
                tensor = (np.rint(tensor / scale) + zero_point).clip(limits.min, limits.max)
        tensor = tensor.astype(self.dtype, copy=False)[np.newaxis]
        return np.ascontiguousarray(tensor.transpose(0, 3, 1, 2)) if self.channels_first else tensor

    def read_scores(self, tensor):
        """Scores `[h, w, C]` of the output, or of the inner tensor where the output is labels."""
        channels_last = self.scores_channels_last if self.returns_labels else self.channels_last
        tensor = tensor[0] if tensor.ndim == 4 else tensor[0, ..., np.newaxis]
        return tensor if channels_last else tensor.transpose(1, 2, 0)


def read(path, content, image_size=None, normalization=None, model=None, output=None):
    """Reads the inputs and outputs of a file.

    The metadata of the file counts first, then the range of a quantized input, then what the graph does
    first to a float input: dividing by 255 tells of pixels, subtracting 0.485 of 0..1. A convolution at once tells
    nothing: ImageNet's normalization is assumed then, with a warning. Integers without quantization are pixels.

    Args:
        path: for messages.
        content: bytes of the file.
        image_size: (height, width) or None; for a file that takes any size.
        normalization: key of `NORMALIZATIONS`, which then counts; None to read it from the file.
        model: the file as `flatbuffer.load` gives it, if that is at hand.
        output: name of the output that counts. None for the first of `MAIN_OUTPUTS` that the signature has, or else
            the one map of the largest height and width; of several the labels, or the one with several channels, or
            with as many as the metadata have classes.

    Returns:
        `ModelIO`.

    Raises:
        ModelError: it is no file that takes one photo and returns labels or scores of each pixel; or it takes
            another size; or there is no such normalization or output; or several outputs remain and none is named by
            `output` or in `MAIN_OUTPUTS`.
    """
    if normalization not in (None, *NORMALIZATIONS):
        raise ModelError(f"normalization is {normalization!r}; expected one of {', '.join(NORMALIZATIONS)}")
    model = model or flatbuffer.unpack(content)
    (graph,) = model.subgraphs
    input_names, output_names = flatbuffer.signature_names(model)
    inputs, outputs = (flatbuffer.tensors(model, names) for names in (input_names, output_names))
    found = f"takes {_listed(inputs)} and returns {_listed(outputs)}"
    refusal = ModelError(
        f"{path}: {found}; expected one RGB photo in, and labels or scores of each of its pixels out: is it a "
        "segmentation model?"
    )
    outputs = [
        each
        | {
            "index": index,
            "shape": _shape(graph.tensors[index]),
            "quantization": flatbuffer.quantization(graph.tensors[index]),
        }
        for each, index in zip(outputs, output_names, strict=True)
    ]
    names = [each["name"] for each in outputs]
    if len({*names}) < len(names):
        raise ModelError(f"{path}: has several outputs of one name: {_listed(outputs)}; rename them")
    outputs = [each for each in outputs if _is_map(each["shape"])]
    if len(inputs) != 1 or not outputs:
        raise refusal
    tensor = graph.tensors[graph.inputs[0]]
    shape = _shape(tensor)
    dtype = inputs[0]["dtype"]
    if len(shape) != 4 or 3 not in (shape[1], shape[3]) or dtype not in ("float32", "uint8", "int8"):
        raise refusal
    channels_first = shape[3] != 3
    fixed = tuple(shape[2:] if channels_first else shape[1:3])
    if 0 in shape or max(fixed) > MAX_SIDE:
        raise ModelError(f"{path}: takes photos of {fixed[0]}x{fixed[1]}; expected sides of 1 to {MAX_SIDE}")
    if -1 not in fixed:
        check_size(path, fixed, image_size)
    size = (image_size or DEFAULT_SIZE) if -1 in fixed else fixed
    whole = (1, 3, *size) if channels_first else (1, *size, 3)

    found_there = metadata.of_others(content, model)
    stated = found_there.get("classes")
    for each in outputs:
        each["shape"] = _of_size(each["shape"], size)
    output = _main_output(path, outputs, output, size, stated)
    returns_labels = _returns_labels(output)
    aligned = metadata.is_aligned(model) and not returns_labels and len(output["shape"]) == 4
    channels_last = aligned or _is_channels_last(output["shape"], size)
    channels = output["shape"][3] if aligned else _channels(output["shape"], size)
    scores = _find_scores(model, output, size) if returns_labels else None
    num_classes = len(stated) if stated else None
    if scores is not None:
        num_classes = scores.num_classes
    elif not returns_labels:
        num_classes = max(channels, 2)
    scale, offset = _scale_and_offset(path, model, tensor, dtype, normalization, found_there.get("normalization"))
    return ModelIO(
        image_size=size,
        shape=whole if -1 in shape else None,
        dtype=dtype,
        channels_first=channels_first,
        scale=scale,
        offset=offset,
        quantization=flatbuffer.quantization(tensor),
        output=output["name"],
        returns_labels=returns_labels,
        channels_last=channels_last,
        aligned=aligned,
        activation=_activation(model, output),
        one_score=not returns_labels and channels == 1,
        num_classes=num_classes,
        classes=stated if stated and len(stated) == num_classes else None,
        scores=scores and scores.index,
        scores_channels_last=scores is not None and scores.channels_last,
    )


def check_size(path, fixed, asked):
    """Raises `ModelError` if another (height, width) is asked for than the file is fixed to; None asks for none."""
    if asked not in (None, fixed):
        raise ModelError(
            f"{path}: takes photos of {fixed[0]}x{fixed[1]} alone, not of {asked[0]}x{asked[1]}; "
            "leave the image size out"
        )


def _listed(tensors):
    found_there = [f"{shown(tensor['name'])} {tensor['dtype']} {tensor['shape']}" for tensor in tensors[:5]]
    return ", ".join([*found_there, *(["..."] if len(tensors) > 5 else [])])


def _shape(tensor):
    """Sides of a tensor; -1 for one that is open."""
    return [int(side) for side in (tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature)]


def _is_map(shape):
    """Whether a shape can be that of a map over the photo: `[1, h, w]`, `[1, h, w, C]` or `[1, C, h, w]`."""
    return len(shape) in (3, 4) and shape[0] in (1, -1) and sum(side != 1 for side in shape[1:]) >= 2 and 0 not in shape


def _of_size(shape, size):
    """A shape whose open sides are those of the photo: height, then width."""
    sides = iter(size)
    return [1, *(next(sides, 1) if side == -1 else side for side in shape[1:])]


def _is_channels_last(shape, size):
    """Whether a map `[1, h, w, C]` or `[1, C, h, w]` has its channels last; `[1, h, w]` counts as if it had.

    The height and width are those in the proportion of the photo's.
    """
    if len(shape) < 4:
        return True
    last, first = (abs(height * size[1] - width * size[0]) for height, width in (shape[1:3], shape[2:4]))
    return last < first or (last == first and shape[3] <= max(shape[1:3]))


def _sides(shape, size):
    """Height and width of a map."""
    return tuple(shape[1:3] if _is_channels_last(shape, size) else shape[2:4])


def _channels(shape, size):
    return 1 if len(shape) < 4 else shape[3] if _is_channels_last(shape, size) else shape[1]


def _returns_labels(output):
    """Whether an output is class ids: integers that stand for themselves, one a pixel."""
    integers = output["dtype"] in ("uint8", "int8", "int32", "int64") and not output["quantization"][0]
    return integers and (len(output["shape"]) == 3 or 1 in output["shape"][1:])


def _activation(model, output):
    """`"SOFTMAX"` or `"LOGISTIC"` if that computes an output, else None."""
    operator = flatbuffer.computed_by(model, output["index"])
    name = operator and flatbuffer.op_name(model, operator)
    return name if name in ("SOFTMAX", "LOGISTIC") else None


def _scale_and_offset(path, model, tensor, dtype, normalization, of_metadata):
    """What pixels are multiplied by and what is added then, `[3]` each."""
    if dtype != "float32" and not flatbuffer.quantization(tensor)[0]:
        if normalization not in (None, "0..255"):
            raise ModelError(
                f"{path}: takes {dtype} without a scale, so pixels of 0 to 255; normalization is "
                f"{normalization!r}, expected '0..255' or none"
            )
        return NORMALIZATIONS["0..255"][0], np.full(3, -128.0 if dtype == "int8" else 0.0)
    if normalization is not None:
        return NORMALIZATIONS[normalization]
    if of_metadata is not None:
        mean, std = of_metadata
        return 1 / std, -mean / std
    found = _normalization(model, tensor, dtype)
    if found is None:
        warnings.warn(
            f"{path}: does not say how photos are normalized; assumed is ImageNet's mean and standard deviation; if "
            "labels are wrong, try FaceParser(..., normalization='0..1') or another of "
            f"{', '.join(map(repr, NORMALIZATIONS))}",
            stacklevel=2,
        )
    return NORMALIZATIONS[found or "imagenet"]


@dataclasses.dataclass(frozen=True)
class _Scores:
    """The inner tensor with the scores that labels are made of."""

    index: int
    channels_last: bool
    num_classes: int


def _find_scores(model, output, size):
    """`_Scores` behind an output with labels; None if no ARG_MAX over the classes of each pixel computes it."""
    index = flatbuffer.find_scores(model, output["index"])
    if index is None:
        return None
    shape = _of_size(_shape(model.subgraphs[0].tensors[index]), size)
    height_and_width = [side for side in output["shape"][1:] if side != 1]
    if len(shape) != 4:
        return None
    axis = flatbuffer.class_axis(model, output["index"])
    if axis in (3, -1, None) and shape[1:3] == height_and_width and shape[3] > 0:
        return _Scores(index, True, shape[3])
    if axis in (1, -3, None) and shape[2:4] == height_and_width and shape[1] > 0:
        return _Scores(index, False, shape[1])
    return None


def _main_output(path, outputs, wanted, size, stated):
    """The output that counts, of those that are maps over the photo."""
    by_name = {each["name"]: each for each in outputs}
    if wanted is not None:
        if wanted not in by_name:
            raise ModelError(f"{path}: has no output {wanted!r}; its maps over the photo are {_listed(outputs)}")
        return by_name[wanted]
    for name in MAIN_OUTPUTS:
        if name in by_name:
            return by_name[name]
    pixels = [math.prod(_sides(each["shape"], size)) for each in outputs]
    largest = [each for each, count in zip(outputs, pixels, strict=True) if count == max(pixels)]
    # A depth has one channel, features have any number: of scores and features none can be told.
    for is_better in (
        _returns_labels,
        lambda each: _channels(each["shape"], size) > 1,
        lambda each: stated and _channels(each["shape"], size) == len(stated),
    ):
        better = [each for each in largest if is_better(each)]
        largest = better or largest
    if len(largest) > 1:
        raise ModelError(
            f"{path}: returns {len(largest)} maps of one size, {_listed(largest)}, and none of them is called "
            f"{', '.join(MAIN_OUTPUTS[:-1])} or {MAIN_OUTPUTS[-1]}; name the one that counts, "
            f"as in FaceParser(..., output={largest[0]['name']!r})"
        )
    return largest[0]


def _normalization(model, tensor, dtype):
    """Key of `NORMALIZATIONS`, of a file whose metadata do not tell; None if nothing tells."""
    if dtype == "float32":
        return _first_arithmetic(model)
    scale, zero_point = flatbuffer.quantization(tensor)
    limits = np.iinfo(dtype)
    low, high = ((limit - zero_point) * scale for limit in (limits.min, limits.max))
    if not scale or high > 4:
        return "0..255"
    return "0..1" if low > -0.5 else "-1..1" if high < 1.5 else "imagenet"


def _first_arithmetic(model):
    """What the graph expects of a float photo, by the first thing that it computes; None if that does not tell."""
    (graph,) = model.subgraphs
    index = graph.inputs[0]
    # The first few ops tell, or none does.
    for _ in range(20):
        users = [operator for operator in graph.operators if index in operator.inputs]
        if not users:
            return None
        name = flatbuffer.op_name(model, users[0])
        if name in _ARITHMETIC:
            constants = [_constant(model, graph, other) for other in users[0].inputs if other not in (index, -1)]
            if not constants or constants[0] is None or not constants[0].size:
                return None
            size = np.abs(constants[0]).max()
            of_pixels = {"DIV": size > 4, "MUL": size < 0.1}.get(name, size > 4)
            return "0..255" if of_pixels else "0..1"
        if name not in _TRANSPARENT:
            return None
        index = users[0].outputs[0]
    return None


def _constant(model, graph, index):
    """Values of a float constant, be it stored as float16; None if it is none."""
    for operator in graph.operators:
        if index in operator.outputs and flatbuffer.op_name(model, operator) == "DEQUANTIZE":
            index = operator.inputs[0]
    tensor = graph.tensors[index]
    data = model.buffers[tensor.buffer].data
    dtypes = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
    return None if data is None or tensor.type not in dtypes else np.frombuffer(data.tobytes(), dtypes[tensor.type])
