"""The deployment graph: a photo in, labels out, with pre- and post-processing inside.

It computes what `keras_bisenet.bisenet` computes at inference, in fewer steps. Each saving is exact but for rounding,
and is made in float64:

- batch norm is folded into the convolution before it;
- of the normalisation only the subtraction of the mean is left, its scale is folded into the first convolution. (The
  mean cannot be folded: the convolution pads with zeros, which stand for the mean, not for black.);
- `x * gate + x` is `x * (gate + 1)`: the addition is over one value a channel.
"""

import numpy as np

from keras_bisenet import preprocessing, resnet
from keras_bisenet.bisenet import HEADS, MINIMUM_SIZE
from keras_bisenet.export.builder import Builder
from keras_bisenet.export.errors import ExportError
from keras_bisenet.layers import EPSILON

# What `--output` offers -> the tensors that the file returns, by name and in order.
OUTPUTS = {"labels": ("labels",), "logits": ("logits",), "probabilities": ("probabilities",), "all_heads": HEADS}
INPUTS = ("uint8", "float32")


def build(model, image_size, input_type="uint8", output="labels", weights="float32"):
    """Builds the `.tflite` file of a model, for one image of a fixed size.

    Args:
        model: a `BiSeNet`.
        image_size: (height, width), each at least 32.
        input_type: `"uint8"`: the file takes RGB 0..255 and normalises it; `"float32"`: RGB normalised already, see
            `keras_bisenet.normalize`.
        output: `"labels"`: uint8 `[1, H, W]` class ids; `"logits"`: float32 `[1, H, W, classes]`; `"probabilities"`:
            the same after a softmax; `"all_heads"`: three logit tensors.
        weights: how they are stored, see `Builder`.

    Returns:
        The file as bytes. Its input is called `image`, its outputs `OUTPUTS[output]`. The heads' logits carry the names
        `HEADS`, be they outputs or inner tensors.

    Raises:
        ExportError: a value is not one of the above, or the labels do not fit into uint8.
    """
    if output not in OUTPUTS:
        raise ExportError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    if input_type not in INPUTS:
        raise ExportError(f"input is {input_type!r}; expected one of {', '.join(INPUTS)}")
    if min(image_size) < MINIMUM_SIZE:
        raise ExportError(f"image size is {image_size[0]}x{image_size[1]}; each side must be at least {MINIMUM_SIZE}")
    if output == "labels" and model.num_classes > 256:
        raise ExportError(f"{model.num_classes} classes do not fit into uint8 labels; use the output 'logits'")
    builder = Builder(weights)
    image = builder.input("image", (1, *image_size, 3), input_type)
    return builder.finish(write(model, builder, image, output))


def write(model, builder, image, output):
    """Writes the graph of a model into a builder.

    Args:
        model: a `BiSeNet`.
        builder: a `Builder`, or anything with its methods.
        image: the input, of that builder's kind: `[1, H, W, 3]` RGB, uint8, or float32 and normalised.
        output: a key of `OUTPUTS`.

    Returns:
        dict: names `OUTPUTS[output]` -> results, of the builder's kind.
    """
    network = _Network(model, builder)
    fused, context8, context16 = network.trunk(image)
    logits = network.head(fused, image, layer="conv_out", name=HEADS[0])
    if output == "labels":
        labels = builder.argmax(logits, name="labels_int32")
        return {"labels": builder.cast(labels, "uint8", name="labels")}
    if output == "probabilities":
        return {"probabilities": builder.softmax(logits, name="probabilities")}
    outputs = {HEADS[0]: logits}
    if output == "all_heads":
        outputs[HEADS[1]] = network.head(context8, image, layer="conv_out16", name=HEADS[1])
        outputs[HEADS[2]] = network.head(context16, image, layer="conv_out32", name=HEADS[2])
    return outputs


class _Network:
    """Writes the network into a builder, part by part; the parts are those of `bisenet.py` and `resnet.py`."""

    def __init__(self, model, builder):
        self.builder = builder
        self._backbone = model.backbone
        self._weights = {weight.path: np.array(weight.numpy(), np.float64) for weight in model.weights}

    def trunk(self, image):
        """Everything before the heads: fused features, context at stride 8, context at stride 16."""
        b = self.builder
        feature8, feature16, feature32 = self._features(image)
        context = self._conv(b.global_mean(feature32, name="conv_avg_mean"), "conv_avg", relu=True)
        refined32 = b.add(self._attention_refinement(feature32, "arm32"), context, name="arm32_sum")
        context16 = b.resize_nearest(refined32, feature16, name="conv_head32_resize")
        context16 = self._conv(context16, "conv_head32", relu=True)
        refined16 = b.add(self._attention_refinement(feature16, "arm16"), context16, name="arm16_sum")
        context8 = b.resize_nearest(refined16, feature8, name="conv_head16_resize")
        context8 = self._conv(context8, "conv_head16", relu=True)
        return self._feature_fusion(feature8, context8), context8, context16

    def head(self, x, image, *, layer, name):
        """Logits at the size of the photo."""
        x = self._conv(self._conv(x, layer, relu=True), f"{layer}_logits", norm=None)
        return self.builder.resize_align_corners(x, image, name=name)

    def _features(self, image):
        """The ResNet: features at strides 8, 16 and 32."""
        b = self.builder
        scale = np.ones(3)
        if image.dtype == "uint8":
            image = b.cast(image, "float32", name="image_float32")
            image = b.add(image, -255.0 * np.array(preprocessing.MEAN), name="image_centred")
            scale = np.array(preprocessing.SCALE)
        x = self._conv(image, "backbone_conv1", norm="backbone_bn1", strides=2, relu=True, input_scale=scale)
        x = b.max_pool(x, name="backbone_max_pool")
        stages = []
        for stage, blocks in enumerate(resnet.BLOCKS[self._backbone], start=1):
            for block in range(blocks):
                strides = 2 if stage > 1 and block == 0 else 1
                x = self._basic_block(x, strides, f"backbone_layer{stage}_{block}")
            stages.append(x)
        return stages[1:]

    def _basic_block(self, x, strides, name):
        shortcut = x
        if strides > 1:
            downsample = f"{name}_downsample"
            shortcut = self._conv(x, f"{downsample}_conv", norm=f"{downsample}_bn", strides=strides)
        x = self._conv(x, f"{name}_conv1", norm=f"{name}_bn1", strides=strides, relu=True)
        x = self._conv(x, f"{name}_conv2", norm=f"{name}_bn2")
        return self.builder.add(shortcut, x, relu=True, name=f"{name}_sum")

    def _attention_refinement(self, x, name):
        b = self.builder
        x = self._conv(x, name, relu=True)
        gate = self._conv(b.global_mean(x, name=f"{name}_mean"), f"{name}_conv_atten", norm=f"{name}_bn_atten")
        return b.multiply(x, b.sigmoid(gate, name=f"{name}_gate"), name=f"{name}_gated")

    def _feature_fusion(self, spatial, context):
        b = self.builder
        x = self._conv(b.concatenate(spatial, context, name="ffm_concat"), "ffm", relu=True)
        gate = self._conv(b.global_mean(x, name="ffm_mean"), "ffm_conv1", norm=None, relu=True)
        gate = b.sigmoid(self._conv(gate, "ffm_conv2", norm=None), name="ffm_gate")
        return b.multiply(x, b.add(gate, np.ones(1), name="ffm_gate_plus_one"), name="ffm_gated")

    def _conv(self, x, layer, norm="", strides=1, *, relu=False, input_scale=None):
        """A convolution with its batch norm.

        Args:
            x: `Value`.
            layer: Keras layer of the kernel; for a `layers.conv_bn_relu` its name.
            norm: Keras layer of the batch norm; None for none; empty for that of a `layers.conv_bn_relu`.
            strides, relu: see `Builder.conv`.
            input_scale: `[I]` array that the channels of `x` are to be multiplied by.
        """
        name = layer
        if norm == "":
            layer, norm = f"{name}_conv", f"{name}_bn"
        kernel = self._weights[f"{layer}/kernel"]
        bias = np.zeros(kernel.shape[3])
        if input_scale is not None:
            kernel = kernel * input_scale[:, np.newaxis]
        if norm is not None:
            gamma, beta, mean, variance = (
                self._weights[f"{norm}/{weight}"] for weight in ("gamma", "beta", "moving_mean", "moving_variance")
            )
            factor = gamma / np.sqrt(variance + EPSILON)
            kernel, bias = kernel * factor, beta - mean * factor
        return self.builder.conv(x, kernel, bias, strides, relu=relu, name=name)
