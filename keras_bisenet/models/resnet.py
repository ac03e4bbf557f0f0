"""ResNet-18 and ResNet-34 feature extractors (He et al., "Deep Residual Learning", 2015; torchvision's layout)."""

import keras
from keras import ops

from keras_bisenet.models import layers
from keras_bisenet.models.architecture import BLOCKS, STAGES, channels


def features(x: keras.KerasTensor, backbone: str = "resnet18", width: float = 1.0) -> list[keras.KerasTensor]:
    """Builds the backbone on `x`. Its layers are named after torchvision's, behind `backbone_`.

    Args:
        x: normalized images `[N, H, W, 3]`.
        backbone: a key of `BLOCKS`.
        width: factor of all numbers of channels, see `architecture.channels`.

    Returns:
        Features at strides 8, 16 and 32: `[N, ceil(H / 8), ceil(W / 8), 128]`, 256 and 512 channels behind, times
        `width`.
    """
    x = layers.conv(x, channels(64, width), 7, strides=2, name="backbone_conv1")
    x = layers.max_pool(ops.relu(layers.batch_norm(x, name="backbone_bn1")))
    stages = []
    for stage, ((count, _), blocks) in enumerate(zip(STAGES, BLOCKS[backbone], strict=True), start=1):
        for block in range(blocks):
            strides = 2 if stage > 1 and block == 0 else 1
            x = _basic_block(x, channels(count, width), strides, name=f"backbone_layer{stage}_{block}")
        stages.append(x)
    return stages[1:]


def _basic_block(x, filters, strides, *, name):
    shortcut = x
    if strides > 1:
        shortcut = layers.conv(x, filters, 1, strides, name=f"{name}_downsample_conv")
        shortcut = layers.batch_norm(shortcut, name=f"{name}_downsample_bn")
    x = layers.conv(x, filters, 3, strides, name=f"{name}_conv1")
    x = ops.relu(layers.batch_norm(x, name=f"{name}_bn1"))
    x = layers.conv(x, filters, 3, name=f"{name}_conv2")
    x = layers.batch_norm(x, name=f"{name}_bn2")
    return ops.relu(shortcut + x)
