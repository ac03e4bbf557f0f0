"""Small ONNX models, and changes that turn our export into what other people have."""

import functools

import numpy as np
import onnx
from onnx import helper

from keras_bisenet import HEADS
from support.networks import random_images, random_state
from support.ported import reference
from weight_port.reference import onnx_file
from weight_port.reference.onnx_network import OnnxReference

SIZE = (65, 97)
CLASSES = 11


@functools.cache
def state():
    """The state_dict of the network that is exported."""
    return random_state(layout="yakhyo", num_classes=CLASSES)


@functools.cache
def torch_logits():
    """PyTorch's logits of it, see `ported.reference`."""
    return reference(state())


def save(model, path):
    onnx.save_model(model, str(path))
    return path


def rename(model, names):
    """Renames inputs and outputs."""
    for node in model.graph.node:
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)


def append(model, *nodes, outputs):
    """Adds ops behind the model, and replaces its outputs by `outputs`: name -> (type, shape)."""
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items())


def small(folder, inputs, outputs, *nodes, domain=None):
    """A model of a few ops; `inputs` and `outputs`: name -> (type, shape)."""
    values = [[helper.make_tensor_value_info(name, *kind) for name, kind in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "small", *values)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / "model.onnx")


def check_against_torch(path, size=SIZE, heads=HEADS):
    """ONNX Runtime must compute of a file what PyTorch does of `state`, in these heads."""
    onnx_reference = OnnxReference(onnx_file.inspect(path), size, CLASSES, HEADS)
    assert onnx_reference.heads == tuple(heads)
    images = random_images(*size)
    results = onnx_reference(images)
    assert tuple(results) == tuple(heads)
    for head, expected in zip(HEADS, torch_logits()(images), strict=True):
        if head in results:
            assert results[head].dtype == np.float32
            np.testing.assert_allclose(results[head], expected, rtol=0, atol=2e-4)
