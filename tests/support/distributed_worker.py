"""One process of training/test_distributed.py: trains a small network on the given devices, once for each case.

    python distributed_worker.py DATA OUTPUT STRATEGY ...

STRATEGY is `one`, `mirrored` (over two logical CPUs) or `workers` (of TF_CONFIG). The files that come out are
`<OUTPUT><STRATEGY>_<case>.npz`.
"""

import dataclasses
import sys

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_bisenet import HEADS, classes
from keras_bisenet.data import folder, pipeline
from keras_bisenet.models import layers
from keras_bisenet.training import devices, loop
from keras_bisenet.training.configs import TrainConfig
from keras_bisenet.training.trainer import Trainer

CLASSES = 3
CONFIG = TrainConfig(num_classes=CLASSES, crop_size=64, batch_size=4, steps=3, warmup_steps=0, ema_decay=0.9)
CASES = {
    # Of the pixels of the first batch, most are hard in one case and none in the other.
    "threshold": dataclasses.replace(CONFIG, precision="float64", ohem_threshold=0.5, accumulate=2),
    "share": dataclasses.replace(CONFIG, precision="float64", ohem_threshold=1e-4, ohem_share=0.25),
    "float32": CONFIG,
    "float16": dataclasses.replace(CONFIG, precision="mixed_float16"),
}


def network(precision):
    """Like BiSeNet: batch norms over maps and over single values, a gate, a fast part and three heads."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    images = keras.Input((None, None, 3), dtype=keras.config.dtype_policy().variable_dtype)
    x = layers.conv(images, 8, 5, strides=2, name="backbone_conv")
    x = ops.relu(layers.batch_norm(x, name="backbone_bn"))
    gate = layers.batch_norm(layers.conv(layers.GlobalMean()(x), 8, 1, name="arm_conv_atten"), name="arm_bn_atten")
    x = layers.conv_bn_relu(x * ops.sigmoid(gate), 6, 3, name="ffm")
    logits = {head: layers.conv(x, CLASSES, 1, name=f"conv_{head}") for head in HEADS}
    return keras.Model(images, {head: layers.AlignCornersResize()([x, images]) for head, x in logits.items()})


def train(config, examples, strategy):
    """The state after the last step, the losses, and by how much the replicas of this process differ."""
    with strategy.scope():
        model = network(config.precision)
    trainer = Trainer(model, config, strategy)
    batches = iter(loop.global_batches(config, examples, classes.of_count(CLASSES), strategy))
    losses = [trainer.step(batches) for _ in range(config.steps)]
    difference = 0.0
    for variable in model.variables:
        first, *others = (replica.numpy() for replica in strategy.experimental_local_results(variable.value))
        difference = max([difference, *(np.max(np.abs(first - other)) for other in others)])
    return trainer.state() | {"losses": losses, "difference": difference}


def make_strategy(name):
    if name == "workers":
        return devices.strategy()
    return tf.distribute.MirroredStrategy(["cpu:0", "cpu:1"]) if name == "mirrored" else tf.distribute.get_strategy()


def main(data, output, *names):
    if "mirrored" in names:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for name in names:
        strategy = make_strategy(name)
        examples = pipeline.Examples(folder.read_split(data, "train"))
        for case, config in CASES.items():
            np.savez(f"{output}{name}_{case}.npz", **train(config, examples, strategy))


if __name__ == "__main__":
    main(*sys.argv[1:])
