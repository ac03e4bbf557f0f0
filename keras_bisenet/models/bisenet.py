"""BiSeNet for face parsing (Yu et al., "BiSeNet: Bilateral Segmentation Network", 2018, arXiv:1808.00897).

This is the network of the published face-parsing checkpoints: the paper's spatial path is replaced by the stride-8
feature of the ResNet. Their PyTorch names are kept where they say what a part does.
"""

import contextlib
from typing import Any

import keras
from keras import ops

from keras_bisenet.models import architecture, layers, resnet
from keras_bisenet.models.architecture import HEADS
from keras_bisenet.preprocessing import MINIMUM_SIZE


@keras.saving.register_keras_serializable(package="keras_bisenet")
class BiSeNet(keras.Model):
    """BiSeNet with a ResNet backbone: normalized photos in, logits of three heads out, all at full size.

    Input: `[N, H, W, 3]` float RGB, normalized by `keras_bisenet.normalize`; any H, W >= 32.
    Output: dict with the keys `HEADS`, each `[N, H, W, num_classes]` float logits. `logits` is the result; the other
    two are auxiliary heads for training.

    Args:
        num_classes: number of output channels.
        backbone: `"resnet18"` (13.3 million parameters) or `"resnet34"` (23.4 million).
        width: factor of the number of channels of every layer but the last ones, rounded to multiples of 8; at 0.5
            there are 3.3 million parameters. 1.0 is the network of the published checkpoints.
        input_shape: `(H, W, 3)`; None where any size may come.
        dtype: Keras dtype policy or its name; None for the global one.
        name: name of the model.

    Raises:
        ValueError: `num_classes`, `backbone`, `width` or `input_shape` is not one of the above.

    Example:
        >>> model = BiSeNet(num_classes=3, width=0.25)
        >>> photos = np.zeros((1, 64, 96, 3), np.uint8)
        >>> logits = model(keras_bisenet.normalize(photos))["logits"]
        >>> tuple(logits.shape)
        (1, 64, 96, 3)
    """

    def __init__(
        self,
        num_classes: int = 19,
        backbone: str = "resnet18",
        width: float = 1.0,
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        dtype: str | keras.DTypePolicy | None = None,
        name: str = "bisenet",
    ) -> None:
        architecture.check(num_classes, backbone, width)
        _check_input_shape(input_shape)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        with _global_dtype_policy(policy):
            images = keras.Input(input_shape, dtype=policy.variable_dtype, name="image")
            super().__init__(inputs=images, outputs=_heads(images, num_classes, backbone, width), name=name)
        self.num_classes = num_classes
        self.backbone = backbone
        self.width = float(width)
        self._config = {
            "num_classes": num_classes,
            "backbone": backbone,
            "width": self.width,
            "input_shape": tuple(input_shape),
            "dtype": policy.name,
            "name": name,
        }

    def get_config(self) -> dict[str, Any]:
        return dict(self._config)

    def __repr__(self) -> str:
        height, width = ("any" if side is None else side for side in self._config["input_shape"][:2])
        return (
            f"<BiSeNet {self.name}: {self.backbone} at width {self.width:g}, {self.num_classes} classes, photos of "
            f"{height}x{width}, {self._config['dtype']}>"
        )

    def with_config(self, **changes: Any) -> "BiSeNet":
        """The network with the same weights and another `dtype`, `input_shape` or `name`.

        Args:
            changes: arguments of the class.

        Returns:
            `BiSeNet`: this one, if it is like that already.
        """
        config = self._config | changes
        if config == self._config:
            return self
        network = type(self)(**config)
        for variable, weight in zip(network.weights, self.weights, strict=True):
            variable.assign(ops.cast(weight, variable.dtype))
        return network


def _check_input_shape(input_shape):
    height, width, channels = input_shape
    if channels != 3 or any(side is not None and side < MINIMUM_SIZE for side in (height, width)):
        raise ValueError(
            f"input_shape is {tuple(input_shape)}; expected (H, W, 3) with H and W None or at least {MINIMUM_SIZE}"
        )


@contextlib.contextmanager
def _global_dtype_policy(policy):
    """Lets every layer built inside take `policy` without handing it through each call (Keras keeps it per thread)."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _heads(images, num_classes, backbone, width):
    def channels(count):
        return architecture.channels(count, width)

    feature8, feature16, feature32 = resnet.features(images, backbone, width)
    context8, context16 = _context_path(feature8, feature16, feature32, channels(128))
    fused = _feature_fusion(feature8, context8, channels(256), channels(64))
    logits = (
        _head(fused, channels(256), num_classes, name="conv_out"),
        _head(context8, channels(64), num_classes, name="conv_out16"),
        _head(context16, channels(64), num_classes, name="conv_out32"),
    )
    return {
        head: layers.AlignCornersResize(name=f"{head}_resize")([x, images])
        for head, x in zip(HEADS, logits, strict=True)
    }


def _context_path(feature8, feature16, feature32, filters):
    """Passes global and stride-32 context down; returns context at strides 8 and 16, `filters` channels each."""
    # The 1x1 global feature is broadcast by the addition; PyTorch enlarges it first.
    context = layers.conv_bn_relu(layers.GlobalMean()(feature32), filters, 1, name="conv_avg")
    refined32 = _attention_refinement(feature32, filters, name="arm32") + context
    context16 = layers.NearestResize(name="conv_head32_resize")([refined32, feature16])
    context16 = layers.conv_bn_relu(context16, filters, 3, name="conv_head32")
    refined16 = _attention_refinement(feature16, filters, name="arm16") + context16
    context8 = layers.NearestResize(name="conv_head16_resize")([refined16, feature8])
    context8 = layers.conv_bn_relu(context8, filters, 3, name="conv_head16")
    return context8, context16


def _attention_refinement(x, filters, *, name):
    """The paper's ARM: a convolution whose channels are weighed by a gate computed from their global mean."""
    x = layers.conv_bn_relu(x, filters, 3, name=name)
    gate = layers.conv(layers.GlobalMean()(x), filters, 1, name=f"{name}_conv_atten")
    gate = ops.sigmoid(layers.batch_norm(gate, name=f"{name}_bn_atten"))
    return x * gate


def _feature_fusion(spatial, context, filters, squeezed):
    """The paper's FFM: both features -> `[N, H, W, filters]`, channels weighed by a squeeze-and-excite gate."""
    x = layers.conv_bn_relu(ops.concatenate([spatial, context], axis=-1), filters, 1, name="ffm")
    gate = ops.relu(layers.conv(layers.GlobalMean()(x), squeezed, 1, name="ffm_conv1"))
    gate = ops.sigmoid(layers.conv(gate, filters, 1, name="ffm_conv2"))
    return x * gate + x


def _head(x, filters, num_classes, *, name):
    x = layers.conv_bn_relu(x, filters, 3, name=name)
    return layers.conv(x, num_classes, 1, name=f"{name}_logits")
