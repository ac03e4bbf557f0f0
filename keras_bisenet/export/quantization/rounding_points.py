"""Where a network in 8 bits is rounded; the export and quantization-aware training read it here."""

import dataclasses

import keras

from keras_bisenet.export.passes.layers import FixedConv2D
from keras_bisenet.utils.errors import ExportError

# Operations that an 8-bit network computes on whole numbers; a rounded tensor is one that some of them reads. What lies
# between a convolution or a sum and the ReLU behind it is one operation there, and never rounded.
INTEGER_KINDS = ("Add", "Multiply", "Sigmoid", "GlobalMean", "Concatenate", "Scores")
# Operations that choose among their inputs or repeat them: what they give has the scale of what they read.
SAME_SCALE_KINDS = ("ZeroPadding2D", "ColorPadding2D", "MaxPooling2D", "NearestResize", "Reshape")
# Of these, the ones that repeat each value as often as any other, borders aside.
SAME_MEAN_KINDS = ("ZeroPadding2D", "ColorPadding2D", "NearestResize")
_FUSED_KINDS = ("Relu", "BatchNorm", "BatchNormalization")


@dataclasses.dataclass(frozen=True)
class RoundingPoints:
    """The rounded tensors of a network, each by the name of the node that gives it.

    Attributes:
        tensors: names of the nodes whose outputs are rounded.
        photos: of these, the ones that are the photo itself, in pixels of 0 to 255: whole numbers already.
        image: whether the input of the model is read by a convolution as it is, normalized already.
        final: names of the convolutions behind which lie no other and no `Scores`. What they compute is float, since 8
            bits would make ties of close logits, which fall to the wrong class.
        joined: pairs of names that share one scale, being parts of one concatenation.
    """

    tensors: frozenset[str]
    photos: frozenset[str]
    image: bool
    final: frozenset[str]
    joined: tuple[tuple[str, str], ...]


def is_conv(node):
    """Whether a node is a convolution."""
    return isinstance(node.operation, keras.layers.Conv2D | FixedConv2D)


def find(graph):
    """The `RoundingPoints` of a network.

    Args:
        graph: `rewriting.Graph` of a whole model.

    Raises:
        ExportError: 8 bits have no rule for an operation of the network; the message names it.
    """
    ahead = _read_as_integers(graph)
    tensors, joined, image = set(), [], False
    for node in graph.nodes:
        if not (is_conv(node) or node.name in ahead):
            continue
        if is_conv(node) or node.kind in INTEGER_KINDS:
            origins = [source(graph, x) for x in node.inputs]
            image = image or None in origins
            names = [origin.name for origin in origins if origin is not None]
            tensors.update(names)
            if node.kind == "Concatenate":
                joined += [(node.name, name) for name in names]
        elif node.kind not in (*SAME_SCALE_KINDS, *_FUSED_KINDS, "Cast"):
            raise ExportError(f"layer {node.name!r} ({node.kind}) has no rule for 8 bits; leave out int8")
    return RoundingPoints(
        tensors=frozenset(tensors),
        photos=frozenset(name for name in tensors if graph.named(name).kind == "Cast"),
        image=image,
        final=frozenset(node.name for node in graph.nodes if is_conv(node) and node.name not in ahead),
        joined=tuple(joined),
    )


def source(graph, tensor, kinds=SAME_SCALE_KINDS):
    """The node that gives the values of a tensor, seen through operations of some kinds; None for the model's input."""
    node = graph.producer(tensor)
    while node is not None and node.kind in kinds:
        node = graph.producer(node.inputs[0])
    return node


def _read_as_integers(graph):
    """Names of the nodes behind which lies a convolution, or which are `Scores` or lie before them."""
    ahead = {node.name for node in graph.nodes if node.kind == "Scores"}
    for node in reversed(graph.nodes):
        if is_conv(node) or node.name in ahead:
            ahead.update(producer.name for x in node.inputs if (producer := graph.producer(x)) is not None)
    return ahead
