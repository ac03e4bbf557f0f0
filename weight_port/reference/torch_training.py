"""The original training recipe in plain PyTorch: the reference that the native training is measured against.

It follows github.com/CoinCheung/BiSeNet, from which github.com/zllrunning/face-parsing.PyTorch took it (imports torch).
"""

import math

import torch
from torch import nn
from torch.nn import functional

IGNORE = 255
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
# Learns ten times as fast: everything behind the context path.
FAST_MODULES = ("ffm", "conv_out", "conv_out16", "conv_out32")
FAST = 10


class OhemCrossEntropy(nn.Module):
    """Mean cross entropy of the hard pixels of a batch, or of the 1/16 hardest where fewer than that are hard.

    A pixel is hard if the softmax gives its label less than `threshold`. A pixel with the label `IGNORE` has loss 0.

    Args:
        threshold: probability, 0..1.

    Attributes:
        hard: share of the pixels of the last batch that were hard, 0..1.

    Called with `[N, C, H, W]` float logits and `[N, H, W]` int64 labels, returns a scalar.
    """

    def __init__(self, threshold=0.7):
        super().__init__()
        self.threshold = -math.log(threshold)
        self.hard = None

    def forward(self, logits, labels):
        losses = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").flatten()
        losses = losses.sort(descending=True).values
        hard = losses > self.threshold
        self.hard = hard.double().mean().item()
        fewest = labels.numel() // 16
        if losses[fewest] > self.threshold:
            return losses[hard].mean()
        return losses[:fewest].mean()


def parameter_groups(network):
    """The parameters of a `torch_reference.BiSeNet` for `torch.optim.SGD`: what decays, and what learns faster.

    Convolution kernels decay, batch norm's weights and biases do not.

    Args:
        network: a `BiSeNet` of either layout.

    Returns:
        list of four dicts: `params`, `weight_decay`, and `multiple`, the factor of the learning rate. A parameter that
        the forward pass never reads (the unused classifier) is in one of them, and SGD passes it over.
    """
    groups = {(multiple, decay): [] for multiple in (1, FAST) for decay in (WEIGHT_DECAY, 0.0)}
    for name, parameter in network.named_parameters():
        multiple = FAST if name.split(".")[0] in FAST_MODULES else 1
        groups[multiple, WEIGHT_DECAY if parameter.ndim == 4 else 0.0].append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "multiple": multiple}
        for (multiple, decay), parameters in groups.items()
    ]


def learning_rate(step, base=1e-2, max_steps=80_000, warmup_steps=1000, warmup_start=1e-5, power=0.9):
    """The rate of a step: it grows exponentially to `base` while warming up, then decays as a polynomial.

        warmup_start * (base / warmup_start) ** (step / warmup_steps)                       up to warmup_steps
        base * (1 - (step - warmup_steps) / (max_steps - warmup_steps)) ** power            after it

    Args:
        step: steps taken before this one.
        base: the highest rate.
        max_steps: where the rate is 0.
        warmup_steps: where it is highest.
        warmup_start: the rate of the first step.
        power: 1 for a straight line.
    """
    if step <= warmup_steps:
        return warmup_start * (base / warmup_start) ** (step / warmup_steps)
    return base * (1 - (step - warmup_steps) / (max_steps - warmup_steps)) ** power


class TorchTrainer:
    """Trains a network in the precision of its parameters.

    Args:
        network: a `torch_reference.BiSeNet`; it is put into training mode and changed in place.
        rate: called with the number of steps taken, gives the learning rate of the next.
        threshold: of `OhemCrossEntropy`.

    Attributes:
        network: the same.
        steps: number of steps taken.
        hard: for each head, share of the pixels of the last batch that were hard.
    """

    def __init__(self, network, rate=learning_rate, threshold=0.7):
        self.network = network.train()
        self.steps = 0
        self.hard = []
        self._rate = rate
        self._criterion = OhemCrossEntropy(threshold)
        self._optimizer = torch.optim.SGD(parameter_groups(network), lr=0.0, momentum=MOMENTUM)

    def step(self, images, labels):
        """Takes one step down the sum of the losses of the three heads.

        Args:
            images: `[N, H, W, 3]` float32 or float64 RGB, normalized, of the network's dtype.
            labels: `[N, H, W]` whole numbers: class ids and `IGNORE`.

        Returns:
            Three floats: the loss of each head before the step, the main head first.
        """
        x = torch.tensor(images).permute(0, 3, 1, 2)
        truth = torch.tensor(labels, dtype=torch.int64)
        losses, self.hard = [], []
        for logits in self.network(x):
            losses.append(self._criterion(logits, truth))
            self.hard.append(self._criterion.hard)
        for group in self._optimizer.param_groups:
            group["lr"] = group["multiple"] * self._rate(self.steps)
        self._optimizer.zero_grad()
        sum(losses).backward()
        self._optimizer.step()
        self.steps += 1
        return tuple(loss.item() for loss in losses)

    def state(self):
        """The network's state_dict as key -> array, a copy."""
        return {key: tensor.numpy().copy() for key, tensor in self.network.state_dict().items()}
