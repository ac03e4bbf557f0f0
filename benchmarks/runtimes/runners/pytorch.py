"""The checkpoint in PyTorch itself, with numpy around it."""

import torch

import weight_port
from benchmarks.runtimes.converters import torch_network
from benchmarks.runtimes.numpy_processing import NumpyProcessing


class Runner:
    """See `runtimes.runners`. numpy writes into the image's tensor and reads that of the logits, without a copy.

    Args:
        path, threads, inputs: see `benchmarks.runtimes.runners`.
        layout: `"nchw"`, or `"nhwc"`: PyTorch's channels_last, which orders the memory so and keeps the shape.
        compiled: whether `torch.compile` makes code of the network.
    """

    def __init__(self, path, threads, inputs, layout, compiled):
        torch.set_num_threads(threads)
        # The axes of a tensor of PyTorch, in the order in which they lie in memory.
        self._order = (0, 2, 3, 1) if layout == "nhwc" else (0, 1, 2, 3)
        memory_format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
        state = weight_port.load(path)
        network = torch_network.main_head(state, weight_port.recognise(state)).to(memory_format=memory_format)
        self._network = torch.compile(network) if compiled else network
        self._image = torch.zeros(1, 3, *inputs.image_size).contiguous(memory_format=memory_format)
        self._processing = NumpyProcessing(inputs.mean, inputs.std, inputs.image_size, layout)
        # The first call compiles.
        self.run(None)

    def prepare(self, photo):
        self._processing.normalize(photo, self._image.permute(self._order).numpy())

    def run(self, _prepared):
        with torch.inference_mode():
            return self._network(self._image)

    def labels(self, outputs):
        return self._processing.labels(outputs.permute(self._order).numpy())
