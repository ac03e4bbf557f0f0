"""Makes the channels of each activation alike in range, so that one scale serves them all in 8 bits.

Cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
arXiv:1906.04721, section 4.1): a ReLU, a maximum, a sum and an upsampling commute with a positive factor for each
channel. So what computes a channel may divide it by a factor, if all that reads it multiplies by it, and the network
stays the same. The paper takes the factors from the kernels; here they come from activations on photos.
"""

import numpy as np

from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.channels import Channels
from keras_bisenet.export.passes.layers import FixedConv2D

# A channel's factor is its range to this power: 1 would make all channels alike, and the kernels that read them
# unlike. benchmarks/quantization/QUANTIZATION.md has the powers that were tried.
POWER = 0.5

# Smallest range of a channel that counts, as a part of the largest channel's: a dead channel needs no resolution.
_LEAST = 0.01

# Operations that give each channel of their first input times its factor, if that input has it.
_COMMUTING_KINDS = ("Relu", "MaxPooling2D", "ZeroPadding2D", "NearestResize", "GlobalMean")


def equalize(model, statistics):
    """An equal network whose channels are more alike in range.

    Args:
        model: functional Keras model whose convolutions are `FixedConv2D`.
        statistics: dict, name of a node -> `calibration.Statistic`.

    Returns:
        Functional Keras model, and the statistics of its nodes.
    """
    _, graph = rewriting.read(model)
    parts = _parts(graph, model.outputs)
    factors = _factors(parts, statistics)

    def whole(name):
        return np.concatenate([factors.get(part.find(), np.ones(part.count)) for part in parts[name]])

    def scale(graph, node):
        conv = node.operation
        if not isinstance(conv, FixedConv2D):
            return None
        written, read = whole(node.name), whole(reading[node.name])
        kernel = conv.kernel * read[:, np.newaxis] / written
        return graph.call(conv.like(kernel=kernel, bias=conv.bias / written), *node.inputs)

    reading = {}
    for node in graph.nodes:
        if isinstance(node.operation, FixedConv2D):
            producer = graph.producer(node.inputs[0])
            reading[node.name] = None if producer is None else producer.name
    parts[None] = [Channels(model.input.shape[-1], fixed=True)]
    return rewriting.rewrite(model, [scale]), {
        name: statistic.divided(whole(name)) for name, statistic in statistics.items()
    }


def _factors(parts, statistics):
    """`Channels` -> their factors, of those that may have any."""
    ranges = {}
    for name, statistic in statistics.items():
        first = 0
        for part in parts[name]:
            channels, last = part.find(), first + part.count
            if not channels.fixed:
                ranges[channels] = np.maximum(ranges.get(channels, 0), statistic.high[first:last])
            first = last
    return {
        channels: np.maximum(high / high.max(), _LEAST) ** POWER for channels, high in ranges.items() if high.max() > 0
    }


def _parts(graph, outputs):
    """Name of a node -> the `Channels` of its output, one after the other."""
    parts = {}

    def of(tensor):
        producer = graph.producer(tensor)
        return [Channels(tensor.shape[-1], fixed=True)] if producer is None else parts[producer.name]

    def fix(channels):
        for part in channels:
            part.find().fixed = True

    def join(some, others):
        if [part.count for part in some] == [part.count for part in others]:
            for part, other in zip(some, others, strict=True):
                part.join(other)
        else:
            fix([*some, *others])

    for node in graph.nodes:
        tensors = [of(x) for x in node.inputs]
        if isinstance(node.operation, FixedConv2D):
            found = [Channels(node.output.shape[-1])]
        elif node.kind in _COMMUTING_KINDS:
            found = tensors[0]
        elif node.kind == "Concatenate" and node.operation.axis in (3, -1):
            found = [part for tensor in tensors for part in tensor]
        elif node.kind == "Add" and len(tensors) == 2:
            join(*tensors)
            found = tensors[0]
        elif node.kind == "Multiply" and len(tensors) == 2 and _is_fixed(tensors[1]):
            found = tensors[0]
        else:
            for channels in tensors:
                fix(channels)
            found = [Channels(node.output.shape[-1], fixed=True)]
        parts[node.name] = found
    for node in graph.nodes:
        if any(node.output is output for output in outputs):
            fix(parts[node.name])
    return parts


def _is_fixed(channels):
    return all(part.find().fixed for part in channels)
