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

    Args:
        widths: (stage 1, stage 2, stage 3, stage 4, context, fusion, gate, head) in channels; `BiSeNet` has
            (64, 128, 256, 512, 128, 256, 64, 256).
        num_classes: channels of the heads.
        backbone: `"resnet18"` or `"resnet34"`.
        seed: of the weights.
        dtype: Keras dtype of the model.
    """

    def resized(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.Conv2D):
            config["filters"] = _channels(layer.name, widths, num_classes)[1]
        return type(layer).from_config(config)

    model = keras.models.clone_model(_whole(backbone, dtype), clone_function=resized)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        layer, weight = variable.path.split("/")
        variable.assign(_values(random, layer, weight, tuple(variable.shape)))
    return model


def _channels(layer, widths, num_classes):
    """Input and output channels of a convolution, or of the batch norm behind it."""
    *stages, context, fusion, gate, head = widths
    if layer.startswith("backbone_layer"):
        stage, block = (int(number) for number in layer.removeprefix("backbone_layer").split("_")[:2])
        enters = block == 0 and ("conv1" in layer or "downsample_conv" in layer)
        return stages[max(stage - 2, 0) if enters else stage - 1], stages[stage - 1]
    if layer.startswith("backbone_"):
        return 3, stages[0]
    inputs, outputs = {
        "conv_avg": (stages[3], context),
        "arm32": (context if "atten" in layer else stages[3], context),
        "arm16": (context if "atten" in layer else stages[2], context),
        "conv_head32": (context, context),
        "conv_head16": (context, context),
        "ffm": {"ffm_conv1": (fusion, gate), "ffm_conv2": (gate, fusion)}.get(layer, (stages[1] + context, fusion)),
        "conv_out": (fusion, head),
        "conv_out16": (context, head),
        "conv_out32": (context, head),
    }[_part(layer)]
    return (head, num_classes) if layer.endswith("_logits") else (inputs, outputs)


def _part(layer):
    """`conv_out16_bn` -> `conv_out16`, `ffm_conv1` -> `ffm`."""
    return layer.split("_")[0] if layer.startswith(("arm", "ffm")) else "_".join(layer.split("_")[:2])


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
