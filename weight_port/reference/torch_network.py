"""Our own PyTorch BiSeNet: the reference that every port and export is measured against (imports torch).

It has the key layouts of both published networks. The names are written out here a second time on purpose: a mistake
in `layouts.py` must not find its mirror image in the reference.
"""

import copy
import dataclasses

import torch
from torch import nn
from torch.nn import functional

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


@dataclasses.dataclass(frozen=True)
class Names:
    """What a published network calls its parts. `attention_sequence`: its attention is one `nn.Sequential`."""

    context: str
    backbone: str
    norm: str
    block: str
    fusion_block: str
    head_conv: str
    attention_sequence: bool
    classifier: bool


LAYOUTS = {
    "zllrunning": Names("cp", "resnet", "bn", "conv", "convblk", "conv_out", False, False),
    "yakhyo": Names("fpn", "backbone", "norm", "conv_block", "conv_block", "conv", True, True),
}


def _conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


def channels_at(width):
    """How many channels take the place of so many at width 1: the nearest multiple of 8, halves up."""

    def channels(count):
        return 8 * int(count * width / 8 + 0.5)

    return channels


def _global_mean(x):
    return x.mean((2, 3), keepdim=True)


class ConvBNReLU(nn.Module):
    def __init__(self, names, inputs, outputs, kernel):
        super().__init__()
        self.names = names
        self.conv = _conv(inputs, outputs, kernel)
        setattr(self, names.norm, nn.BatchNorm2d(outputs))

    def forward(self, x):
        return functional.relu(getattr(self, self.names.norm)(self.conv(x)))


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(shortcut + self.bn2(self.conv2(x)))


class ResNet(nn.Module):
    """torchvision's ResNet-18/34 without its forward to a class: returns the features at strides 8, 16 and 32."""

    def __init__(self, backbone, classifier, channels=None):
        super().__init__()
        channels = channels or channels_at(1)
        outputs = channels(64)
        self.conv1 = _conv(3, outputs, 7, 2)
        self.bn1 = nn.BatchNorm2d(outputs)
        for stage, blocks in enumerate(BLOCKS[backbone]):
            inputs, outputs = outputs, channels(64 * 2**stage)
            first = BasicBlock(inputs, outputs, 1 if stage == 0 else 2)
            rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(first, *rest))
        if classifier:
            self.fc = nn.Linear(outputs, 1000)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        feature8 = self.layer2(x)
        feature16 = self.layer3(feature8)
        return feature8, feature16, self.layer4(feature16)


class AttentionRefinement(nn.Module):
    def __init__(self, names, inputs, outputs):
        super().__init__()
        self.names = names
        setattr(self, names.block, ConvBNReLU(names, inputs, outputs, 3))
        conv, norm = _conv(outputs, outputs, 1), nn.BatchNorm2d(outputs)
        if names.attention_sequence:
            self.attention = nn.Sequential(conv, norm)
        else:
            self.conv_atten, self.bn_atten = conv, norm

    def forward(self, x):
        x = getattr(self, self.names.block)(x)
        gate = _global_mean(x)
        gate = self.attention(gate) if self.names.attention_sequence else self.bn_atten(self.conv_atten(gate))
        return x * torch.sigmoid(gate)


class ContextPath(nn.Module):
    def __init__(self, names, backbone, channels):
        super().__init__()
        self.names = names
        outputs, feature16, feature32 = channels(128), channels(256), channels(512)
        setattr(self, names.backbone, ResNet(backbone, names.classifier, channels))
        self.arm16 = AttentionRefinement(names, feature16, outputs)
        self.arm32 = AttentionRefinement(names, feature32, outputs)
        self.conv_head32 = ConvBNReLU(names, outputs, outputs, 3)
        self.conv_head16 = ConvBNReLU(names, outputs, outputs, 3)
        self.conv_avg = ConvBNReLU(names, feature32, outputs, 1)

    def forward(self, x):
        feature8, feature16, feature32 = getattr(self, self.names.backbone)(x)
        average = functional.interpolate(self.conv_avg(_global_mean(feature32)), feature32.shape[2:], mode="nearest")
        context16 = functional.interpolate(self.arm32(feature32) + average, feature16.shape[2:], mode="nearest")
        context16 = self.conv_head32(context16)
        context8 = functional.interpolate(self.arm16(feature16) + context16, feature8.shape[2:], mode="nearest")
        return feature8, self.conv_head16(context8), context16


class FeatureFusion(nn.Module):
    def __init__(self, names, channels):
        super().__init__()
        self.names = names
        inputs, outputs, squeezed = 2 * channels(128), channels(256), channels(64)
        setattr(self, names.fusion_block, ConvBNReLU(names, inputs, outputs, 1))
        self.conv1 = _conv(outputs, squeezed, 1)
        self.conv2 = _conv(squeezed, outputs, 1)

    def forward(self, spatial, context):
        x = getattr(self, self.names.fusion_block)(torch.cat([spatial, context], 1))
        gate = torch.sigmoid(self.conv2(functional.relu(self.conv1(_global_mean(x)))))
        return x * gate + x


class Head(nn.Module):
    def __init__(self, names, inputs, width, num_classes):
        super().__init__()
        self.names = names
        setattr(self, names.block, ConvBNReLU(names, inputs, width, 3))
        setattr(self, names.head_conv, _conv(width, num_classes, 1))

    def forward(self, x, size):
        x = getattr(self, self.names.head_conv)(getattr(self, self.names.block)(x))
        return functional.interpolate(x, size, mode="bilinear", align_corners=True)


class BiSeNet(nn.Module):
    """The published face-parsing network.

    Args:
        num_classes: channels of each head.
        backbone: `"resnet18"` or `"resnet34"`.
        layout: `"zllrunning"` or `"yakhyo"`: which names its state_dict has.
        width: factor of the number of channels of every layer but the last ones; 1 in the published network.

    Called with normalized images `[N, 3, H, W]` float RGB, returns three `[N, num_classes, H, W]` logit tensors: the
    main head, then the auxiliary heads at strides 8 and 16.
    """

    def __init__(self, num_classes=19, backbone="resnet18", layout="zllrunning", width=1.0):
        super().__init__()
        self.names = names = LAYOUTS[layout]
        channels = channels_at(width)
        setattr(self, names.context, ContextPath(names, backbone, channels))
        self.ffm = FeatureFusion(names, channels)
        self.conv_out = Head(names, channels(256), channels(256), num_classes)
        self.conv_out16 = Head(names, channels(128), channels(64), num_classes)
        self.conv_out32 = Head(names, channels(128), channels(64), num_classes)

    def forward(self, x):
        size = x.shape[2:]
        feature8, context8, context16 = getattr(self, self.names.context)(x)
        fused = self.ffm(feature8, context8)
        return self.conv_out(fused, size), self.conv_out16(context8, size), self.conv_out32(context16, size)


class Reference:
    """The network with the weights of a checkpoint, in evaluation mode, for NHWC arrays.

    Every call runs the network: keep the result where several results are compared with it.

    Args:
        state: key -> array of a state_dict, loaded strictly and rounded to float32.
        architecture: the `weight_port.Architecture` that `weight_port.recognize` finds in it.

    Attributes:
        network: the `BiSeNet`, float32.

    Raises:
        RuntimeError: keys or shapes of `state` are not those of the architecture.
    """

    def __init__(self, state, architecture):
        names = architecture.layout.name
        network = BiSeNet(architecture.num_classes, architecture.backbone, names, architecture.width)
        network.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
        self.network = network.eval()
        self._networks = {"float32": self.network}

    @torch.inference_mode()
    def __call__(self, images):
        """Runs the network in the precision of its input.

        Args:
            images: `[N, H, W, 3]` float32 or float64 RGB, normalized (`keras_bisenet.normalize`): about -2.1 to 2.7.

        Returns:
            Three arrays `[N, H, W, num_classes]` of logits in the same dtype: the main head, then the auxiliary heads
            at strides 8 and 16.

        Raises:
            TypeError: the dtype is not a float one.
        """
        dtype = images.dtype.name
        if dtype not in self._networks:
            self._networks[dtype] = copy.deepcopy(self.network).to(getattr(torch, dtype))
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        heads = [*self._networks[dtype](x)]
        # Each is freed when it has been turned.
        return tuple(heads.pop(0).permute(0, 2, 3, 1).contiguous().numpy() for _ in range(len(heads)))
