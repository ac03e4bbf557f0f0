"""Rewrites a Keras functional model, operation by operation.

A pass is a function Keras functional model -> Keras functional model. It is made of rules: a rule looks at an operation
and at those before it, by their types and their place in the graph, and gives other operations for it or nothing.
Several rules share one walk over the model.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_bisenet.utils.errors import ExportError


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One call of an operation.

    Attributes:
        operation: `keras.Operation`: a layer or an operation of `keras.ops`.
        args, kwargs: what it is called with.
        output: what it gives, a `keras.KerasTensor`; None while it has not been called.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: keras.KerasTensor | None = None

    @property
    def kind(self) -> str:
        """The type of the operation, the same name for a layer and for an operation of `keras.ops`."""
        name = type(self.operation).__name__
        return "Relu" if name == "ReLU" else name

    @property
    def name(self) -> str:
        """Name of the operation, and so of its output; no two operations of a model share one."""
        return self.operation.name

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The tensors among the arguments, in order."""
        return [x for x in keras.tree.flatten((self.args, self.kwargs)) if isinstance(x, keras.KerasTensor)]

    @property
    def constants(self) -> list[Any]:
        """The arrays and numbers among the arguments, in order."""
        return [x for x in keras.tree.flatten((self.args, self.kwargs)) if not isinstance(x, keras.KerasTensor)]


class Graph:
    """The operations of a model under construction.

    Args:
        image_size: (height, width) of the model's input; None where any size may come.

    Attributes:
        image_size: see above.
        nodes: every `Node` called so far, in order.
    """

    def __init__(self, image_size: tuple[int | None, int | None]) -> None:
        self.image_size = image_size
        self.nodes: list[Node] = []
        self._producers: dict[int, Node] = {}
        self._names: dict[str, Node] = {}

    def call(self, operation: keras.Operation, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """Calls an operation. A rule calls every operation through this, so that later rules see it."""
        output = operation(*args, **kwargs)
        node = Node(operation, args, kwargs, output)
        self.nodes.append(node)
        self._producers[id(output)] = self._names[node.name] = node
        return output

    def named(self, name: str) -> Node:
        """The node of a name.

        Raises:
            KeyError: there is none.
        """
        return self._names[name]

    def producer(self, tensor: keras.KerasTensor) -> Node | None:
        """The node whose output a tensor is; None for an input of the model."""
        return self._producers.get(id(tensor))


# Called with the graph so far and the node that comes next; gives the tensor that takes the place of the node's output,
# or None to leave the node as it is.
Rule = Callable[[Graph, Node], keras.KerasTensor | None]


def rewrite(
    model: keras.Model,
    rules: Sequence[Rule],
    image: keras.KerasTensor | None = None,
    prepare: Callable[[keras.KerasTensor], keras.KerasTensor] = lambda image: image,
) -> keras.Model:
    """Applies rules to every operation of a model, in order; a later rule sees what an earlier one has made.

    Args:
        model: functional model of one input.
        rules: see `Rule`.
        image: `keras.Input` that takes the place of the model's; None for one like it.
        prepare: gives what the model reads in place of its input, of `image`.

    Returns:
        Functional model with outputs of the same structure. Operations that nothing reads any more are gone. Layers
        with weights are shared with `model`.

    Raises:
        ExportError: the model is no functional one, a part of it is a model of its own, or a layer is called twice.
    """
    return _walk(model, rules, image, prepare)[0]


def read(model: keras.Model) -> tuple[keras.Model, Graph]:
    """An equal model, and its graph.

    Raises:
        ExportError: see `rewrite`.
    """
    return _walk(model, (), None, None)


def renumber(model: keras.Model) -> keras.Model:
    """An equal model whose automatic names count from 1 in the order of its operations.

    Keras counts over all that a process has built, and names of operations become names of tensors in a file: without
    this, two exports of one model would differ.
    """
    counts: collections.Counter[str] = collections.Counter()
    names: dict[str, str] = {}

    def copy(operation):
        if getattr(operation, "weights", None):
            return operation
        kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", type(operation).__name__).lower()
        name, before = operation.name, operation.name.removesuffix("_rounded")
        if before in names and before != name:
            name = f"{names[before]}_rounded"
        elif re.fullmatch(rf"{kind}(_\d+)?", name):
            counts[kind] += 1
            name = f"{kind}_{counts[kind]}"
        names[operation.name] = name
        return type(operation).from_config(operation.get_config() | {"name": name})

    return keras.models.clone_model(model, clone_function=copy)


def _walk(model, rules, image, prepare):
    _check(model)
    graph, called = Graph(tuple((model.input if image is None else image).shape[1:3])), set()
    prepared = None if image is None else prepare(image)

    def call(operation, *args, **kwargs):
        if operation.name in called:
            raise ExportError(f"layer {operation.name!r} is called more than once; expected a layer for each call")
        called.add(operation.name)
        if image is not None:
            args = keras.tree.map_structure(lambda x: prepared if x is image else x, args)
        node = Node(operation, args, kwargs)
        for rule in rules:
            output = rule(graph, node)
            if output is not None:
                node = graph.producer(output)
                if node is None:
                    return output
        return graph.call(operation, *args, **kwargs) if node.output is None else node.output

    copy = keras.models.clone_model(model, input_tensors=image, clone_function=_copy, call_function=call)
    return copy, graph


def _copy(operation):
    """Operations without weights are copied: a shared one would keep each graph that it is part of."""
    return operation if getattr(operation, "weights", None) else type(operation).from_config(operation.get_config())


def _check(model):
    if not (isinstance(model, keras.Model) and hasattr(model, "operations")):
        raise ExportError(f"{model!r} is no functional Keras model; expected one, such as a BiSeNet")
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise ExportError(
                f"layer {layer.name!r} is a model of its own; expected a flat graph: build it with that model's layers"
            )
