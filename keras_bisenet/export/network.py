"""A trained network as plain arrays."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Network:
    """What the deployment graph is written from.

    Attributes:
        num_classes, backbone: see `BiSeNet`.
        weights: `<layer>/<weight>` of the Keras model -> array; a kernel is `[H, W, I, O]`.
    """

    num_classes: int
    backbone: str
    weights: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, model):
        """The network of a `BiSeNet`."""
        return cls(
            model.num_classes, model.backbone, {weight.path: np.array(weight.numpy()) for weight in model.weights}
        )
