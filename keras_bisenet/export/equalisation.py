"""Makes the channels of each activation alike in range, so that one scale serves them all in 8 bits.

Cross-layer equalisation (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
arXiv:1906.04721, section 4.1): a ReLU, a maximum, a sum and an upsampling commute with a positive factor for each
channel. So what computes a channel may divide it by a factor, if all that reads it multiplies by it, and the network
stays the same. The paper takes the factors from the kernels; here they come from activations on photos.
"""

import dataclasses

import numpy as np

from keras_bisenet import resnet
from keras_bisenet.export.network import Network

# A channel's factor is its range to this power: 1 would make all channels alike, and the kernels that read them
# unlike. benchmarks/QUANTISATION.md has the powers that were tried.
POWER = 0.5

# Smallest range of a channel that counts, as a part of the largest channel's: a dead channel needs no resolution.
_LEAST = 0.01


@dataclasses.dataclass
class _Group:
    """Activations that share their factors, because they are added or differ by a gate alone.

    Attributes:
        tensors: names in the deployment graph.
        norms: batch norms that they come from.
        readers: convolutions that read them, -> the first of the input channels that are theirs.
    """

    tensors: list[str]
    norms: list[str]
    readers: dict[str, int] = dataclasses.field(default_factory=dict)


def equalise(network, statistics):
    """An equal network whose channels are more alike in range.

    Args:
        network: `Network`.
        statistics: dict, tensor name -> `calibration.Statistic`.

    Returns:
        `Network`, and the statistics of its tensors. What `statistics` does not know stays as it is.
    """
    weights, statistics = dict(network.weights), dict(statistics)
    for group in _groups(network):
        known = [name for name in group.tensors if name in statistics]
        ranges = np.max([statistics[name].high for name in known] or [[0.0]], axis=0)
        if ranges.max() <= 0:
            continue
        factors = np.maximum(ranges / ranges.max(), _LEAST) ** POWER
        for name in known:
            statistics[name] = statistics[name].divided(factors)
        for norm in group.norms:
            for weight in ("gamma", "beta"):
                weights[f"{norm}/{weight}"] = weights[f"{norm}/{weight}"] / factors
        for reader, first in group.readers.items():
            kernel = weights[f"{reader}/kernel"].astype(np.float64)
            kernel[:, :, first : first + factors.size] *= factors[:, np.newaxis]
            weights[f"{reader}/kernel"] = kernel
    return Network(network.num_classes, network.backbone, weights), statistics


def _groups(network):
    """All `_Group`s; what is said of the parts is in `graph.py`."""
    groups, stages = [], []
    current = _Group(["backbone_conv1", "backbone_max_pool"], ["backbone_bn1"])
    for stage, blocks in enumerate(resnet.BLOCKS[network.backbone], start=1):
        for block in range(blocks):
            name = f"backbone_layer{stage}_{block}"
            current.readers[f"{name}_conv1"] = 0
            if stage > 1 and block == 0:
                current.readers[f"{name}_downsample_conv"] = 0
                stages.append(current)
                current = _Group([f"{name}_downsample_conv"], [f"{name}_downsample_bn"])
            current.tensors += [f"{name}_conv2", f"{name}_sum"]
            current.norms.append(f"{name}_bn2")
            groups.append(_Group([f"{name}_conv1"], [f"{name}_bn1"], {f"{name}_conv2": 0}))
    _, stage2, stage3, stage4 = stages = [*stages, current]
    stage2.readers["ffm_conv"] = 0
    stage3.readers["arm16_conv"] = 0
    stage4.readers |= {"arm32_conv": 0, "conv_avg_conv": 0}
    stage4.tensors.append("conv_avg_mean")
    spatial = network.weights["backbone_layer2_0_bn2/gamma"].size
    return [
        *groups,
        *stages,
        _Group(
            ["conv_avg", "arm32", "arm32_mean", "arm32_gated", "arm32_sum"],
            ["conv_avg_bn", "arm32_bn"],
            {"arm32_conv_atten": 0, "conv_head32_conv": 0},
        ),
        _Group(
            ["conv_head32", "arm16", "arm16_mean", "arm16_gated", "arm16_sum"],
            ["conv_head32_bn", "arm16_bn"],
            {"arm16_conv_atten": 0, "conv_head16_conv": 0, "conv_out32_conv": 0},
        ),
        _Group(["conv_head16"], ["conv_head16_bn"], {"ffm_conv": spatial, "conv_out16_conv": 0}),
        _Group(["ffm", "ffm_mean", "ffm_gated"], ["ffm_bn"], {"ffm_conv1": 0, "conv_out_conv": 0}),
        *(_Group([head], [f"{head}_bn"], {f"{head}_logits": 0}) for head in ("conv_out", "conv_out16", "conv_out32")),
    ]
