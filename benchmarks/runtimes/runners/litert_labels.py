"""A `.tflite` that does all of it: photo in, labels out."""

from ai_edge_litert.interpreter import Interpreter


class Runner:
    """See `benchmarks.runtimes.runners`."""

    def __init__(self, path, threads, _inputs):
        self._interpreter = Interpreter(model_path=path, num_threads=threads)
        self._interpreter.allocate_tensors()
        (self._input,), (self._output,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()

    def prepare(self, photo):
        self._interpreter.set_tensor(self._input["index"], photo[None])

    def run(self, _prepared):
        self._interpreter.invoke()

    def labels(self, _outputs):
        return self._interpreter.get_tensor(self._output["index"])[0]
