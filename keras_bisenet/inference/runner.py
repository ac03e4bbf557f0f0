"""Runs a `.tflite` file in LiteRT."""

import os

from ai_edge_litert.interpreter import Interpreter


class TFLiteRunner:
    """One `.tflite` file, ready to run image after image. Not thread-safe: make one per thread.

    Args:
        content: bytes of the file.
        num_threads: threads of XNNPACK; None for all cores.
        shape: of the input, for a file that leaves it open.

    Attributes:
        quantization: dict, output name -> (scale, zero point) of integers that stand for real numbers, else (0, 0).
    """

    def __init__(self, content, num_threads=None, shape=None):
        self._interpreter = Interpreter(model_content=content, num_threads=num_threads or os.cpu_count())
        if shape is not None:
            self._interpreter.resize_tensor_input(self._interpreter.get_input_details()[0]["index"], shape)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.quantization = {output["name"]: output["quantization"] for output in self._outputs}

    def __call__(self, image):
        """Runs one image `[1, H, W, 3]` of the file's shape and dtype.

        Returns:
            dict: output tensor name -> array.
        """
        self._interpreter.set_tensor(self._input["index"], image)
        self._interpreter.invoke()
        return {output["name"]: self._interpreter.get_tensor(output["index"]) for output in self._outputs}
