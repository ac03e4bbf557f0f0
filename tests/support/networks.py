"""Random networks: of the published widths, and with few channels, which are exported and run in moments."""

import functools

import keras
import numpy as np
import torch

from keras_bisenet import BiSeNet
from weight_port.reference import torch_network


class Weight:
    """As much of a Keras variable as porting looks at."""

    def __init__(self, path, array):
        self.path = path
        self._array = array

    @property
    def shape(self):
        return self._array.shape

    def numpy(self):
        return self._array

    def assign(self, array):
        assert array.shape == self.shape
        self._array = np.array(array, self._array.dtype)


@functools.cache
def _whole(backbone, dtype):
    """A network of the published widths."""
    return BiSeNet(backbone=backbone, dtype=dtype)


@functools.cache
def shapes(backbone):
    """Path -> shape of all weights of a `BiSeNet` with 19 classes."""
    return {variable.path: tuple(variable.shape) for variable in _whole(backbone, "float32").variables}


def narrow(widths, num_classes, backbone="resnet18", seed=0, dtype="float32"):
    """A functional Keras model like a `BiSeNet`, with random weights whose logits are of a trained network's size.

    `widths` are the channels (stage 1, stage 2, stage 3, stage 4, context, fusion, gate, head); `BiSeNet` has
    (64, 128, 256, 512, 128, 256, 64, 256).
    """

    def resized(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = _filters(layer.name, widths, num_classes)
        return type(layer).from_config(config)

    model = keras.models.clone_model(_whole(backbone, dtype), clone_function=resized)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        layer, weight = variable.path.split("/")
        variable.assign(_values(random, layer, weight, tuple(variable.shape)))
    return model


def _filters(layer, widths, num_classes):
    """Output channels of a convolution."""
    *stages, context, fusion, gate, head = widths
    if layer.endswith("_logits"):
        return num_classes
    if layer.startswith("backbone_layer"):
        return stages[int(layer.removeprefix("backbone_layer")[0]) - 1]
    if layer.startswith("conv_out"):
        return head
    return {"backbone_conv1": stages[0], "ffm_conv1": gate, "ffm_conv2": fusion, "ffm_conv": fusion}.get(layer, context)


def _values(random, layer, weight, shape):
    if weight == "kernel":
        scale = 8 if layer.endswith("_logits") else 1
        return scale * random.normal(size=shape) * np.sqrt(2 / np.prod(shape[:3]))
    if weight == "moving_variance":
        return random.uniform(0.5, 2.0, shape)
    return random.uniform(0.5, 1.5, shape) if weight == "gamma" else random.normal(0, 0.2, shape)


def random_state(backbone="resnet18", layout="zllrunning", num_classes=19, seed=0, width=1.0):
    """A state_dict (key -> float32 array) with random weights and random batch-norm statistics.

    Statistics of 0 and 1 would hide a mistake in them. The logits reach about 20, as a trained network's do: absolute
    tolerances mean something only at that scale, so the residual branches are kept small.
    """
    torch.manual_seed(seed)
    network = torch_network.BiSeNet(num_classes, backbone, layout, width)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            residual = name.endswith(".bn2")
            module.weight.data.uniform_(0.1 if residual else 0.5, 0.3 if residual else 1.5)
            module.bias.data.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(int(torch.randint(1, 1000, ())))
        elif isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}


def random_images(height, width, dtype="float32", seed=0, count=1):
    """Normalized images `[count, height, width, 3]`."""
    return np.random.default_rng(seed).normal(size=(count, height, width, 3)).astype(dtype)
