import abc
import weakref

import keras
from keras import ops

from keras_sparse_rl.kernels.powerpropagation import effective_weight

# By identity: to a program a variable is only ever the one it was given. Held
# weakly: a kernel lives as long as the layer that has it.
_KERNELS = weakref.WeakValueDictionary()


class Kernel(abc.ABC):
    """A matrix of a layer that can be sparse: theta, masks and an exponent.

    The contract between layers, which create kernels; optimizers, which find
    them again by their variable (`kernel_of`); and callbacks, which choose
    their masks. `SparseKernel` has a mask over all of its weights,
    `execution.SparseValues` stores those in use alone.

    Attributes:
        theta: trained Keras variable.
        mask: `uint8` variable of its shape, bits as in `sparsity.masks`.
        alpha: float, the exponent of Powerpropagation.
        layer: the Keras layer that has it.
        name: str, where the layer has several kernels, else None.
        gradient_observer: function `(kernel, gradient)`, called where a
            gradient reaches the kernel, with a function that gives that of
            every weight, masked or not; or None. See
            `callbacks.DenseGradients`.
        mask_owner: weak reference to the callback that chooses the masks while
            it trains, or None.
        input_axes: tuple of int, the axes of `shape` that its product sums over
            (of a convolution: those of the channels); empty where each output
            has an input of its own.
        is_stored: bool, whether only the weights in use exist; an optimizer's
            slots then move with them.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.kernels import Kernel, sparse_kernels
    >>> from keras_sparse_rl.layers import PowerpropDense, SparseDense
    >>> model = keras.Sequential(
    ...     [keras.Input((9,)), PowerpropDense(4), SparseDense(3)])
    >>> [isinstance(kernel, Kernel) for kernel in sparse_kernels(model)]
    [True, True]
    """

    is_stored = False
    name = None
    gradient_observer = None
    mask_owner = None
    input_axes = (-2,)

    def observe(self, gradient):
        """Tells the observer, if there is one, of a gradient."""
        if self.gradient_observer is not None:
            self.gradient_observer(self, gradient)

    def register(self):
        """Lets `kernel_of(self.theta)` find this kernel."""
        _KERNELS[id(self.theta)] = self

    def release(self):
        """Makes its variable an ordinary one again."""
        _KERNELS.pop(id(self.theta), None)

    @property
    def short_name(self):
        """The layer's name, and the kernel's own where it has one."""
        return (
            f"{self.layer.name}/{self.name}" if self.name else self.layer.name
        )

    @property
    def path(self):
        """The names from the model down to the kernel."""
        return self.theta.path

    @property
    @abc.abstractmethod
    def shape(self):
        """Shape of the kernel, a tuple of int."""

    @property
    @abc.abstractmethod
    def bookkeeping(self):
        """The variables that say where weights are."""

    @abc.abstractmethod
    def value(self, dtype=None, training=False):
        """The effective, masked kernel as a tensor of `dtype`."""

    @abc.abstractmethod
    def assign_weight(self, weight):
        """Sets `theta` such that the effective weight is `weight`."""

    @abc.abstractmethod
    def dense_theta(self):
        """All of theta as an array of the kernel's shape."""

    @abc.abstractmethod
    def assign_dense_theta(self, theta):
        """Sets all of theta from an array of the kernel's shape."""

    @abc.abstractmethod
    def dense_mask(self):
        """The mask as a `uint8` array of the kernel's shape."""

    @abc.abstractmethod
    def assign_masks(self, forward, backward, slots=None):
        """Sets both sets from boolean arrays of the kernel's shape.

        Args:
            forward: boolean array, the set A.
            backward: boolean array, the set B.
            slots: dict of name to an optimizer's variable of this kernel. It
                is forgotten where a weight leaves B: it may come back.
        """

    def weight(self):
        """The effective weight as an array, masked or not."""
        theta = self.dense_theta()
        if self.alpha == 1:
            return theta
        return ops.convert_to_numpy(effective_weight(theta, self.alpha))

    def forward_mask(self):
        """Boolean array: the weights that are used (the set A)."""
        return (self.dense_mask() & 1) != 0

    def backward_mask(self):
        """Boolean array: the weights that are trained (the set B)."""
        return (self.dense_mask() & 2) != 0

    def frozen_mask(self):
        """Boolean array: the weights that are used but not trained."""
        return self.dense_mask() == 1

    def reset(self, where):
        """Sets weights to 0 where a boolean array says so."""
        theta = ops.convert_to_numpy(self.dense_theta()).copy()
        theta[where] = 0.0
        self.assign_dense_theta(theta)


def kernel_of(variable):
    """The kernel whose `theta` a variable is.

    Args:
        variable: Keras variable, or on TensorFlow the `tf.Variable` inside
            one, which is what TF-Agents gives its optimizers.

    Returns:
        `Kernel`, or None where the variable is no kernel's.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.kernels import kernel_of
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> layer = PowerpropDense(3)
    >>> layer.build((None, 4))
    >>> kernel_of(layer.theta).shape, kernel_of(layer.bias)
    ((4, 3), None)
    """
    if isinstance(variable, keras.Variable):
        return _KERNELS.get(id(variable))
    for kernel in list(_KERNELS.values()):
        if kernel.theta.value is variable:
            return kernel
    return None


def sparse_kernels(model):
    """All kernels of a model that can be made sparse, in the model's order.

    Args:
        model: Keras model or layer, built; nested models are searched too.

    Returns:
        List of `Kernel`.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense, sparse_kernels
    >>> model = keras.Sequential([keras.Input((4,)), PowerpropDense(3)])
    >>> [kernel.shape for kernel in sparse_kernels(model)]
    [(4, 3)]
    """
    found = [_KERNELS.get(id(variable)) for variable in model.weights]
    return [kernel for kernel in found if kernel is not None]


def effective_value(variable):
    """What a layer computes with where it reads a variable.

    Of a kernel's `theta` that is the effective weight, 0 where a mask hides
    it; of any other variable its value. Outside of a layer's call the
    attribute of a layer made sparse in place, such as `layer.w`, reads
    `theta` itself.

    Args:
        variable: Keras variable.

    Returns:
        Tensor of the variable's shape (of a kernel that stores what is in use
        alone: of the kernel's).

    Example:

    >>> import keras
    >>> from keras_sparse_rl.kernels import effective_value
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> layer = PowerpropDense(2, alpha=2.0, kernel_initializer="ones")
    >>> layer.build((None, 1))
    >>> _ = layer.theta.assign([[0.5, -3.0]])
    >>> effective_value(layer.theta).numpy().tolist()
    [[0.25, -9.0]]
    """
    kernel = kernel_of(variable)
    return ops.convert_to_tensor(variable) if kernel is None else kernel.value()
