"""The recipes, by name (imports no TensorFlow)."""

import ast
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from keras_bisenet.labels import IGNORE
from keras_bisenet.models.architecture import BLOCKS, WIDTHS, is_width
from keras_bisenet.preprocessing import MINIMUM_SIZE
from keras_bisenet.utils.errors import TrainingError
from keras_bisenet.utils.text_files import shown

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")


def _is_range(pair):
    numbers = len(pair) == 2 and all(isinstance(factor, int | float) for factor in pair)
    return numbers and 0 < pair[0] <= pair[1] < math.inf


_LOSS_WEIGHTS = ("label_weight", "lovasz_weight", "pixel_weight", "channel_weight")

# (fields of a TrainConfig or its Augmentation, whether a value fits, what is expected)
_RULES = (
    (
        ("learning_rate", "warmup_start", "head_lr_multiplier", "pixel_temperature", "channel_temperature"),
        lambda value: 0 < value < math.inf,
        "a number above 0",
    ),
    (
        ("weight_decay", "power", "rare_class_threshold", "rotation", *_LOSS_WEIGHTS),
        lambda value: 0 <= value < math.inf,
        "a number of at least 0",
    ),
    (("brightness", "contrast", "saturation", "paste_rate"), lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    (("ohem_threshold", "ohem_share"), lambda value: 0 < value <= 1, "a number above 0, at most 1"),
    (("ema_decay", "momentum"), lambda value: 0 <= value < 1, "0 for none, or a decay under 1"),
    (("seed",), lambda value: value < 2**32, "less than 4294967296"),
    (("num_classes",), lambda value: value <= IGNORE, f"at most {IGNORE}, as labels have 8 bits"),
    (("precision",), PRECISIONS.__contains__, f"one of {', '.join(PRECISIONS)}"),
    (("backbone",), BLOCKS.__contains__, f"one of {', '.join(BLOCKS)}"),
    (("width",), is_width, WIDTHS),
    (("freeze",), lambda names: all(isinstance(name, str) for name in names), "names, such as ('backbone',)"),
    (("scale",), _is_range, "two factors above 0, the smaller one first"),
)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training examples are changed. Every draw is uniform.

    Attributes:
        scale: smallest and largest factor of enlargement.
        rotation: largest angle in degrees, either way.
        flip: whether half of the photos are mirrored; left and right labels are then exchanged.
        brightness, contrast, saturation: largest relative change; 0.5 is a factor from 0.5 to 1.5.
    """

    scale: tuple[float, float] = (0.75, 2.0)
    rotation: float = 0.0
    flip: bool = True
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a training run ends, but for the data and the first weights.

    Raises:
        TrainingError: a value is out of its range.

    Attributes:
        num_classes, backbone, width: see `keras_bisenet.BiSeNet`.
        crop_size: side of the square training crops, in pixels.
        batch_size: examples that go through the network at once, over all devices.
        accumulate: batches whose gradients are averaged for one step of the weights.
        steps: number of steps.
        learning_rate, momentum, weight_decay: of the SGD, see `optimizer.SGD`.
        head_lr_multiplier: factor of the learning rate of the fusion module and the heads.
        warmup_steps, warmup_start, power: see `schedules.learning_rate`.
        ohem_threshold, ohem_share: see `losses.ohem_cross_entropy`.
        ema_decay: decay of the moving average of the weights, which is evaluated and kept; 0 for none.
        precision: one of `PRECISIONS`; `"mixed_float16"` scales the loss.
        freeze: beginnings of the names of layers that stay as they are, such as `("backbone",)`.
        augmentation: see `Augmentation`.
        label_weight: factor of the cross entropy with the labels; 0 to learn from a teacher alone.
        lovasz_weight: factor of `losses.lovasz_softmax`; 0 for none.
        pixel_weight, pixel_temperature: factor and temperature of `losses.pixel_distillation`.
        channel_weight, channel_temperature: factor and temperature of `losses.channel_distillation`.
        loss_stride: all losses but the cross entropy are computed at every so many pixels of a row and of a column.
        rare_class_threshold: share of photos below which a class counts as rare: photos that show it are drawn more
            often, see `pipeline.repeat_factors`; 0 for none.
        paste_rate: share of the examples that get a part of a rare class from another photo, see
            `pipeline.RareParts`.
        quantize_aware: round to 8 bits where the int8 export does, see `quantize_aware`.
        fix_left_right: exchange left and right labels of training faces that have them on the wrong side, see
            `keras_bisenet.data.sides`.
        holdout: number of photos of `train.txt` to evaluate on in place of those of `val.txt`, see `splits.hold_out`:
            to choose a recipe by photos that no published figure comes from. 0 for none.
        seed: of weights, order and augmentation.
        evaluate_every, checkpoint_every: in steps.
        patience: evaluations without a better mean IoU after which the run stops; 0 for never.
    """

    num_classes: int = 19
    backbone: str = "resnet18"
    width: float = 1.0
    crop_size: int = 448
    batch_size: int = 16
    accumulate: int = 1
    steps: int = 80_000
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr_multiplier: float = 10.0
    warmup_steps: int = 1000
    warmup_start: float = 1e-5
    power: float = 0.9
    ohem_threshold: float = 0.7
    ohem_share: float = 1 / 16
    ema_decay: float = 0.0
    precision: str = "float32"
    freeze: tuple[str, ...] = ()
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    quantize_aware: bool = False
    label_weight: float = 1.0
    lovasz_weight: float = 0.0
    pixel_weight: float = 0.0
    pixel_temperature: float = 1.0
    channel_weight: float = 0.0
    channel_temperature: float = 4.0
    loss_stride: int = 1
    rare_class_threshold: float = 0.0
    paste_rate: float = 0.0
    fix_left_right: bool = False
    holdout: int = 0
    seed: int = 0
    evaluate_every: int = 1000
    checkpoint_every: int = 200
    patience: int = 0

    def __post_init__(self):
        smallest = {"crop_size": MINIMUM_SIZE, "warmup_steps": 0, "holdout": 0, "seed": 0, "patience": 0}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            least = smallest.get(field.name, 1)
            if field.type is int and value < least:
                raise TrainingError(f"{field.name} is {value}; expected at least {least}")
        for fields, fits, expected in _RULES:
            for owner in (self, self.augmentation):
                for field in fields:
                    value = getattr(owner, field, None)
                    if value is not None and not fits(value):
                        raise TrainingError(f"{field} is {shown(repr(value))}; expected {expected}")
        if self.paste_rate and not self.rare_class_threshold:
            raise TrainingError(
                f"paste_rate is {self.paste_rate:g} and rare_class_threshold 0; expected a threshold above 0, or no "
                "class counts as rare"
            )
        if not any(getattr(self, weight) for weight in _LOSS_WEIGHTS):
            raise TrainingError(f"{', '.join(_LOSS_WEIGHTS)} are all 0; expected one above 0, or nothing is learned")

    @property
    def distills(self) -> bool:
        """Whether a teacher takes part."""
        return self.pixel_weight > 0 or self.channel_weight > 0


# What zllrunning's face-parsing.PyTorch trains with (train.py, for 80,000 steps on one GPU), with the flip put right.
# That one draws the scale from 0.75, 1, 1.25, 1.5, 1.75 and 2, and enlarges a photo that is smaller than the crop; here
# every scale from 0.75 to 2 is drawn, and such a photo is surrounded by pixels without a label.
ORIGINAL = TrainConfig()

# A few hundred faces on a small machine: whole faces at half size first, then `celebamask_1k` from the result.
CELEBAMASK_1K_SMALL = TrainConfig(
    crop_size=256,
    batch_size=8,
    steps=2000,
    warmup_steps=200,
    warmup_start=1e-4,
    ema_decay=0.998,
    augmentation=Augmentation(scale=(0.4, 0.9), rotation=15.0, brightness=0.3, contrast=0.3, saturation=0.3),
    rare_class_threshold=0.3,
    fix_left_right=True,
    evaluate_every=500,
)
CELEBAMASK_1K = dataclasses.replace(
    CELEBAMASK_1K_SMALL,
    crop_size=384,
    steps=1000,
    learning_rate=0.0075,
    warmup_steps=100,
    augmentation=dataclasses.replace(CELEBAMASK_1K_SMALL.augmentation, scale=(0.6, 1.3)),
    evaluate_every=500,
)

# After a training on faces: for the mean IoU itself, with rare parts in more photos, turned and scaled further.
CELEBAMASK_1K_FINISH = dataclasses.replace(
    CELEBAMASK_1K,
    steps=1700,
    lovasz_weight=1.0,
    loss_stride=4,
    paste_rate=0.3,
    augmentation=dataclasses.replace(CELEBAMASK_1K.augmentation, scale=(0.6, 1.5), rotation=20.0),
    evaluate_every=1700,
)

# A narrow network that begins with the most useful channels of a wide one and learns from it.
DISTILL = dataclasses.replace(
    CELEBAMASK_1K,
    steps=2500,
    learning_rate=0.005,
    head_lr_multiplier=5.0,
    warmup_steps=50,
    pixel_weight=1.0,
    pixel_temperature=2.0,
    channel_weight=3.0,
    loss_stride=4,
    augmentation=dataclasses.replace(CELEBAMASK_1K.augmentation, scale=(0.5, 1.4), rotation=20.0),
)

# Own classes or own photos, from a trained network: a low rate, and the backbone's statistics are not thrown away.
FINE_TUNE = TrainConfig(
    batch_size=8,
    steps=2000,
    learning_rate=0.002,
    warmup_steps=100,
    ema_decay=0.998,
    augmentation=Augmentation(rotation=10.0, brightness=0.3, contrast=0.3, saturation=0.3),
    evaluate_every=200,
    patience=5,
)

# After a training, before the int8 export. What the network has learned is to survive the rounding: labels would teach
# it something else in so few steps.
QUANTIZE_AWARE = TrainConfig(
    crop_size=384,
    batch_size=8,
    steps=150,
    learning_rate=6e-4,
    weight_decay=0.0,
    head_lr_multiplier=1.0,
    warmup_steps=10,
    ema_decay=0.98,
    augmentation=CELEBAMASK_1K.augmentation,
    quantize_aware=True,
    label_weight=0.0,
    pixel_weight=1.0,
    evaluate_every=150,
)

CONFIGS = {
    "original": ORIGINAL,
    "celebamask_1k_small": CELEBAMASK_1K_SMALL,
    "celebamask_1k": CELEBAMASK_1K,
    "celebamask_1k_finish": CELEBAMASK_1K_FINISH,
    "distill": DISTILL,
    "fine_tune": FINE_TUNE,
    "quantize_aware": QUANTIZE_AWARE,
}


def resolve(
    name: str, changes: Sequence[str] = (), freeze: Sequence[str] | None = None, quantize_aware: bool | None = None
) -> TrainConfig:
    """A recipe with some fields changed.

    Args:
        name: a key of `CONFIGS`.
        changes: strings `field=value`; `augmentation.field=value` for that part. Values are Python literals.
        freeze, quantize_aware: value of that field, or None for the recipe's.

    Returns:
        `TrainConfig`.

    Raises:
        TrainingError: there is no such recipe or field, or the value is of another type.
    """
    if name not in CONFIGS:
        raise TrainingError(f"config is {name!r}; expected one of {', '.join(CONFIGS)}")
    config = CONFIGS[name]
    # All at once: one field may only fit with another.
    values: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}
    for change in changes:
        field, separator, value = change.partition("=")
        if not separator:
            raise TrainingError(f"set is {change!r}; expected NAME=VALUE, such as steps=2000")
        inner = field.startswith("augmentation.")
        owner, found = (config.augmentation, augmentation) if inner else (config, values)
        field = field.removeprefix("augmentation.")
        if field not in {known.name for known in dataclasses.fields(owner)} - {"augmentation"}:
            known = ", ".join(known.name for known in dataclasses.fields(owner))
            raise TrainingError(f"set names {field!r}; expected one of {known}")
        found[field] = _parse(field, value, getattr(owner, field))
    if augmentation:
        values["augmentation"] = dataclasses.replace(config.augmentation, **augmentation)
    if freeze is not None:
        values["freeze"] = tuple(freeze)
    if quantize_aware is not None:
        values["quantize_aware"] = quantize_aware
    return dataclasses.replace(config, **values) if values else config


def _parse(field, text, like):
    try:
        value = text if isinstance(like, str) else ast.literal_eval(text)
        if isinstance(like, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(like):
            raise ValueError
    except (ValueError, SyntaxError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        kind = type(like).__name__
        raise TrainingError(f"{field} is {shown(repr(text))}; expected {kind}, such as {like!r}") from error
    return value
