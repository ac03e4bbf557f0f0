"""The recipes, and changing them from the command line."""

import dataclasses

import pytest
from support.refusals import refused

from keras_bisenet.training import configs
from keras_bisenet.training.configs import CONFIGS, TrainConfig, resolve
from keras_bisenet.utils.errors import TrainingError


def test_the_original_recipe():
    """zllrunning's train.py and optimizer.py, read by hand."""
    original = CONFIGS["original"]
    assert (original.crop_size, original.batch_size, original.steps) == (448, 16, 80_000)
    assert (original.learning_rate, original.momentum, original.weight_decay) == (1e-2, 0.9, 5e-4)
    assert (original.warmup_steps, original.warmup_start) == (1000, 1e-5)
    assert (original.power, original.head_lr_multiplier) == (0.9, 10)
    assert (original.ohem_threshold, original.ohem_share) == (0.7, 1 / 16)
    assert original.augmentation.scale == (0.75, 2.0)
    assert original.augmentation.rotation == 0
    assert original.augmentation.brightness == original.augmentation.contrast == original.augmentation.saturation == 0.5


@pytest.mark.parametrize("name", CONFIGS)
def test_recipes_cannot_be_changed_in_place(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIGS[name].steps = 1


def test_fields_are_changed_one_by_one():
    changes = ["steps=5", "learning_rate=1", "backbone=resnet34", "fix_left_right=True"]
    changes.append("augmentation.scale=(0.5, 1.0)")
    config = resolve("original", changes, freeze=["backbone"], quantize_aware=True)
    assert config == TrainConfig(
        steps=5,
        learning_rate=1.0,
        backbone="resnet34",
        fix_left_right=True,
        freeze=("backbone",),
        quantize_aware=True,
        augmentation=dataclasses.replace(configs.ORIGINAL.augmentation, scale=(0.5, 1.0)),
    )
    assert isinstance(config.learning_rate, float)
    assert resolve("original") is configs.ORIGINAL


def test_an_unknown_recipe_is_told_with_the_known_ones():
    with refused(TrainingError, "config is 'mine'", ", ".join(CONFIGS)):
        resolve("mine")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps", "set is 'steps'; expected NAME=VALUE"),
        ("step=1", "set names 'step'; expected one of num_classes, backbone"),
        ("augmentation=1", "set names 'augmentation'; expected one of num_classes, backbone"),
        ("augmentation.steps=1", "set names 'steps'; expected one of scale, rotation"),
        ("steps=many", "steps is 'many'; expected int, such as 80000"),
        ("steps=1.5", "steps is '1.5'; expected int, such as 80000"),
        ("augmentation.flip=1", "flip is '1'; expected bool, such as True"),
        ("crop_size=31", "crop_size is 31; expected at least 32"),
        ("batch_size=0", "batch_size is 0; expected at least 1"),
        ("ema_decay=1", "ema_decay is 1.0; expected 0 for none, or a decay under 1"),
        (
            "precision=float16",
            "precision is 'float16'; expected one of float32, mixed_bfloat16, mixed_float16, float64",
        ),
    ],
)
def test_wrong_changes(change, message):
    with refused(TrainingError, message):
        resolve("original", [change])


IMPOSSIBLE = """
    backbone=resnet50 num_classes=256 width=0 width=0.06 width=2.5 pixel_weight=-1 channel_temperature=0
    learning_rate=-0.1 learning_rate=1e999 warmup_start=0 ohem_threshold=0 ohem_threshold=1.5 ohem_share=0 ohem_share=2
    rare_class_threshold=-1 lovasz_weight=-1 paste_rate=1.5 paste_rate=0.5 freeze=(1,) augmentation.scale=(0,1)
    augmentation.scale=(2,1) augmentation.scale=(1,) augmentation.scale=('a','b') augmentation.brightness=-1
    augmentation.rotation=-1 steps={[]:1} seed=4294967296
"""


@pytest.mark.parametrize("change", [*IMPOSSIBLE.split(), "learning_rate=" + 400 * "9", "steps=" + 5000 * "1"])
def test_values_that_no_run_can_have(change):
    name = change.partition("=")[0].removeprefix("augmentation.")
    with pytest.raises(TrainingError, match=f"^{name} is .*; expected ") as error:
        resolve("original", [change])
    assert len(str(error.value)) < 500


def test_a_run_learns_from_something():
    with pytest.raises(TrainingError, match=r"^label_weight, lovasz_weight, pixel_weight, channel_weight are all 0"):
        resolve("original", ["label_weight=0"])
    assert not resolve("original").distills
    # Neither could be changed alone.
    assert resolve("original", ["label_weight=0", "channel_weight=2"]).distills
