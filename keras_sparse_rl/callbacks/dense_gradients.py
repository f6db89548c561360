import keras
import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.inner_optimizer import inner_optimizer
from keras_sparse_rl.callbacks.train_step_callback import TrainStepCallback


class DenseGradients(TrainStepCallback):
    """The gradient of every weight, masked or not, at each n-th step.

    What `RigL` grows by. The gradient is that of the effective weight, at the
    weights before the step, by a pass of its own over the step's batch that
    leaves no trace: metrics, averages and random seeds stay as they are.

    Args:
        every: int; measured before the steps with `iterations + 1` divisible
            by it, that is once before each refresh.

    Raises:
        ValueError: if `every` is no whole number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import DenseGradients
    >>> from keras_sparse_rl.layers import PowerpropDense, sparse_kernels
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((3,)), PowerpropDense(2)])
    >>> model.compile(Powerprop("sgd"), "mse")
    >>> gradients = DenseGradients(every=1)
    >>> gradients.kernels = sparse_kernels(model)
    >>> x, y = keras.ops.ones((4, 3)), keras.ops.ones((4, 2))
    >>> history = model.fit(x, y, callbacks=[gradients], verbose=0)
    >>> gradients.read(gradients.kernels[0]).shape
    (3, 2)
    """

    def __init__(self, every):
        super().__init__()
        self.every = check_integer("every", every)
        self.kernels = []
        self._sums = {}

    def prepare(self):
        with self.model.distribute_strategy.scope():
            # Each replica writes its own part; a reader gets the sum.
            self._sums = {
                id(kernel): tf.Variable(
                    tf.zeros(kernel.shape),
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.SUM,
                )
                for kernel in self.kernels
            }

    def read(self, kernel):
        """The last gradient of a kernel, a float32 array of its shape."""
        return np.asarray(self._sums[id(kernel)])

    def before_step(self, data):
        iterations = keras.ops.convert_to_tensor(
            inner_optimizer(self.model).iterations
        )

        def measure():
            self._measure(data)
            return tf.constant(True)

        is_due = tf.equal((iterations + 1) % self.every, 0)
        tf.cond(is_due, measure, lambda: tf.constant(False))

    def _measure(self, data):
        model = self.model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        probes = [tf.zeros(kernel.shape) for kernel in self.kernels]
        try:
            for kernel, probe in zip(self.kernels, probes):
                kernel.probe = probe
            # Metrics, averages and random seeds change in the scope alone.
            with keras.StatelessScope(collect_losses=True):
                with tf.GradientTape() as tape:
                    tape.watch(probes)
                    y_pred = model(x, training=True)
                    loss = model.optimizer.scale_loss(
                        model.compute_loss(
                            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight
                        )
                    )
        finally:
            for kernel in self.kernels:
                kernel.probe = None
        gradients = tape.gradient(
            loss, probes, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        for kernel, gradient in zip(self.kernels, gradients):
            # A loss scale that was too large says nothing about weights.
            total = self._sums[id(kernel)]
            finite = tf.reduce_all(tf.math.is_finite(gradient))
            total.assign(tf.where(finite, gradient, total))
