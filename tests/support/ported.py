"""Checkpoints as Keras networks, with PyTorch's results to compare with."""

import functools

import keras

import weight_port
from keras_bisenet import BiSeNet, normalize
from support.paths import DEFAULT_CHECKPOINT
from weight_port.reference import torch_network


def port(state, **options):
    """A `BiSeNet` with the weights of a state_dict; the options are the other arguments of `BiSeNet`."""
    architecture = weight_port.recognize(state)
    model = BiSeNet(architecture.num_classes, architecture.backbone, architecture.width, **options)
    weight_port.apply(state, model.variables, architecture)
    return model


def reference(state):
    """PyTorch's logits of a state_dict: called with normalized images `[N, H, W, 3]`, it gives those of each head."""
    return torch_network.Reference(state, weight_port.recognize(state))


@functools.cache
def default_state():
    """The state_dict of the checkpoint that is shipped."""
    return weight_port.load(DEFAULT_CHECKPOINT)


@functools.cache
def default_model():
    """The checkpoint that is shipped; tests share it, so they must not change it."""
    return port(default_state())


@functools.cache
def default_reference():
    """PyTorch's logits of the checkpoint that is shipped, see `reference`."""
    return reference(default_state())


def normalized(photos):
    """`[N, H, W, 3]` or `[H, W, 3]` uint8 RGB -> `[N, H, W, 3]` float32, as a network takes it."""
    return keras.ops.convert_to_numpy(normalize(photos if photos.ndim == 4 else photos[None]))
