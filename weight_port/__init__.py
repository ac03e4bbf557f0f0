"""Moves BiSeNet weights between PyTorch and Keras: read a checkpoint, recognize it, port it, and back."""

from weight_port.checkpoint import load, save
from weight_port.errors import CheckpointError, UserError
from weight_port.port import Architecture, apply, keras_weights, recognize, recognize_backbone, reverse

__all__ = [
    "Architecture",
    "CheckpointError",
    "UserError",
    "apply",
    "keras_weights",
    "load",
    "recognize",
    "recognize_backbone",
    "reverse",
    "save",
]
