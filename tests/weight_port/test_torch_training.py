"""The PyTorch training reference against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from support.networks import random_images, random_state
from torch import nn

from weight_port.reference import torch_network
from weight_port.reference.torch_training import (
    WEIGHT_DECAY,
    OhemCrossEntropy,
    TorchTrainer,
    learning_rate,
    parameter_groups,
)

pytestmark = pytest.mark.slow

# 2 images of 4x5: 40 pixels, of which 40 // 16 = 2 are the fewest that count.
SHAPE = (2, 4, 5)


def pixels(hard, easy=0.9, ignored=0):
    """Logits `[2, 3, 4, 5]` and labels: the softmax gives the true label these probabilities, in shuffled places.

    A pixel with the label 255 gives every class a low probability of being right.
    """
    probabilities = np.full(40, easy)
    probabilities[: len(hard)] = hard
    labels = np.arange(40) % 3
    rest = (1 - probabilities) / 2
    logits = np.log(np.where(np.arange(3) == labels[:, np.newaxis], probabilities[:, np.newaxis], rest[:, np.newaxis]))
    if ignored:
        labels[-ignored:], logits[-ignored:] = 255, (50, 0, -50)
    order = np.random.default_rng(0).permutation(40)
    logits = logits[order].reshape(*SHAPE, 3).transpose(0, 3, 1, 2)
    return torch.tensor(logits), torch.tensor(labels[order].reshape(SHAPE))


@pytest.mark.parametrize("ignored", [0, 7])
@pytest.mark.parametrize(
    ("hard", "counted"),
    [
        # More than two are hard: all of them count, and 0.71 does not.
        ((0.1, 0.2, 0.5, 0.6, 0.69, 0.71, 0.75), (0.1, 0.2, 0.5, 0.6, 0.69)),
        ((0.1, 0.2, 0.5), (0.1, 0.2, 0.5)),
        # Two or fewer: the two hardest, hard or not.
        ((0.1, 0.2), (0.1, 0.2)),
        ((0.1, 0.75, 0.8), (0.1, 0.75)),
        ((0.8, 0.85), (0.8, 0.85)),
    ],
)
def test_ohem_counts_the_hard_pixels_or_the_hardest(hard, counted, ignored):
    criterion = OhemCrossEntropy()
    loss = criterion(*pixels(hard, ignored=ignored))
    assert criterion.hard == sum(probability < 0.7 for probability in hard) / 40
    assert loss.item() == pytest.approx(np.mean([-math.log(probability) for probability in counted]), rel=1e-12)


def test_ohem_with_another_threshold():
    loss = OhemCrossEntropy(0.15)(*pixels((0.1, 0.11, 0.12, 0.5)))
    assert loss.item() == pytest.approx(-math.log(0.1 * 0.11 * 0.12) / 3, rel=1e-12)


def test_ohem_of_nothing_but_ignored_pixels_is_zero():
    logits, labels = pixels((0.1, 0.2, 0.5), ignored=40)
    logits.requires_grad_()
    loss = OhemCrossEntropy()(logits, labels)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("layout", ["zllrunning", "yakhyo"])
def test_only_kernels_decay_and_what_is_behind_the_context_path_learns_faster(layout):
    network = torch_network.BiSeNet(5, layout=layout)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = {
        (group["multiple"], group["weight_decay"]): [names[id(parameter)] for parameter in group["params"]]
        for group in parameter_groups(network)
    }
    # ResNet-18 has 20 convolutions and as many batch norms; the rest of the context path 7 of each. Fusion has three
    # convolutions and one batch norm, each of the three heads two and one. yakhyo's classifier is a kernel of no
    # convolution and a bias, which no step changes.
    classifier = 2 if layout == "yakhyo" else 0
    counts = {(1, 5e-4): 27, (1, 0.0): 54 + classifier, (10, 5e-4): 9, (10, 0.0): 8}
    assert {key: len(group) for key, group in groups.items()} == counts
    assert sorted(name for group in groups.values() for name in group) == sorted(names.values())
    fast = {name.split(".")[0] for name in groups[10, 5e-4] + groups[10, 0.0]}
    assert fast == {"ffm", "conv_out", "conv_out16", "conv_out32"}
    slow = {name.split(".")[0] for name in groups[1, 5e-4] + groups[1, 0.0]}
    assert slow == {"fpn" if layout == "yakhyo" else "cp"}
    for name in groups[1, 5e-4] + groups[10, 5e-4]:
        assert isinstance(network.get_submodule(name.rpartition(".")[0]), nn.Conv2d)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 1e-5),
        (500, 10**-3.5),
        (1000, 1e-2),
        (1001, 1e-2 * (78_999 / 79_000) ** 0.9),
        (40_500, 1e-2 * 0.5**0.9),
        (80_000, 0.0),
    ],
)
def test_learning_rate(step, rate):
    assert learning_rate(step) == pytest.approx(rate, rel=1e-12)


class Pixelwise(nn.Module):
    """Three heads that are nothing but 1x1 convolutions of the image; the second belongs to the context path."""

    def __init__(self):
        super().__init__()
        self.conv_out = nn.Conv2d(3, 2, 1)
        self.cp = nn.Conv2d(3, 2, 1)
        self.conv_out32 = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return self.conv_out(x), self.cp(x), self.conv_out32(x)


def test_two_steps_by_hand():
    """Gradient, momentum, decay, the tenfold rate and the schedule, on images of a single color."""
    network = Pixelwise().double()
    color, label = np.array([1.0, -2.0, 0.5]), np.array([1.0, 0.0])
    heads = {"conv_out": 10, "cp": 1, "conv_out32": 10}
    kernels = {name: network.get_parameter(f"{name}.weight")[..., 0, 0].detach().numpy().copy() for name in heads}
    biases = {name: network.get_parameter(f"{name}.bias").detach().numpy().copy() for name in heads}
    trainer = TorchTrainer(network, rate=lambda step: (0.02, 0.05)[step], threshold=0.999)
    velocity = dict.fromkeys(heads, 0.0), dict.fromkeys(heads, 0.0)
    for rate in (0.02, 0.05):
        losses = trainer.step(np.tile(color, (2, 4, 5, 1)), np.zeros(SHAPE, np.uint8))
        for (name, multiple), loss in zip(heads.items(), losses, strict=True):
            logits = kernels[name] @ color + biases[name]
            softmax = np.exp(logits) / np.exp(logits).sum()
            assert loss == pytest.approx(-math.log(softmax[0]), rel=1e-12)
            error = softmax - label
            velocity[0][name] = 0.9 * velocity[0][name] + np.outer(error, color) + WEIGHT_DECAY * kernels[name]
            velocity[1][name] = 0.9 * velocity[1][name] + error
            kernels[name] = kernels[name] - multiple * rate * velocity[0][name]
            biases[name] = biases[name] - multiple * rate * velocity[1][name]
    state = trainer.state()
    for name in heads:
        np.testing.assert_allclose(state[f"{name}.weight"][..., 0, 0], kernels[name], rtol=1e-12)
        np.testing.assert_allclose(state[f"{name}.bias"], biases[name], rtol=1e-12)
    assert trainer.steps == 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trains_the_network_with_its_batch_norm_statistics(dtype):
    """The losses fall on a batch that is shown again and again, and statistics move towards those of the batch."""
    state = {key: torch.tensor(array) for key, array in random_state(num_classes=3).items()}
    network = torch_network.BiSeNet(3)
    network.load_state_dict(state)
    network = network.to(getattr(torch, dtype))
    images = random_images(65, 97, dtype, count=2)
    labels = (images[..., 0] > 0).astype(np.int64) + (images[..., 1] > 1)
    labels[:, :5] = 255
    trainer = TorchTrainer(network, rate=lambda _: 1e-3)
    losses = [trainer.step(images, labels) for _ in range(5)]
    assert sum(losses[-1]) < sum(losses[0])
    after = trainer.state()
    assert after["cp.resnet.bn1.running_mean"].dtype == dtype
    assert after["cp.resnet.bn1.num_batches_tracked"] == state["cp.resnet.bn1.num_batches_tracked"] + 5
    # 0.9**5 of the old mean stays; the kernel barely moves, so that the batch's own mean is that of its first step.
    with torch.no_grad():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        batch = nn.functional.conv2d(x, state["cp.resnet.conv1.weight"].to(x.dtype), stride=2, padding=3)
    expected = 0.9**5 * state["cp.resnet.bn1.running_mean"].numpy() + (1 - 0.9**5) * batch.mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(after["cp.resnet.bn1.running_mean"], expected, atol=0.01)
