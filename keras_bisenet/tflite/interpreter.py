"""Runs a `.tflite` file in LiteRT."""

import functools
import os
import threading
import warnings

from ai_edge_litert.interpreter import Interpreter

from keras_bisenet.tflite import flatbuffer

# `warnings.catch_warnings` changes the filters of the whole process, see `_open`.
_FILTERS_LOCK = threading.Lock()


class TFLiteRunner:
    """One `.tflite` file, ready to run image after image. Not thread-safe: make one per thread.

    A process that was forked opens the file anew at its first image, as it has none of LiteRT's threads.

    Args:
        content: bytes of the file.
        num_threads: threads of XNNPACK; None for all cores.
        shape: of the input, for a file that leaves it open.
        inner: dict, str name -> int index of a tensor to return besides the outputs, see `flatbuffer.find_scores`. The
            values are those of the plain file, bit for bit; but LiteRT then keeps all tensors in memory, for a float32
            BiSeNet at 512x512 about 160 MiB more than the outputs alone need.
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
        preserve_all_tensors = not outputs.keys() >= {*self._indices.values()}
        self._open = functools.partial(_open, content, num_threads or os.cpu_count(), preserve_all_tensors, shape)
        self._interpreter, self._process = self._open(), os.getpid()
        (self._input,) = self._interpreter.get_input_details()

    def __call__(self, image):
        """Runs the file.

        Args:
            image: `[1, H, W, 3]` array of the file's shape and dtype.

        Returns:
            dict: name -> array, for each output and each tensor of `inner`. The name of an output is that of the
            signature; see `flatbuffer.signature_names` for a file without one.
        """
        if self._process != os.getpid():
            self._interpreter, self._process = self._open(), os.getpid()
        self._interpreter.set_tensor(self._input["index"], image)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._indices.items()}


def _open(content, num_threads, preserve_all_tensors, shape):
    """An `Interpreter` of the file, ready to run. With all tensors preserved, XNNPACK computes the inner ones too."""
    if preserve_all_tensors:
        with _FILTERS_LOCK, warnings.catch_warnings():
            # That it needs more memory.
            warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors", UserWarning)
            interpreter = Interpreter(
                model_content=content, num_threads=num_threads, experimental_preserve_all_tensors=True
            )
    else:
        interpreter = Interpreter(model_content=content, num_threads=num_threads)
    if shape is not None:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
    interpreter.allocate_tensors()
    return interpreter
