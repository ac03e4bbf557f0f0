"""Stochastic gradient descent as PyTorch defines it, and the average of the weights."""

import tensorflow as tf

# Layers of the feature fusion and of the heads, which begin untrained.
HEAD_LAYERS = ("ffm", "conv_out")


class SGD:
    """Momentum and decay as in `torch.optim.SGD`, with rate and decay chosen by the path of the variable.

    For each variable w with gradient g:
        v <- momentum * v + g + decay * w
        w <- w - rate * v
    Keras multiplies the rate into v instead, which differs as soon as the rate changes. The rate is multiplied by
    `head_lr_multiplier` for `HEAD_LAYERS`; only kernels decay, as in the original.

    Args:
        variables: trainable Keras variables.
        momentum: between 0 and 1.
        weight_decay: L2 factor.
        head_lr_multiplier: factor of the rate for `HEAD_LAYERS`.

    Attributes:
        velocities: v of each variable, `tf.Variable`s.
    """

    def __init__(self, variables, momentum=0.9, weight_decay=5e-4, head_lr_multiplier=10.0):
        self._momentum = momentum
        self.variables = list(variables)
        self._decays = [weight_decay if variable.path.endswith("/kernel") else 0.0 for variable in self.variables]
        self._factors = [
            head_lr_multiplier if variable.path.startswith(HEAD_LAYERS) else 1.0 for variable in self.variables
        ]
        self.velocities = [tf.Variable(tf.zeros_like(variable.value), trainable=False) for variable in self.variables]

    def apply(self, gradients, rate, keep):
        """Makes one step. Called in a replica context, with gradients that are equal on all replicas.

        Args:
            gradients: list of tensors, in the order of the variables.
            rate: scalar.
            keep: bool scalar: False leaves everything as it is.
        """
        tf.distribute.get_replica_context().merge_call(self._update_all, args=(gradients, rate, keep))

    def _update_all(self, strategy, gradients, rate, keep):
        lists = zip(self.variables, gradients, self.velocities, self._decays, self._factors, strict=True)
        for variable, gradient, velocity, decay, factor in lists:
            strategy.extended.update(
                variable.value, self._update, args=(gradient, velocity, rate, keep, decay, factor), group=False
            )

    def _update(self, variable, gradient, velocity, rate, keep, decay, factor):
        if decay:
            gradient += decay * variable
        # One kernel, not sums of ours: TensorFlow would join them into one sum of three, whose order, and so its last
        # bit, changes from run to run.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=tf.cast(tf.where(keep, rate, 0) * factor, variable.dtype),
            grad=tf.where(keep, gradient, 0),
            momentum=tf.where(keep, tf.constant(self._momentum, variable.dtype), 1),
        )


class Average:
    """Exponential moving average of variables: `a <- decay * a + (1 - decay) * w`.

    Args:
        variables: Keras variables, batch-norm statistics among them.

    Attributes:
        values: a of each variable, `tf.Variable`s.
    """

    def __init__(self, variables):
        self.variables = list(variables)
        self.values = [tf.Variable(variable.value, trainable=False) for variable in self.variables]

    def update(self, decay):
        """Called in a replica context. `decay`: scalar."""
        tf.distribute.get_replica_context().merge_call(self._update_all, args=(decay,))

    def _update_all(self, strategy, decay):
        for variable, value in zip(self.variables, self.values, strict=True):
            strategy.extended.update(value, self._update, args=(variable.value, decay), group=False)

    @staticmethod
    def _update(value, variable, decay):
        value.assign_add((tf.convert_to_tensor(variable) - value) * tf.cast(1 - decay, value.dtype))
