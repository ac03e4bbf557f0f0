"""litert-torch: the PyTorch network to `.tflite`, without a detour."""

import litert_torch
import torch

from benchmarks.converters import torch_network


def convert(state, architecture, image_size, output, layout):
    """Writes a `.tflite` that turns a normalised float32 image into the logits of the main head, at full size.

    Args:
        state, architecture, image_size, output: see `benchmarks.convert`.
        layout: `"nhwc"` or `"nchw"`, of the image and of the logits.
    """
    network = torch_network.main_head(state, architecture)
    example = torch.zeros(1, 3, *image_size)
    if layout == "nhwc":
        network = litert_torch.to_channel_last_io(network, args=[0], outputs=[0]).eval()
        example = torch.zeros(1, *image_size, 3)
    litert_torch.convert(network, (example,)).export(output)
