"""A training run of seconds: a narrow network, small photos, few steps."""

import dataclasses

import numpy as np
from PIL import Image

from keras_bisenet.training.configs import TrainConfig

CONFIG = TrainConfig(
    num_classes=3,
    width=0.0625,
    crop_size=32,
    batch_size=2,
    steps=4,
    learning_rate=0.01,
    warmup_steps=0,
    evaluate_every=4,
    checkpoint_every=2,
)


def changed(config=CONFIG, **changes):
    return dataclasses.replace(config, **changes)


def write_data(path):
    """Photos 0 to 3 to train on, 4 to evaluate on, 5 and 6 without labels; 32x32 pixels each."""
    for name in ("images", "labels"):
        (path / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(7):
        photo = random.integers(256, size=(4, 4, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(photo).save(path / "images" / f"{number}.png")
        if number < 5:
            Image.fromarray((photo[..., 0] // 86).astype(np.uint8)).save(path / "labels" / f"{number}.png")
    (path / "train.txt").write_text("0\n1\n2\n3\n")
    (path / "val.txt").write_text("4\n")
    (path / "unlabelled.txt").write_text("5\n6\n")
    return path
