"""Which photos a run trains on and which it is judged by."""

import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np

from keras_bisenet.data import folder
from keras_bisenet.data.folder import Example
from keras_bisenet.labels import IGNORE
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.utils.errors import TrainingError


def read(config: TrainConfig, data_dir: str | os.PathLike[str], unlabeled: bool) -> dict[str, tuple[Example, ...]]:
    """The examples of a run, as its lists name them.

    Args:
        config: the recipe.
        data_dir: see `keras_bisenet.data.folder`.
        unlabeled: whether to train on the photos without labels, too.

    Returns:
        dict: `"train"` and `"val"`.

    Raises:
        DataError: about the lists, or a file that they name.
        TrainingError: the recipe holds out all photos.
    """
    train = folder.read_split(data_dir, "train")
    if config.holdout:
        train, val = hold_out(train, config.holdout)
    else:
        val = folder.read_split(data_dir, "val")
    return {"train": train + folder.read_unlabeled(data_dir) if unlabeled else train, "val": val}


def hold_out(examples: Sequence[Example], count: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Divides examples into those to train on and those to choose a recipe by; always alike.

    Args:
        examples: all of them.
        count: how many to hold out.

    Returns:
        Two tuples, each in the order given.

    Raises:
        TrainingError: none is left to train on.
    """
    if count >= len(examples):
        raise TrainingError(f"holdout is {count} of {len(examples)} photos of train.txt; expected fewer")
    held = set(np.random.default_rng(0).permutation(len(examples))[:count].tolist())
    train = tuple(example for number, example in enumerate(examples) if number not in held)
    return train, tuple(example for number, example in enumerate(examples) if number in held)


def digests(splits: dict[str, tuple[Example, ...]]) -> dict[str, str]:
    """Name of a split -> SHA-256 of the names of its photos in their order: a run goes on with these and no others."""
    return {
        split: hashlib.sha256("\n".join(example.name for example in examples).encode()).hexdigest()
        for split, examples in splits.items()
    }


def check_labeled(data_dir: str | os.PathLike[str], examples: Iterable[Example]) -> None:
    """Raises `TrainingError` if no pixel of the photos to evaluate on has a label: every score would be NaN."""
    if not any((folder.read_label(example.label) != IGNORE).any() for example in examples):
        raise TrainingError(
            f"{data_dir}: all pixels of the photos to evaluate on are {IGNORE} (ignored); expected some with a class"
        )
