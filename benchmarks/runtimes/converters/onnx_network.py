"""The PyTorch network as an ONNX file, as converters take it (imports torch and onnx)."""

import torch

from benchmarks.runtimes.converters import torch_network
from weight_port.reference import onnx_network


def export(state, architecture, image_size, path):
    """Writes an `.onnx` file with torch's exporter: `image` `[1, 3, H, W]` float32, normalised -> `logits`.

    Args:
        state, architecture: see `benchmarks.runtimes.convert`.
        image_size: (height, width).
        path: file to write.
    """
    onnx_network.export(torch_network.main_head(state, architecture), image_size, path, ["logits"])


def export_simplified(state, architecture, image_size, path):
    """Writes the same with torch's former exporter, at opset 13 as most guides have it, and onnxsim (imports onnxsim).

    Args:
        state, architecture, image_size, path: see `export`.

    Raises:
        ValueError: onnxsim finds that its result does not compute the same.
    """
    import onnx
    import onnxsim

    torch.onnx.export(
        torch_network.main_head(state, architecture),
        (torch.zeros(1, 3, *image_size),),
        path,
        input_names=["image"],
        output_names=["logits"],
        opset_version=13,
        dynamo=False,
    )
    simplified, same = onnxsim.simplify(onnx.load(path))
    if not same:
        raise ValueError("onnxsim changed what the network computes")
    onnx.save(simplified, path)
