"""An `.onnx` in ONNX Runtime, with numpy around it."""

import numpy as np
import onnxruntime

from benchmarks.runtimes.numpy_processing import NumpyProcessing


class Runner:
    """See `benchmarks.runtimes.runners`. The session writes into an array made once, and not 20 MB anew each time."""

    def __init__(self, path, threads, inputs):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (image,), (logits,) = self._session.get_inputs(), self._session.get_outputs()
        self._image, self._logits = np.zeros(image.shape, np.float32), np.zeros(logits.shape, np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input(image.name, onnxruntime.OrtValue.ortvalue_from_numpy(self._image))
        self._binding.bind_ortvalue_output(logits.name, onnxruntime.OrtValue.ortvalue_from_numpy(self._logits))
        self._processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, "nchw")

    def prepare(self, photo):
        self._processing.normalize(photo, self._image)

    def run(self, _prepared):
        self._session.run_with_iobinding(self._binding)

    def labels(self, _outputs):
        return self._processing.labels(self._logits)
