"""Runs a `.tflite` file in LiteRT."""

import functools
import os

from ai_edge_litert.interpreter import Interpreter

from keras_bisenet.tflite import flatbuffer


class TFLiteRunner:
    """One `.tflite` file, ready to run image after image. Not thread-safe: make one per thread.

    A process that was forked opens the file anew at its first image, as it has none of LiteRT's threads.

    Args:
        content: bytes of the file.
        num_threads: threads of XNNPACK; None for all cores.
        shape: of the input, for a file that leaves it open.
        inner: dict, str name -> int index of a tensor to return besides the outputs, see `flatbuffer.find_scores`. The
            values are those of the plain file, bit for bit.
        model: the file as `flatbuffer.unpack` gives it, so that it is not unpacked twice; None to unpack it here.

    Attributes:
        quantization: dict, name of a result -> (scale, zero point) of integers that stand for real numbers, else
            (0, 0).

    Raises:
        RuntimeError, ValueError: LiteRT cannot run the file.
    """

    def __init__(self, content, num_threads=None, shape=None, inner=None, model=None):
        model = model or flatbuffer.unpack(content)
        (graph,) = model.subgraphs
        _, outputs = flatbuffer.signature_names(model)
        self._indices = {name: index for index, name in outputs.items()} | (inner or {})
        self.quantization = {
            name: flatbuffer.quantization(graph.tensors[index]) for name, index in self._indices.items()
        }
        hidden = {*self._indices.values()} - outputs.keys()
        # LiteRT keeps the values of an inner tensor only if it is an output.
        content = flatbuffer.with_outputs(content, hidden) if hidden else content
        self._open = functools.partial(_open, content, num_threads or os.cpu_count(), shape)
        self._interpreter, self._process = self._open(), os.getpid()
        (self._input,) = self._interpreter.get_input_details()

    def __call__(self, image, is_lent=False):
        """Runs the file.

        Args:
            image: `[1, H, W, 3]` array of the file's shape and dtype.
            is_lent: whether the results may lie in LiteRT's memory. They must be gone, with all views of them, when the
                file runs again.

        Returns:
            dict: name -> array, for each output and each tensor of `inner`. The name of an output is that of the
            signature; see `flatbuffer.signature_names` for a file without one.
        """
        if self._process != os.getpid():
            self._interpreter, self._process = self._open(), os.getpid()
        self._interpreter.set_tensor(self._input["index"], image)
        self._interpreter.invoke()
        read = (lambda index: self._interpreter.tensor(index)()) if is_lent else self._interpreter.get_tensor
        return {name: read(index) for name, index in self._indices.items()}


def _open(content, num_threads, shape):
    """An `Interpreter` of the file, ready to run."""
    interpreter = Interpreter(model_content=content, num_threads=num_threads)
    if shape is not None:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    interpreter.allocate_tensors()
    return interpreter
