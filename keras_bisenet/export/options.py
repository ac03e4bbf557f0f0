"""What an export is to be, and which wishes go together (imports no TensorFlow)."""

import dataclasses
from collections.abc import Sequence

from keras_bisenet.models.architecture import HEADS
from keras_bisenet.preprocessing import MINIMUM_SIZE
from keras_bisenet.utils.errors import ExportError

PRECISIONS = ("float32", "float16", "dynamic", "int8")
INPUTS = ("uint8", "float32")
# The logits at an eighth of the photo's height and width, which the caller resizes; of an int8 file integers.
SCORES = "scores"
# What `--output` offers -> the outputs of the file, by name and in order.
OUTPUTS = {
    "labels": ("labels",),
    "logits": ("logits",),
    "probabilities": ("probabilities",),
    SCORES: (SCORES,),
    "all_heads": HEADS,
}
# What a SavedModel offers: the labels alone, or the probabilities too.
SAVED_MODEL_OUTPUTS = ("labels", "probabilities")


@dataclasses.dataclass(frozen=True)
class _Target:
    """Inputs, outputs and precisions that a target offers; the first output and `default` are what it takes unasked."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precisions: tuple[str, ...] = PRECISIONS
    default: tuple[str, ...] = ("float32", "float16")


# What `--target` offers. MediaPipe's ImageSegmenter makes its masks of scores and feeds photos as they are; an NPU
# computes with integers alone; a SavedModel is no `.tflite` and has no precisions.
TARGETS = {
    "litert": _Target(INPUTS, tuple(OUTPUTS)),
    "mediapipe": _Target(("uint8",), ("logits", "probabilities")),
    "npu": _Target(("uint8",), (SCORES,), ("int8",), ("int8",)),
    "saved_model": _Target(("uint8",), SAVED_MODEL_OUTPUTS, (), ()),
}


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What all files of an export have in common, and which precisions of a `.tflite` there are.

    Attributes:
        target: key of `TARGETS`.
        image_size: (height, width).
        input_type, output: see `deployment.deploy`.
        precisions: some of `PRECISIONS`; none for a SavedModel.
    """

    target: str
    image_size: tuple[int, int]
    input_type: str
    output: str
    precisions: tuple[str, ...]


def check_precisions(names: Sequence[str]) -> None:
    """Raises `ExportError` unless there are names and all are of `PRECISIONS`."""
    offered = ", ".join(PRECISIONS)
    if not names:
        raise ExportError(f"no precision is asked for; expected some of {offered}")
    for name in names:
        if name not in PRECISIONS:
            raise ExportError(f"precision is {name!r}; expected one of {offered}")


def check_size(image_size: tuple[int, int]) -> None:
    """Raises `ExportError` if a (height, width) is smaller than what the network takes."""
    if min(image_size) < MINIMUM_SIZE:
        raise ExportError(f"image size is {image_size[0]}x{image_size[1]}; each side must be at least {MINIMUM_SIZE}")


def resolve(target, image_size, input_type=None, output=None, precisions=None, calibrated=False):
    """Fills in what is not asked for.

    Args:
        target: key of `TARGETS`.
        image_size: (height, width).
        input_type, output, precisions: see `ExportOptions`; None for the target's own.
        calibrated: whether photos to calibrate on are asked for.

    Returns:
        `ExportOptions`.

    Raises:
        ExportError: there is no such target or precision, the target does not go with a wish, or the size is too small.
    """
    check_size(image_size)
    if target not in TARGETS:
        raise ExportError(f"target is {target!r}; expected one of {', '.join(TARGETS)}")
    offer = TARGETS[target]
    for what, wish, offered in (("input", input_type, offer.inputs), ("output", output, offer.outputs)):
        if wish not in (None, *offered):
            raise ExportError(f"the target {target} has no {what} {wish!r}; expected {' or '.join(offered)}")
    if precisions is None:
        precisions = offer.default
    elif offer.precisions:
        check_precisions(precisions)
        for name in precisions:
            if name not in offer.precisions:
                expected = " or ".join(offer.precisions)
                raise ExportError(f"the target {target} has no precision {name!r}; expected {expected}")
    else:
        raise ExportError(f"the target {target} is float32 alone; leave the precisions out")
    if calibrated and "int8" not in precisions:
        found = ", ".join(precisions) or "none"
        raise ExportError(f"photos to calibrate on serve the precision int8 alone; found {found}; leave them out")
    return ExportOptions(
        target, image_size, input_type or "uint8", output or offer.outputs[0], tuple(dict.fromkeys(precisions))
    )
