"""A narrow network out of a wide one: what is useless goes, and the function stays."""

import numpy as np
import pytest
from support.networks import random_images, random_state
from support.refusals import refused

import weight_port
from keras_bisenet import BiSeNet
from keras_bisenet.training import slimming
from keras_bisenet.utils.errors import TrainingError

NARROW, WIDE = 0.125, 0.25


def widened(model, places):
    """The same function at twice the width: each channel and one that is 0, which of the two by `places`.

    Args:
        model: `BiSeNet` of width `NARROW`.
        places: called with a number of channels, gives where they are among twice as many.
    """
    wide = BiSeNet(5, model.backbone, WIDE)
    for variable, source in zip(wide.variables, model.variables, strict=True):
        value = np.array(source.numpy())
        for axis in range(value.ndim):
            if value.shape[axis] == variable.shape[axis]:
                continue
            # What reads two feature maps, one after the other, has those of each together.
            parts = 2 if source.path == "ffm_conv/kernel" and axis == 2 else 1
            count = value.shape[axis] // parts
            where = np.concatenate([2 * part * count + places(count) for part in range(parts)])
            grown = np.zeros([2 * size if i == axis else size for i, size in enumerate(value.shape)])
            np.moveaxis(grown, axis, 0)[where] = np.moveaxis(value, axis, 0)
            value = grown
        variable.assign(value)
    return wide


@pytest.mark.parametrize("criterion", slimming.CRITERIA)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet34"])
@pytest.mark.parametrize(
    "places",
    [np.arange, lambda count: count + np.arange(count), lambda count: 2 * np.arange(count) + 1],
    ids=["first", "last", "odd"],
)
def test_channels_without_weights_go(criterion, backbone, places):
    state = random_state(backbone, num_classes=5, width=NARROW)
    model = BiSeNet(5, backbone, NARROW)
    weight_port.apply(state, model.variables, weight_port.recognize(state))
    wide = widened(model, places)
    photos = random_images(64, 96)
    np.testing.assert_allclose(wide(photos)["logits"], model(photos)["logits"], rtol=0, atol=1e-4)
    slim = slimming.slim(wide, NARROW, criterion)
    assert slim.get_config() == model.get_config()
    for variable, expected in zip(slim.variables, model.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), expected.numpy(), err_msg=variable.path)


def test_moments_of_a_rectified_normal_variable():
    """Against a million draws."""
    mean, variance = np.array([-1.0, 0.0, 0.5, 3.0]), np.array([1.0, 4.0, 0.25, 1.0])
    draws = np.maximum(np.random.default_rng(0).normal(mean, np.sqrt(variance), (1_000_000, 4)), 0)
    found = slimming._rectified(mean, variance)
    np.testing.assert_allclose(found[0], draws.mean(0), atol=5e-3)
    np.testing.assert_allclose(found[1], draws.var(0), atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "named"), [((0.25,), "0.25"), ((0.5,), "0.5"), ((0.125, "largest"), "'largest'")]
)
def test_what_cannot_be_slimmed(arguments, named):
    with refused(TrainingError, named):
        slimming.slim(BiSeNet(2, width=WIDE), *arguments)
