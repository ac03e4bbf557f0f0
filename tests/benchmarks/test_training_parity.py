"""Training in Keras against training in PyTorch: the same weights, the same batches, 20 steps, the same result."""

import dataclasses

import numpy as np
import pytest
from support.networks import random_state

from benchmarks.training.parity import KerasRun, TorchRun, batches, difference
from keras_bisenet.labels import IGNORE
from keras_bisenet.training.configs import ORIGINAL

pytestmark = pytest.mark.slow

STEPS = 20
# Warm-up, the highest rate and decay lie within the steps. Random weights and labels multiply rounding faster than a
# trained network does, the more so the higher the rate.
SCHEDULE = {"steps": 40, "warmup_steps": 5, "warmup_start": 1e-6, "learning_rate": 1e-5}


def random_batches(count):
    """2 photos of 65x97 noise with 7 classes, of which a tenth is ignored."""
    random = np.random.default_rng(0)
    for _ in range(count):
        images = random.integers(0, 256, (2, 65, 97, 3)).astype(np.uint8)
        labels = random.integers(0, 7, (2, 65, 97)).astype(np.int32)
        labels[random.random(labels.shape) < 0.1] = IGNORE
        yield images, labels


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("threshold", "many_hard"), [(0.7, True), (0.005, False)])
def test_twenty_steps_give_the_losses_weights_and_statistics_of_pytorch(precision, threshold, many_hard):
    """Once with more hard pixels than OHEM asks for, once with fewer."""
    config = dataclasses.replace(ORIGINAL, num_classes=7, precision=precision, ohem_threshold=threshold, **SCHEDULE)
    state = random_state(num_classes=7)
    torch_run, keras_run = TorchRun(state, config), KerasRun(state, config)
    for step, batch in enumerate(random_batches(STEPS), 1):
        reference = torch_run(*batch)
        found = difference(state, reference, keras_run(*batch))
        assert all((share > 1 / 16) == many_hard for share in torch_run.trainer.hard)
        if precision == "float64":
            assert max(found.values()) <= 1e-10, (step, found)
    assert max(found["losses"], found["weights"], found["statistics"]) <= 1e-2, found
    assert torch_run.trainer.steps == STEPS


def test_difference_against_hand_computed_values():
    start = {"a.weight": np.array([1.0, 2.0, 3.0]), "a.running_var": np.array([1.0])}
    reference = {"a.weight": np.array([1.0, 2.0, 7.0]), "a.running_var": np.array([2.0])}
    reference |= {"b.bias": np.array([-0.5, 3.0]), "a.num_batches_tracked": np.array(3)}
    start |= {"b.bias": np.array([-0.5, 0.0]), "a.num_batches_tracked": np.array(0)}
    result = {"a.weight": np.array([1.0, 1.3, 7.0]), "a.running_var": np.array([1.9])}
    result |= {"b.bias": np.array([-0.5, 3.6]), "a.num_batches_tracked": np.array(0)}
    found = difference(start, (np.array([1.0, 2.0, 4.0]), reference), (np.array([1.0, 2.2, 4.1]), result))
    # Of the second loss 0.2 / 2, of a.weight 0.7 / 7 and of b.bias 0.6 / 3; gone are 4 in a.weight and 3 in b.bias.
    assert found == pytest.approx(
        {"losses": 0.1, "weights": 0.2, "statistics": 0.05, "path": np.sqrt(0.7**2 + 0.6**2) / 5}, rel=1e-12
    )


def test_crops_keep_their_labels():
    """A photo whose color tells its class, in two halves."""
    labels = np.zeros((60, 60), np.uint8)
    labels[:, 30:] = 6
    photo = np.where(labels[..., np.newaxis] == 6, [0, 200, 0], [200, 0, 0]).astype(np.uint8)
    found = list(batches(photo, labels, 7, count=3, size=4, side=32))
    assert len(found) == 3
    for images, truth in found:
        assert images.shape == (4, 32, 32, 3)
        assert truth.shape == (4, 32, 32)
        green = images[..., 1] > images[..., 0]
        # A tenth is any class, a twentieth none: 1 - 0.95 * (0.9 + 0.1 / 7) is 0.13; a few lie between the colors.
        assert 0.08 < (truth != np.where(green, 6, 0)).mean() < 0.19
        assert 0.03 < (truth == IGNORE).mean() < 0.07
        assert set(np.unique(truth)) == {*range(7), IGNORE}
