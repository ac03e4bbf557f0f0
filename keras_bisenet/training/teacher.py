"""The network whose logits a run learns."""

import dataclasses

import tensorflow as tf

from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.utils.errors import TrainingError


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A network to learn from.

    Attributes:
        name: where it comes from, for the record, and to compare with when a run is resumed.
        model: `BiSeNet`.
    """

    name: str
    model: BiSeNet

    def check(self, config: TrainConfig) -> None:
        """Raises `TrainingError` unless a recipe can learn from it."""
        if not config.distills:
            raise TrainingError(
                f"the recipe does not use the teacher {self.name}: pixel_weight and channel_weight are 0; set "
                "one, such as --set pixel_weight=1"
            )
        if self.model.num_classes != config.num_classes:
            raise TrainingError(
                f"the teacher {self.name} has {self.model.num_classes} classes; expected {config.num_classes}, as the "
                "recipe has"
            )
        height, width = self.model.input_shape[1:3]
        if not {height, width} <= {None, config.crop_size}:
            raise TrainingError(
                f"the teacher {self.name} takes photos of {height}x{width} only; expected one that takes crops of "
                f"{config.crop_size}x{config.crop_size}"
            )

    def copy(self, precision: str, strategy: tf.distribute.Strategy) -> BiSeNet:
        """Its network in the precision of a run, made inside the scope of a strategy."""
        with strategy.scope():
            network = BiSeNet.from_config(self.model.get_config() | {"dtype": precision})
            network.set_weights(self.model.get_weights())
        return network
