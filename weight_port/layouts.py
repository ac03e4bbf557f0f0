"""How each published PyTorch layout names the tensors that the Keras model holds (strings only).

The Keras side is named `<layer>/<weight>`, for example `arm16_conv/kernel`; the PyTorch side `<module>.<tensor>`.
"""

import dataclasses
import re
from collections.abc import Mapping

# Keras weight -> PyTorch tensor of the same layer.
TENSORS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

# A batch norm's step counter: PyTorch stores it, neither framework computes with it at momentum 0.1.
COUNTER = "num_batches_tracked"

# Of the unused classifier.
IMAGENET_CLASSES = 1000


@dataclasses.dataclass(frozen=True)
class Layout:
    """One published layout.

    Attributes:
        name: who published it.
        backbone: prefix of the ResNet, with its dot.
        modules: Keras layer -> PyTorch module, for all layers behind the backbone.
        classifier: prefix of the classifier that the layout stores and the network never reads, with its dot; or None.
    """

    name: str
    backbone: str
    modules: Mapping[str, str]
    classifier: str | None = None

    def module(self, layer: str) -> str | None:
        """The PyTorch module behind a Keras layer; None if this layout has none."""
        if not layer.startswith("backbone_"):
            return self.modules.get(layer)
        path = layer.removeprefix("backbone_")
        path = path.replace("downsample_conv", "downsample.0").replace("downsample_bn", "downsample.1")
        return self.backbone + re.sub(r"^layer(\d)_(\d+)_", r"layer\1.\2.", path)

    def unused(self, features: int) -> dict[str, tuple[int, ...]]:
        """The tensors that the layout stores and the network never reads -> their shape.

        Args:
            features: channels of the last stage of the backbone.
        """
        if self.classifier is None:
            return {}
        return {f"{self.classifier}weight": (IMAGENET_CLASSES, features), f"{self.classifier}bias": (IMAGENET_CLASSES,)}


# github.com/zllrunning/face-parsing.PyTorch; also clibdev's and facexlib's.
ZLLRUNNING = Layout(
    name="zllrunning",
    backbone="cp.resnet.",
    modules={
        "arm16_conv": "cp.arm16.conv.conv",
        "arm16_bn": "cp.arm16.conv.bn",
        "arm16_conv_atten": "cp.arm16.conv_atten",
        "arm16_bn_atten": "cp.arm16.bn_atten",
        "arm32_conv": "cp.arm32.conv.conv",
        "arm32_bn": "cp.arm32.conv.bn",
        "arm32_conv_atten": "cp.arm32.conv_atten",
        "arm32_bn_atten": "cp.arm32.bn_atten",
        "conv_head32_conv": "cp.conv_head32.conv",
        "conv_head32_bn": "cp.conv_head32.bn",
        "conv_head16_conv": "cp.conv_head16.conv",
        "conv_head16_bn": "cp.conv_head16.bn",
        "conv_avg_conv": "cp.conv_avg.conv",
        "conv_avg_bn": "cp.conv_avg.bn",
        "ffm_conv": "ffm.convblk.conv",
        "ffm_bn": "ffm.convblk.bn",
        "ffm_conv1": "ffm.conv1",
        "ffm_conv2": "ffm.conv2",
        "conv_out_conv": "conv_out.conv.conv",
        "conv_out_bn": "conv_out.conv.bn",
        "conv_out_logits": "conv_out.conv_out",
        "conv_out16_conv": "conv_out16.conv.conv",
        "conv_out16_bn": "conv_out16.conv.bn",
        "conv_out16_logits": "conv_out16.conv_out",
        "conv_out32_conv": "conv_out32.conv.conv",
        "conv_out32_bn": "conv_out32.conv.bn",
        "conv_out32_logits": "conv_out32.conv_out",
    },
)

# github.com/yakhyo/face-parsing. Its backbone keeps the classifier of the ImageNet network.
YAKHYO = Layout(
    name="yakhyo",
    backbone="fpn.backbone.",
    modules={
        "arm16_conv": "fpn.arm16.conv_block.conv",
        "arm16_bn": "fpn.arm16.conv_block.norm",
        "arm16_conv_atten": "fpn.arm16.attention.0",
        "arm16_bn_atten": "fpn.arm16.attention.1",
        "arm32_conv": "fpn.arm32.conv_block.conv",
        "arm32_bn": "fpn.arm32.conv_block.norm",
        "arm32_conv_atten": "fpn.arm32.attention.0",
        "arm32_bn_atten": "fpn.arm32.attention.1",
        "conv_head32_conv": "fpn.conv_head32.conv",
        "conv_head32_bn": "fpn.conv_head32.norm",
        "conv_head16_conv": "fpn.conv_head16.conv",
        "conv_head16_bn": "fpn.conv_head16.norm",
        "conv_avg_conv": "fpn.conv_avg.conv",
        "conv_avg_bn": "fpn.conv_avg.norm",
        "ffm_conv": "ffm.conv_block.conv",
        "ffm_bn": "ffm.conv_block.norm",
        "ffm_conv1": "ffm.conv1",
        "ffm_conv2": "ffm.conv2",
        "conv_out_conv": "conv_out.conv_block.conv",
        "conv_out_bn": "conv_out.conv_block.norm",
        "conv_out_logits": "conv_out.conv",
        "conv_out16_conv": "conv_out16.conv_block.conv",
        "conv_out16_bn": "conv_out16.conv_block.norm",
        "conv_out16_logits": "conv_out16.conv",
        "conv_out32_conv": "conv_out32.conv_block.conv",
        "conv_out32_bn": "conv_out32.conv_block.norm",
        "conv_out32_logits": "conv_out32.conv",
    },
    classifier="fpn.backbone.fc.",
)

# torchvision.models.resnet18 and resnet34: the backbone alone.
TORCHVISION = Layout(
    name="torchvision",
    backbone="",
    modules={},
    classifier="fc.",
)

BISENET_LAYOUTS = (ZLLRUNNING, YAKHYO)
LAYOUTS = {layout.name: layout for layout in (*BISENET_LAYOUTS, TORCHVISION)}
