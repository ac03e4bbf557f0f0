"""An `.xml` in OpenVINO, with numpy around it."""

import openvino

from benchmarks.runtimes.numpy_processing import NumpyProcessing


class Runner:
    """See `benchmarks.runtimes.runners`. Reads and writes OpenVINO's own memory."""

    def __init__(self, path, threads, inputs):
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            # Where the processor has bfloat16, OpenVINO would compute in that.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        self._image = self._request.get_input_tensor().data
        self._logits = self._request.get_output_tensor().data
        self._processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, "nchw")

    def prepare(self, photo):
        self._processing.normalize(photo, self._image)

    def run(self, _prepared):
        self._request.infer()

    def labels(self, _outputs):
        return self._processing.labels(self._logits)
