"""Starts a narrow network from the most useful channels of a wide one (structured pruning)."""

import math

import numpy as np

from keras_bisenet.export.passes import rewriting
from keras_bisenet.export.passes.channels import Channels
from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.utils.errors import TrainingError


def slim(model: BiSeNet, width: float, criterion: str = "contribution") -> BiSeNet:
    """A narrower network with the most useful channels of a network.

    Channels that are added to or multiplied with each other, such as those of all blocks of a stage, stay or go
    together.

    Args:
        model: `BiSeNet`.
        width: of the narrower network.
        criterion: which channels are useful, a key of `CRITERIA`. benchmarks/training has what each leads to.

    Returns:
        `BiSeNet`.

    Raises:
        TrainingError: the network is not wider than that, or there is no such criterion.
    """
    if not model.width > width:
        raise TrainingError(
            f"width is {width:g}; expected less than {model.width:g}, the width of the network it starts from"
        )
    if criterion not in CRITERIA:
        raise TrainingError(f"criterion is {criterion!r}; expected one of {', '.join(CRITERIA)}")
    _, graph = rewriting.read(model)
    parts = _parts(graph, model.input)
    scores = CRITERIA[criterion](graph, parts)
    narrow = BiSeNet(**model.get_config() | {"width": width})
    values = {variable.path: np.array(variable.numpy()) for variable in model.variables}
    kept = {}
    for node in graph.nodes:
        if _is_conv(node):
            (part,) = parts[id(node.output)]
            count = narrow.get_layer(node.name).filters
            kept[part.find()] = np.sort(np.argsort(-scores[part.find()], kind="stable")[:count])
    for node in graph.nodes:
        if not getattr(node.operation, "weights", None):
            continue
        out = _places(parts[id(node.output)], kept)
        for variable in narrow.get_layer(node.name).variables:
            value = values[variable.path][..., out]
            if _is_conv(node):
                value = value[:, :, _places(parts[id(node.inputs[0])], kept)]
            variable.assign(value)
    return narrow


def _kernel_norm(graph, parts):
    """Sum of the absolute weights that compute a channel, with its batch norm's factor.

    Li et al., "Pruning Filters for Efficient ConvNets", 2017, arXiv:1608.08710; of several convolutions that write the
    same channels each counts alike.
    """
    scores = {}
    for node in graph.nodes:
        if _is_conv(node):
            (part,) = parts[id(node.output)]
            norms = np.abs(_folded(graph, node)).sum(axis=(0, 1, 2))
            scores[part.find()] = scores.get(part.find(), 0) + norms / max(norms.sum(), 1e-12)
    return scores


def _contribution(graph, parts):
    """Part of a channel in what the convolutions that read it sum up: E(x^2) times the square of its weights there.

    E(x^2) follows from the batch norms alone: one with gamma and beta gives a channel of mean beta and standard
    deviation gamma, taken to be normal; sums add both; a ReLU cuts the lower part off. Where none tells it is 1.
    """
    moments = _moments(graph)
    scores = {part.find(): np.zeros(part.count) for node in graph.nodes for part in parts[id(node.output)]}
    for node in graph.nodes:
        if not _is_conv(node):
            continue
        mean, variance = moments.get(id(node.inputs[0]), (0, 1))
        powers = (mean**2 + variance) * np.square(_folded(graph, node)).sum(axis=(0, 1, 3))
        powers /= max(powers.sum(), 1e-12)
        first = 0
        for part in parts[id(node.inputs[0])]:
            scores[part.find()] += powers[first : first + part.count]
            first += part.count
    return scores


CRITERIA = {"kernel_norm": _kernel_norm, "contribution": _contribution}


def _is_conv(node):
    return type(node.operation).__name__ == "Conv2D"


def _parts(graph, image):
    """Identity of a tensor -> the `Channels` of it, one after the other."""
    parts = {id(graph.nodes[0].inputs[0]): [Channels(image.shape[-1], fixed=True)]}
    for node in graph.nodes:
        tensors = [parts[id(x)] for x in node.inputs]
        if _is_conv(node):
            found = [Channels(node.output.shape[-1])]
        elif node.kind == "Concatenate":
            found = [part for tensor in tensors for part in tensor]
        else:
            found = tensors[0]
            if node.kind in ("Add", "Multiply"):
                for mine, other in zip(*tensors, strict=True):
                    mine.join(other)
        parts[id(node.output)] = found
    return parts


def _places(parts, kept):
    """The channels that stay of several `Channels`, counted over all of them."""
    places, first = [], 0
    for part in parts:
        places.append(first + kept.get(part.find(), np.arange(part.count)))
        first += part.count
    return np.concatenate(places)


def _folded(graph, conv):
    """Kernel `[h, w, in, out]` of a convolution, times the factor of the batch norm that follows it, if one does."""
    kernel = np.array(conv.operation.kernel.numpy(), np.float64)
    for node in graph.nodes:
        if node.kind == "BatchNorm" and node.inputs[0] is conv.output:
            norm = node.operation
            return kernel * (norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon))
    return kernel


def _moments(graph):
    """Identity of a tensor -> mean and variance of each of its channels, where the batch norms tell them."""
    moments = {}
    for node in graph.nodes:
        found = [moments.get(id(x)) for x in node.inputs]
        if node.kind == "BatchNorm":
            norm = node.operation
            result = np.array(norm.beta.numpy(), np.float64), np.square(norm.gamma.numpy().astype(np.float64))
        elif _is_conv(node) or not found or found[0] is None:
            continue
        elif node.kind == "Relu":
            result = _rectified(*found[0])
        elif node.kind == "Add" and found[1] is not None:
            result = tuple(map(sum, zip(*found, strict=True)))
        elif node.kind == "Concatenate":
            result = tuple(map(np.concatenate, zip(*found, strict=True)))
        else:
            # A gate is about alike in all channels; pooling and resizing leave them alike.
            result = found[0]
        moments[id(node.output)] = result
    return moments


def _rectified(mean, variance):
    """Mean and variance of max(x, 0) for normal x."""
    deviation = np.sqrt(np.maximum(variance, 1e-24))
    ratio = mean / deviation
    below = 0.5 * np.array([math.erfc(value / math.sqrt(2)) for value in ratio])
    density = np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    first = mean * (1 - below) + deviation * density
    second = (mean**2 + variance) * (1 - below) + mean * deviation * density
    return first, np.maximum(second - first**2, 0)
