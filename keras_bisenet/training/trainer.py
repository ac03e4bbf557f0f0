"""One training step: forward, losses of the three heads, gradients, update and average of the weights."""

import keras
import tensorflow as tf

from keras_bisenet.models.architecture import HEADS
from keras_bisenet.models.bisenet import BiSeNet
from keras_bisenet.preprocessing import normalize
from keras_bisenet.training import losses, schedules
from keras_bisenet.training.optimizer import SGD, Average
from keras_bisenet.training.quantize_aware import quantize_aware
from keras_bisenet.utils.errors import TrainingError

# float16: the loss is multiplied by this at first, by half as much after an overflow, twice as much after so many
# steps without one (NVIDIA's mixed-precision guide, and Keras' LossScaleOptimizer).
INITIAL_LOSS_SCALE = 2.0**15
STEPS_TO_DOUBLE = 2000


class Trainer:
    """A model and all that changes while it learns. The same code runs on one device and on many.

    Args:
        model: a `BiSeNet`, made inside the scope of `strategy`.
        config: `TrainConfig`.
        strategy: `tf.distribute.Strategy`; None for the current one.
        teacher: a `BiSeNet` of as many classes whose logits are learned where `config.distills`, made inside the scope
            of `strategy`; None for the model as it is now.

    Attributes:
        completed: number of steps made.
        average: `Average`, or None.
        optimizer: `SGD`.
        loss_scale: `[2]` float variable: the scale, and the steps since it changed.
    """

    def __init__(self, model, config, strategy=None, teacher=None):
        self.model, self.config = model, config
        self.strategy = strategy or tf.distribute.get_strategy()
        self.completed = 0
        freeze(model, config.freeze)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = self.strategy.num_replicas_in_sync > 1
        with self.strategy.scope():
            self._network = quantize_aware(model) if config.quantize_aware else model
            # A teacher of its own never changes, so only a twin is part of the state.
            self._twin = _twin(model) if config.distills and teacher is None else None
            self._teacher = (teacher or self._twin) if config.distills else None
            self.optimizer = SGD(
                model.trainable_variables, config.momentum, config.weight_decay, config.head_lr_multiplier
            )
            self.average = Average(model.variables) if config.ema_decay else None
            self.loss_scale = tf.Variable([INITIAL_LOSS_SCALE, 0.0], trainable=False)
            self._sums = []
            if config.accumulate > 1:
                self._sums = [
                    tf.Variable(
                        tf.zeros_like(velocity),
                        trainable=False,
                        synchronization=tf.VariableSynchronization.ON_READ,
                        aggregation=tf.VariableAggregation.SUM,
                    )
                    for velocity in self.optimizer.velocities
                ]

    def learning_rate(self):
        """The rate of the next step."""
        config = self.config
        return schedules.learning_rate(
            self.completed,
            config.learning_rate,
            config.steps,
            config.warmup_steps,
            config.warmup_start,
            config.power,
        )

    def step(self, batches):
        """Makes one step of the weights.

        Args:
            batches: iterator; `accumulate` elements are taken, each a pair of `[n, H, W, 3]` RGB 0..255 (uint8 or
                float) and `[n, H, W]` integer labels, or what a strategy makes of them.

        Returns:
            `[3]` array: the loss of each head, averaged over what was accumulated.
        """
        rate = tf.constant(self.learning_rate(), tf.float64)
        decay = tf.constant(schedules.average_decay(self.completed, self.config.ema_decay), tf.float64)
        total = 0
        for _ in range(self.config.accumulate - 1):
            total += self._accumulate(*next(batches)).numpy()
        total += self._step(*next(batches), rate, decay).numpy()
        self.completed += 1
        return total / self.config.accumulate

    @tf.function(reduce_retracing=True)
    def _accumulate(self, images, labels):
        def run(images, labels):
            by_head, gradients = self._gradients(images, labels)
            for total, gradient in zip(self._sums, gradients, strict=True):
                total.assign_add(gradient)
            return by_head

        return self.strategy.reduce("SUM", self.strategy.run(run, (images, labels)), axis=None)

    @tf.function(reduce_retracing=True)
    def _step(self, images, labels, rate, decay):
        def run(images, labels):
            by_head, gradients = self._gradients(images, labels)
            if self._sums:
                gradients = [
                    (total + gradient) / self.config.accumulate
                    for total, gradient in zip(self._sums, gradients, strict=True)
                ]
                for total in self._sums:
                    total.assign(tf.zeros_like(total))
            self._update(gradients, rate, decay)
            return by_head

        return self.strategy.reduce("SUM", self.strategy.run(run, (images, labels)), axis=None)

    def _gradients(self, images, labels):
        """This replica's part of the losses `[3]`, and the gradients of their sum (not yet summed over replicas)."""
        scale = self.loss_scale[0] if self._scales else 1.0
        with tf.GradientTape() as tape:
            inputs = normalize(images, self.model.variable_dtype)
            outputs = self._network(inputs, training=not self.config.quantize_aware)
            taught = self._teacher(inputs, training=False) if self._teacher else dict.fromkeys(HEADS)
            by_head = [self._loss(outputs[head], tf.cast(labels, tf.int32), taught[head]) for head in HEADS]
            total = tf.add_n(by_head)
            total *= tf.cast(scale, total.dtype)
        gradients = tape.gradient(total, [variable.value for variable in self.optimizer.variables])
        return tf.stack(by_head), [gradient / tf.cast(scale, gradient.dtype) for gradient in gradients]

    def _loss(self, logits, labels, taught):
        """The loss of one head; `taught`: the teacher's logits, or None."""
        config, terms = self.config, []
        if config.label_weight:
            hardest = losses.ohem_cross_entropy(logits, labels, config.ohem_threshold, config.ohem_share)
            terms.append(config.label_weight * hardest)
        step = config.loss_stride
        logits = logits[:, ::step, ::step]
        if config.lovasz_weight:
            terms.append(config.lovasz_weight * losses.lovasz_softmax(logits, labels[:, ::step, ::step]))
        if taught is not None:
            taught = taught[:, ::step, ::step]
            for weight, loss, temperature in (
                (config.pixel_weight, losses.pixel_distillation, config.pixel_temperature),
                (config.channel_weight, losses.channel_distillation, config.channel_temperature),
            ):
                if weight:
                    terms.append(weight * loss(logits, taught, temperature))
        return tf.add_n(terms)

    @property
    def _scales(self):
        return self.config.precision == "mixed_float16"

    def _update(self, gradients, rate, decay):
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            gradients = context.all_reduce("SUM", gradients)
        keep = tf.constant(True)
        if self._scales:
            keep = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
            context.merge_call(self._rescale, args=(keep,))
        self.optimizer.apply(gradients, rate, keep)
        if self.average:
            self.average.update(decay)

    def _rescale(self, strategy, keep):
        def update(variable, keep):
            scale, steps = tf.unstack(variable)
            grown = steps + 1 >= STEPS_TO_DOUBLE
            variable.assign(
                tf.where(
                    keep,
                    tf.where(grown, tf.stack([scale * 2, 0.0]), tf.stack([scale, steps + 1])),
                    tf.stack([scale / 2, 0.0]),
                )
            )

        strategy.extended.update(self.loss_scale, update, args=(keep,), group=False)

    def state(self):
        """The state that a run is resumed from, as arrays by name; `restore` takes it."""
        state = {f"weights/{variable.path}": variable.numpy() for variable in self.model.variables}
        for variable, velocity in zip(self.optimizer.variables, self.optimizer.velocities, strict=True):
            state[f"velocity/{variable.path}"] = velocity.numpy()
        if self.average:
            for variable, value in zip(self.average.variables, self.average.values, strict=True):
                state[f"average/{variable.path}"] = value.numpy()
        if self._twin:
            state |= {f"teacher/{variable.path}": variable.numpy() for variable in self._twin.variables}
        return state | {"loss_scale": self.loss_scale.numpy(), "completed": self.completed}

    def restore(self, state):
        """Puts back what `state` gave."""
        for variable in self.model.variables:
            variable.assign(state[f"weights/{variable.path}"])
        for variable, velocity in zip(self.optimizer.variables, self.optimizer.velocities, strict=True):
            velocity.assign(state[f"velocity/{variable.path}"])
        if self.average:
            for variable, value in zip(self.average.variables, self.average.values, strict=True):
                value.assign(state[f"average/{variable.path}"])
        if self._twin:
            for variable in self._twin.variables:
                variable.assign(state[f"teacher/{variable.path}"])
        self.loss_scale.assign(state["loss_scale"])
        self.completed = int(state["completed"])

    def result(self):
        """The weights to evaluate and to keep, in the order of `model.variables`: averaged ones if there are any."""
        values = self.average.values if self.average else [variable.value for variable in self.model.variables]
        return [value.numpy() for value in values]


def _twin(model):
    """A `BiSeNet` of its own with the same weights."""
    twin = BiSeNet.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    return twin


def freeze(model, beginnings):
    """Makes the layers whose names begin so untrainable; their batch norms keep their statistics.

    Raises:
        TrainingError: no layer's name begins so, or none is left to train.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    for beginning in beginnings:
        if not any(name.startswith(beginning) for name in names):
            raise TrainingError(
                f"freeze names {beginning!r}, and no layer is called so; expected the beginning of a name, such as "
                "backbone, arm, ffm or conv_out"
            )
    for layer in model.layers:
        if beginnings and layer.name.startswith(tuple(beginnings)):
            layer.trainable = False
    if not model.trainable_variables:
        raise TrainingError(f"freeze leaves nothing to train: {', '.join(beginnings)}; name fewer layers")
