"""Our reference against the published PyTorch code and the published key names."""

import numpy as np
import pytest
import torch
from support.networks import random_images, random_state
from support.ported import reference


def test_equals_the_published_network(published_network):
    state = random_state()
    published = published_network(19)
    published.load_state_dict({key: torch.tensor(array) for key, array in state.items()})
    images = random_images(97, 65, "float64")
    with torch.inference_mode():
        expected = published.double().eval()(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    for ours, theirs in zip(reference(state)(images), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), rtol=0, atol=1e-12)


def test_both_layouts_are_the_same_function():
    """The same weights under either layout's names give the same logits."""
    zllrunning = random_state(layout="zllrunning", num_classes=4, width=0.25)
    yakhyo = random_state(layout="yakhyo", num_classes=4, width=0.25, seed=1)
    unused = {"fpn.backbone.fc.weight", "fpn.backbone.fc.bias"}
    # Both classes register their parts in the same order, so the order pairs the names.
    names = [key for key in yakhyo if key not in unused]
    assert [zllrunning[key].shape for key in zllrunning] == [yakhyo[key].shape for key in names]
    yakhyo.update(zip(names, zllrunning.values(), strict=True))
    images = random_images(64, 96)
    for one, other in zip(reference(zllrunning)(images), reference(yakhyo)(images), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("layout", "backbone", "count"),
    [("zllrunning", "resnet18", 191), ("yakhyo", "resnet18", 193), ("yakhyo", "resnet34", 289)],
)
def test_number_of_keys_is_the_published_one(layout, backbone, count):
    assert len(random_state(backbone, layout)) == count


def test_yakhyo_names():
    """Names read off github.com/yakhyo/face-parsing, models/bisenet.py."""
    state = random_state(layout="yakhyo")
    for key, shape in {
        "fpn.backbone.conv1.weight": (64, 3, 7, 7),
        "fpn.backbone.layer4.0.downsample.1.running_var": (512,),
        "fpn.backbone.fc.weight": (1000, 512),
        "fpn.arm16.conv_block.norm.bias": (128,),
        "fpn.arm32.attention.0.weight": (128, 128, 1, 1),
        "fpn.arm32.attention.1.running_mean": (128,),
        "fpn.conv_head32.conv.weight": (128, 128, 3, 3),
        "fpn.conv_avg.norm.weight": (128,),
        "ffm.conv_block.conv.weight": (256, 256, 1, 1),
        "ffm.conv1.weight": (64, 256, 1, 1),
        "conv_out.conv_block.norm.num_batches_tracked": (),
        "conv_out16.conv.weight": (19, 64, 1, 1),
    }.items():
        assert state[key].shape == shape
