"""OpenVINO: the PyTorch network to its own format, without a detour."""

import openvino
import torch

from benchmarks.runtimes.converters import torch_network


def convert(state, architecture, inputs, output):
    """Writes an `.xml`, with the weights in a `.bin` beside it: normalised image to logits of the main head, both NCHW.

    Args:
        state, architecture, inputs, output: see `benchmarks.runtimes.convert`.
    """
    example = torch.zeros(1, 3, *inputs.image_size)
    network = torch_network.main_head(state, architecture)
    model = openvino.convert_model(network, example_input=example, input=list(example.shape))
    # Unasked, it would round the weights to float16.
    openvino.save_model(model, output, compress_to_fp16=False)
