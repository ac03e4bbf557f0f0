"""The PyTorch network as converters take it (imports torch)."""

import torch
from torch import nn

from weight_port.reference import torch_network


class MainHead(nn.Module):
    """Returns the main head's logits alone, so that a converter drops the two auxiliary heads, as our export does."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[0]


def main_head(state, architecture):
    """The network with the weights of a checkpoint: `[1, 3, H, W]` float32 -> `[1, classes, H, W]`, for evaluation.

    Args:
        state: key -> array, loaded strictly.
        architecture: what `weight_port.recognise` says of it.
    """
    network = torch_network.BiSeNet(architecture.num_classes, architecture.backbone, architecture.dialect.name)
    network.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    return MainHead(network).eval()
