"""The deployment graph: a photo in, labels out, with pre- and post-processing inside.

It computes what `keras_bisenet.bisenet` computes at inference, in fewer steps. Each saving is exact but for rounding,
and is made in float64:

- batch norm is folded into the convolution before it;
- of the normalisation only the subtraction of the mean is left, its scale is folded into the first convolution. (The
  mean cannot be folded: the convolution pads with zeros, which stand for the mean, not for black.);
- `x * gate + x` is `x * (gate + 1)`: the addition is over one value a channel;
- where a builder favours speed, the convolution after the larger upsampling and the widest one are those of
  `savings.py`.
"""

import numpy as np

from keras_bisenet import preprocessing, resnet
from keras_bisenet.bisenet import HEADS
from keras_bisenet.export import savings
from keras_bisenet.export.errors import ExportError
from keras_bisenet.layers import EPSILON

# What `--output` offers -> the tensors that the file returns, by name and in order.
OUTPUTS = {"labels": ("labels",), "logits": ("logits",), "probabilities": ("probabilities",), "all_heads": HEADS}
INPUTS = ("uint8", "float32")

# From so many channels on, a convolution is made Winograd's way: below, moving pixels costs more than it saves.
_WINOGRAD_CHANNELS = 256


def build(network, builder, image_size, input_type="uint8", output="labels"):
    """Builds the `.tflite` file of a network, for one image of a fixed size.

    Args:
        network: `Network`.
        builder: a new `Builder`, which decides on the arithmetic.
        image_size: (height, width), each at least 32.
        input_type: `"uint8"`: the file takes RGB 0..255 and normalises it; `"float32"`: RGB normalised already, see
            `keras_bisenet.normalize`.
        output: `"labels"`: uint8 `[1, H, W]` class ids; `"logits"`: float32 `[1, H, W, classes]`; `"probabilities"`:
            the same after a softmax; `"all_heads"`: three logit tensors.

    Returns:
        The file as bytes. Its input is called `image`, its outputs `OUTPUTS[output]`. The heads' logits carry the names
        `HEADS`, be they outputs or inner tensors.

    Raises:
        ExportError: a value is not one of the above, or the labels do not fit into uint8.
    """
    check(network, image_size, input_type, output)
    image = builder.input("image", (1, *image_size, 3), input_type)
    return builder.finish(write(network, builder, image, output))


def read_labels(results, output, head=HEADS[0]):
    """What a file says, the way its user would read it.

    Args:
        results: dict, output name -> array, as the file returns them.
        output: key of `OUTPUTS`.
        head: which of all heads.

    Returns:
        `[1, H, W]` class ids.
    """
    if "labels" in results:
        return results["labels"]
    return results[head if output == "all_heads" else OUTPUTS[output][0]].argmax(-1)


def check(network, image_size, input_type, output):
    """Raises `ExportError` where `build` would."""
    if output not in OUTPUTS:
        raise ExportError(f"output is {output!r}; expected one of {', '.join(OUTPUTS)}")
    if input_type not in INPUTS:
        raise ExportError(f"input is {input_type!r}; expected one of {', '.join(INPUTS)}")
    if min(image_size) < preprocessing.MINIMUM_SIZE:
        least = preprocessing.MINIMUM_SIZE
        raise ExportError(f"image size is {image_size[0]}x{image_size[1]}; each side must be at least {least}")
    if output == "labels" and network.num_classes > 256:
        raise ExportError(f"{network.num_classes} classes do not fit into uint8 labels; use the output 'logits'")


def write(network, builder, image, output):
    """Writes the graph of a network into a builder.

    Args:
        network: `Network`.
        builder: a `Builder`, or anything with its methods.
        image: the input, of that builder's kind: `[1, H, W, 3]` RGB, uint8, or float32 and normalised.
        output: a key of `OUTPUTS`.

    Returns:
        dict: names `OUTPUTS[output]` -> results, of the builder's kind.
    """
    parts = _Parts(network, builder)
    fused, context8, context16 = parts.trunk(image)
    logits = parts.head(fused, image, layer="conv_out", name=HEADS[0])
    if output == "labels":
        labels = builder.argmax(logits, name="labels_int32")
        return {"labels": builder.cast(labels, "uint8", name="labels")}
    if output == "probabilities":
        return {"probabilities": builder.softmax(logits, name="probabilities")}
    outputs = {HEADS[0]: logits}
    if output == "all_heads":
        outputs[HEADS[1]] = parts.head(context8, image, layer="conv_out16", name=HEADS[1])
        outputs[HEADS[2]] = parts.head(context16, image, layer="conv_out32", name=HEADS[2])
    return outputs


class _Parts:
    """Writes the network into a builder, part by part; the parts are those of `bisenet.py` and `resnet.py`."""

    def __init__(self, network, builder):
        self.builder = builder
        self._network = network

    def trunk(self, image):
        """Everything before the heads: fused features, context at stride 8, context at stride 16."""
        b = self.builder
        feature8, feature16, feature32 = self._features(image)
        context = self._conv_bn_relu(b.global_mean(feature32, name="conv_avg_mean"), "conv_avg")
        refined32 = b.add(self._attention_refinement(feature32, "arm32"), context, name="arm32_sum")
        context16 = b.resize_nearest(refined32, feature16, name="conv_head32_resize")
        context16 = self._conv_bn_relu(context16, "conv_head32")
        refined16 = b.add(self._attention_refinement(feature16, "arm16"), context16, name="arm16_sum")
        # At stride 16, above, this would save less than moving pixels costs.
        context8 = self._upsampled_conv(refined16, feature8, "conv_head16")
        return self._feature_fusion(feature8, context8), context8, context16

    def head(self, x, image, *, layer, name):
        """Logits at the size of the photo."""
        b = self.builder
        kernel, bias = self._folded(f"{layer}_conv", f"{layer}_bn")
        if b.favours_speed and x.shape[2] % 2 == 0 and kernel.shape[3] >= _WINOGRAD_CHANNELS:
            x = savings.winograd_conv(b, x, kernel, bias, name=layer)
        else:
            x = b.conv(x, kernel, bias, relu=True, name=layer)
        # In float whatever comes before: 8 bits would make ties of close logits, which fall to the wrong label.
        x = self._conv(b.dequantize(x, name=f"{layer}_float32"), f"{layer}_logits")
        return b.resize_align_corners(x, image, name=name)

    def _features(self, image):
        """The ResNet: features at strides 8, 16 and 32."""
        b = self.builder
        scale, offset = np.array(preprocessing.SCALE), np.array(preprocessing.OFFSET)
        if image.dtype == "uint8":
            x = b.centre(image, 255.0 * np.array(preprocessing.MEAN), name="image_centred")
        else:
            x = b.quantize(image, offset.min(), (255.0 * scale + offset).max(), name="image_quantized")
            scale = np.ones(3)
        kernel, bias = self._folded("backbone_conv1", "backbone_bn1")
        x = b.conv(x, kernel * scale[:, np.newaxis], bias, strides=2, relu=True, name="backbone_conv1")
        x = b.max_pool(x, name="backbone_max_pool")
        stages = []
        for stage, blocks in enumerate(resnet.BLOCKS[self._network.backbone], start=1):
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
        x = self._conv_bn_relu(x, name)
        gate = self._conv(b.global_mean(x, name=f"{name}_mean"), f"{name}_conv_atten", norm=f"{name}_bn_atten")
        return b.multiply(x, b.sigmoid(gate, name=f"{name}_gate"), name=f"{name}_gated")

    def _feature_fusion(self, spatial, context):
        b = self.builder
        x = self._conv_bn_relu(b.concatenate(spatial, context, name="ffm_concat"), "ffm")
        gate = self._conv(b.global_mean(x, name="ffm_mean"), "ffm_conv1", relu=True)
        gate = b.sigmoid(self._conv(gate, "ffm_conv2"), name="ffm_gate")
        return b.multiply(x, b.add(gate, np.ones(1), name="ffm_gate_plus_one"), name="ffm_gated")

    def _upsampled_conv(self, x, like, layer):
        """`x` at the height and width of `like` by nearest upsampling, then a `layers.conv_bn_relu`."""
        b = self.builder
        kernel, bias = self._folded(f"{layer}_conv", f"{layer}_bn")
        if b.favours_speed and like.shape[1:3] == (2 * x.shape[1], 2 * x.shape[2]):
            return savings.upsampled_conv(b, x, kernel, bias, name=layer)
        return b.conv(b.resize_nearest(x, like, name=f"{layer}_resize"), kernel, bias, relu=True, name=layer)

    def _conv_bn_relu(self, x, layer):
        """A `layers.conv_bn_relu`."""
        return self.builder.conv(x, *self._folded(f"{layer}_conv", f"{layer}_bn"), relu=True, name=layer)

    def _conv(self, x, layer, norm=None, strides=1, *, relu=False):
        """A convolution with its batch norm, if it has one; both are Keras layers."""
        return self.builder.conv(x, *self._folded(layer, norm), strides, relu=relu, name=layer)

    def _folded(self, layer, norm=None):
        """Kernel and bias that do the work of a batch norm, too."""
        kernel = self._weight(f"{layer}/kernel")
        if norm is None:
            return kernel, np.zeros(kernel.shape[3])
        gamma, beta, mean, variance = (
            self._weight(f"{norm}/{weight}") for weight in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        factor = gamma / np.sqrt(variance + EPSILON)
        return kernel * factor, beta - mean * factor

    def _weight(self, path):
        return self._network.weights[path].astype(np.float64)
