"""The network as ONNX, run in ONNX Runtime: a second reference for results, beside PyTorch itself.

Nothing here lies on the way to TFLite (imports onnx and onnxruntime).
"""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime

from weight_port.errors import OnnxError
from weight_port.reference.onnx_file import OnnxFile, Tensor, first_line, shape_text

# The oldest that torch's exporter writes directly, so the oldest runtimes can read it.
OPSET = 18


def export(network: Any, size: tuple[int, int], path: str | os.PathLike, heads: Sequence[str]) -> None:
    """Writes a PyTorch network as one `.onnx` file with its weights inside.

    The file's input is `image`: `[1, 3, H, W]` float32 RGB, normalized. Its outputs are `heads`, each
    `[1, classes, H, W]` float32 logits. The exporter folds batch norm into the convolutions.

    Args:
        network: a `torch_reference.BiSeNet` in evaluation mode.
        size: (height, width).
        path: file to write.
        heads: names of the main head and the auxiliary heads at strides 8 and 16.

    Raises:
        ModuleNotFoundError: onnxscript, which torch's exporter needs, is not installed.
        OSError: the file cannot be written.
    """
    import torch

    # Asked for by name, so that the error names it if it is missing, and not one of the exporter's own parts.
    importlib.import_module("onnxscript")

    with _quiet_exporter():
        program = torch.onnx.export(
            network,
            (torch.zeros(1, 3, *size),),
            input_names=["image"],
            output_names=list(heads),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # with dynamo=True it never is
    # Saved here because program.save puts weights into a second file where torch sees fit.
    model = program.model_proto
    graph = model.graph
    # The exporter notes the source lines of each op, with the paths of the machine it ran on.
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]
    onnx.save_model(model, str(path), format="protobuf")


@contextlib.contextmanager
def _quiet_exporter():
    """Keeps torch's exporter from printing what is no fault (torchvision is missing, deprecations in torch itself)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class OnnxReference:
    """An ONNX file in ONNX Runtime (CPU, float32), for NHWC arrays.

    Args:
        file: by `onnx_file.inspect`.
        size: (height, width) of the images.
        num_classes: channels of each head.
        heads: names of the main head and the auxiliary heads. Outputs with these names are taken by name; otherwise a
            single output is the main head, and as many outputs as heads are taken in order.

    Attributes:
        heads: those of `heads` that the file returns, the main head first.

    Raises:
        OnnxError: ONNX Runtime refuses the file, or it does not turn one image into logits of every pixel.
    """

    def __init__(self, file: OnnxFile, size: tuple[int, int], num_classes: int, heads: Sequence[str]) -> None:
        self._file = file
        self._channels_first = file.channel_axis() == 1
        self._size = tuple(size)
        self._num_classes = num_classes
        self._outputs = self._match(heads)
        self.heads = tuple(self._outputs)
        options = onnxruntime.SessionOptions()
        # What goes wrong arrives as an exception; it need not be printed as well.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(file.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the classes that ONNX Runtime raises have no common base of their own
            raise OnnxError(f"{file.path}: ONNX Runtime cannot load it: {first_line(error)}") from error
        # A wrong output shows on any image; this one comes before hours of photos.
        self(np.zeros((1, *self._size, 3), np.float32))

    def _match(self, heads):
        """Head -> name of the output that gives it."""
        names = [tensor.name for tensor in self._file.outputs]
        if heads[0] in names and set(names) <= set(heads):
            return {head: head for head in heads if head in names}
        if len(names) in (1, len(heads)):
            return dict(zip(heads, names, strict=False))
        found = "; ".join(map(str, self._file.outputs))
        raise OnnxError(
            f"{self._file.path}: has {len(names)} outputs, {found}; expected 1 (the logits of the main head) or "
            f"{len(heads)} (those of all heads)"
        )

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Runs the network.

        Args:
            images: `[1, H, W, 3]` float32 RGB, normalized.

        Returns:
            Head -> `[1, H, W, num_classes]` float32 logits.

        Raises:
            OnnxError: the model fails, or an output is not as above.
        """
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self._channels_first else images
        try:
            results = self._session.run(list(self._outputs.values()), {self._file.inputs[0].name: x})
        except Exception as error:  # see __init__
            raise OnnxError(
                f"{self._file.path}: ONNX Runtime fails on an image of {self._size_text()}: {first_line(error)}"
            ) from error
        return {
            head: self._logits(name, result)
            for (head, name), result in zip(self._outputs.items(), results, strict=True)
        }

    def _logits(self, name, result):
        """Brings one output to `[1, H, W, num_classes]`."""
        first, last = (1, self._num_classes, *self._size), (1, *self._size, self._num_classes)
        is_float = isinstance(result, np.ndarray) and result.dtype == np.float32
        if is_float and result.shape == first:
            logits = np.ascontiguousarray(result.transpose(0, 2, 3, 1))
        elif is_float and result.shape == last:
            logits = result
        else:
            array = isinstance(result, np.ndarray)
            found = Tensor(name, result.dtype.name, result.shape) if array else f"{name} {type(result).__name__}"
            raise OnnxError(
                f"{self._file.path}: returns {found} for an image of {self._size_text()}; expected float32 logits of "
                f"{self._num_classes} classes at every pixel, {shape_text(first)} or {shape_text(last)}"
            )
        if logits.min() >= 0 and np.abs(logits.sum(-1) - 1).max() < 1e-3:
            raise OnnxError(
                f"{self._file.path}: the output {name} holds probabilities (they sum to 1 at every pixel); expected "
                "logits, from before the softmax"
            )
        return logits

    def _size_text(self):
        return "x".join(map(str, self._size))
