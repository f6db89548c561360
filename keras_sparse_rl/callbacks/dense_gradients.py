import keras
import tensorflow as tf

from keras_sparse_rl._checks import check_integer


class DenseGradients:
    """The gradient of every weight, masked or not, before each n-th step.

    What `RigL` grows by. It is taken where a train step computes gradients
    anyway, whoever wrote that step: of the loss that trains, at the weights
    before the step. Of several gradients of a kernel (two losses, several
    steps in one call of a compiled function) it is their sum. Nothing is
    computed twice, but for layers that store the weights in use alone, and
    only before a refresh.

    A train step that is compiled already does not see it: start before the
    first step, as `RigL` does.

    Args:
        every: int; measured in the call whose steps are expected to reach a
            multiple of it.

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
    >>> gradients.start(sparse_kernels(model))
    >>> gradients.expect(step=0)
    >>> x, y = keras.ops.ones((4, 3)), keras.ops.ones((4, 2))
    >>> history = model.fit(x, y, verbose=0)
    >>> gradients.take(sparse_kernels(model)[0]).shape
    (3, 2)
    >>> gradients.stop()
    """

    def __init__(self, every):
        self.every = check_integer("every", every)
        self._kernels = []
        self._sums = {}
        self.is_due = False
        self._in_graph = None  # `is_due`, where compiled steps read it
        self._optimizer = None
        self._stride = 1
        self._seen_step = None

    def start(self, kernels, optimizer=None):
        """Measures from now on, where `expect` says that it is time.

        Args:
            kernels: list of `Kernel`.
            optimizer: Keras optimizer that trains them all, whose `iterations`
                tell the steps of one call apart; optional.
        """
        self.stop()
        self._optimizer = optimizer
        self._kernels = list(kernels)
        with _scope(self._kernels[0]):
            self._in_graph = tf.Variable(False, trainable=False)
        for kernel in self._kernels:
            self._sums[id(kernel)] = _sums(kernel)
            kernel.gradient_observer = self.observe

    def stop(self):
        """Measures no more."""
        for kernel in self._kernels:
            kernel.gradient_observer = None
        if self.is_due:
            self._in_graph.assign(False)  # a compiled step may still read it
        self._kernels, self._sums = [], {}
        self.is_due, self._seen_step = False, None

    def expect(self, step):
        """Says where training is, before a call that makes steps.

        Args:
            step: int, the optimizer's steps so far. The call is expected to
                make as many as the one before it, the first one a single one.
        """
        if self._seen_step is not None:
            self._stride = max(1, step - self._seen_step)
        self._seen_step = step
        is_due = (step + self._stride) // self.every > step // self.every
        if is_due != self.is_due:
            self._in_graph.assign(is_due)
            self.is_due = is_due

    def observe(self, kernel, gradient):
        """Called by a kernel where a gradient reaches it.

        Args:
            kernel: `Kernel`.
            gradient: function without arguments that gives the gradient of
                the effective weight, a tensor of the kernel's shape.
        """
        total, count = self._sums[id(kernel)]

        def add():
            value = tf.cast(gradient(), "float32")
            # A loss scale that was too large says nothing about weights.
            finite = tf.reduce_all(tf.math.is_finite(value))
            total.assign_add(tf.where(finite, value, 0.0))
            count.assign_add(1)
            return tf.constant(True)

        is_due = tf.convert_to_tensor(self._in_graph)
        if self._optimizer is not None:
            step = keras.ops.convert_to_tensor(self._optimizer.iterations) + 1
            is_due = is_due & tf.equal(step % self.every, 0)
        tf.cond(is_due, add, lambda: tf.constant(False))

    def take(self, kernel):
        """The gradient of a kernel since it was last taken, and forgets it.

        Args:
            kernel: `Kernel` that is measured.

        Returns:
            Float32 array of the kernel's shape; None where no step has
            measured it.
        """
        total, count = self._sums[id(kernel)]
        if not int(tf.convert_to_tensor(count)):
            return None
        gradient = tf.convert_to_tensor(total).numpy()
        total.assign(tf.zeros(kernel.shape))
        count.assign(0)
        return gradient


def _scope(kernel):
    """The scope of the strategy that a kernel was made in."""
    strategy = getattr(kernel.theta.value, "distribute_strategy", None)
    return (strategy or tf.distribute.get_strategy()).scope()


def _sums(kernel):
    """Variables for the sum of gradients, and for how many there were."""

    def variable(value):
        # Each replica writes its own part; a reader gets the sum.
        return tf.Variable(
            value,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    with _scope(kernel):
        return variable(tf.zeros(kernel.shape)), variable(0)
