"""A `.tflite` that takes a normalised image and returns logits, with numpy around it."""

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.runtimes.numpy_processing import NumpyProcessing


class Runner:
    """See `runtimes.runners`. Reads and writes the interpreter's own memory, which saves copying 20 MB of logits.

    Image and logits are float32 or int8.

    Args:
        path, threads, inputs: see `benchmarks.runtimes.runners`.
        layout: `"nhwc"` or `"nchw"`.
    """

    def __init__(self, path, threads, inputs, layout):
        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        self._interpreter.allocate_tensors()
        (image,), (logits,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._image = self._interpreter.tensor(image["index"])
        self._logits = self._interpreter.tensor(logits["index"])
        quantization = image["quantization"] if image["dtype"] == np.int8 else None
        self._processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, layout, quantization)

    def prepare(self, photo):
        self._processing.normalize(photo, self._image())

    def run(self, _prepared):
        self._interpreter.invoke()

    def labels(self, _outputs):
        return self._processing.labels(self._logits())
