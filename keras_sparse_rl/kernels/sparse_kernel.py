import keras
import numpy as np
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.kernels.checkpoints import follow
from keras_sparse_rl.kernels.kernel import Kernel
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.kernels.on_tensorflow import lifted
from keras_sparse_rl.kernels.on_tensorflow import map_in_place
from keras_sparse_rl.kernels.powerpropagation import masked_weight
from keras_sparse_rl.kernels.powerpropagation import theta_from_weight
from keras_sparse_rl.kernels.scope import read_stored
from keras_sparse_rl.kernels.scope import stored


class SparseKernel(Kernel):
    """One kernel of a layer: its parameters, its exponent and its mask.

    A layer creates one in `build` for every kernel it has. Optimizers and
    callbacks of this package find it again through `sparse_kernels(model)`.

    Args:
        layer: the `keras.layers.Layer` that owns the kernel. Its variables
            `theta` and `mask` are added to it.
        shape: tuple of int, the kernel's shape.
        alpha: float, the exponent of Powerpropagation, at least 1.
        initializer: Keras initializer of the *effective* weight.
        regularizer: Keras regularizer of the effective, masked kernel.
        constraint: Keras constraint of the effective, masked kernel.
        name: str, put before the names of the variables when a layer has
            several kernels.
        theta: Keras variable of that shape, optional: a kernel that exists
            already and becomes `theta`, under its name and with its own
            regularizer and constraint.

    Attributes:
        theta: trained variable.
        mask: `uint8` variable, bits as in `sparsity.masks`.
        alpha: float.
        layer: the owner.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import SparseKernel
    >>> class Scale(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.scale = SparseKernel(self, input_shape[-1:], alpha=2.0)
    ...     def call(self, inputs):
    ...         return inputs * self.scale.value(self.compute_dtype)
    >>> layer = Scale()
    >>> layer(keras.ops.ones((2, 3))).shape
    TensorShape([2, 3])
    >>> [variable.name for variable in layer.variables]
    ['theta', 'mask']
    """

    def __init__(
        self,
        layer,
        shape,
        alpha,
        initializer="glorot_uniform",
        regularizer=None,
        constraint=None,
        name=None,
        theta=None,
    ):
        self.layer = layer
        self.alpha = check_alpha(alpha)
        self.name = name
        prefix = f"{name}_" if name else ""
        initializer = keras.initializers.get(initializer)
        self._initializer = initializer
        holds_weight = theta is not None and self.alpha != 1
        if theta is None:
            theta = layer.add_weight(
                name=f"{prefix}theta",
                shape=shape,
                initializer=lambda shape, dtype=None: theta_from_weight(
                    initializer(shape, dtype=dtype), self.alpha
                ),
                regularizer=keras.regularizers.get(regularizer),
                constraint=keras.constraints.get(constraint),
                autocast=False,
            )
            follow(layer, f"{prefix}theta", theta)
        self.theta = theta
        self._dtype = theta.dtype

        def initial_mask(shape, dtype=None):
            if holds_weight:
                # Keras may put off giving variables their values, and then
                # does so in order: only here has theta its own for sure.
                with lifted():
                    self.assign_weight(theta)
            return ops.full(shape, FORWARD | BACKWARD, dtype=dtype)

        self.mask = layer.add_weight(
            name=f"{prefix}mask",
            shape=shape,
            initializer=initial_mask,
            dtype="uint8",
            trainable=False,
            autocast=False,
        )
        # By number: names of layers, and so of kernels, may count on.
        number = sum(name.startswith("__mask_") for name in vars(layer))
        self.mask_attribute = f"__mask_{number}"
        follow(layer, f"mask_{number}", self.mask)
        self.register()

    def register(self):
        theta = self.theta
        if theta.regularizer is not None:
            theta.regularizer = _KernelRegularizer(theta.regularizer, self)
        if theta.constraint is not None:
            theta.constraint = _KernelConstraint(theta.constraint, self)
        super().register()

    def release(self):
        super().release()
        for name in ("regularizer", "constraint"):
            wrapped = getattr(self.theta, name)
            if wrapped is not None:
                setattr(self.theta, name, getattr(wrapped, name))

    @property
    def shape(self):
        return tuple(self.theta.shape)

    @property
    def bookkeeping(self):
        return [self.mask]

    def value(self, dtype=None, training=False):
        if self.theta.dtype != self._dtype:
            # Inside a layer of mixed precision, which would read theta in
            # half precision: the power is taken before it is rounded.
            weight = read_stored([self], training)[0]
            return ops.cast(weight, dtype or self._dtype)
        with stored():
            return masked_weight(
                self.theta,
                self.mask,
                self.alpha,
                dtype,
                fuse=training,
                observe=self.observe,
            )

    def assign_weight(self, weight):
        self.theta.assign(theta_from_weight(weight, self.alpha))

    def change_alpha(self, alpha):
        """Sets another exponent; the effective weight stays as it is."""
        alpha = check_alpha(alpha)
        if alpha == self.alpha:
            return
        root = self.alpha / alpha
        self.alpha = alpha

        def with_root(theta):
            part = theta.astype("float32")
            return np.copysign(np.abs(part) ** root, part)

        map_in_place(with_root, self.theta)

    def dense_theta(self):
        return ops.convert_to_numpy(self.theta)

    def assign_dense_theta(self, theta):
        self.theta.assign(theta)

    def dense_mask(self):
        return ops.convert_to_numpy(self.mask)

    def assign_masks(self, forward, backward, slots=None):
        left = self.backward_mask() & ~backward
        self.mask.assign(
            np.uint8(FORWARD) * forward + np.uint8(BACKWARD) * backward
        )
        if not left.any():
            return
        for name, slot in (slots or {}).items():
            if tuple(slot.shape) != self.shape:
                continue
            # An average of the weight is not a sum of gradients.
            cleared = self.theta if name == "average" else 0.0
            slot.assign(ops.where(left, ops.cast(cleared, slot.dtype), slot))

    def start_anew(self, where):
        """Initializes weights again where a boolean array says so."""
        weight = self._initializer(self.shape, dtype=self.theta.dtype)
        initial = theta_from_weight(weight, self.alpha)
        self.theta.assign(ops.where(where, initial, self.theta))


class _KernelRegularizer(keras.regularizers.Regularizer):
    """Regularizes the effective, masked kernel instead of `theta`."""

    def __init__(self, regularizer, sparse_kernel):
        self.regularizer = regularizer
        self.sparse_kernel = sparse_kernel

    def __call__(self, theta):
        return self.regularizer(self.sparse_kernel.value())


class _KernelConstraint(keras.constraints.Constraint):
    """Constrains the kernel; `theta` follows where the kernel moved."""

    def __init__(self, constraint, sparse_kernel):
        self.constraint = constraint
        self.sparse_kernel = sparse_kernel

    def __call__(self, theta):
        kernel = self.sparse_kernel.value()
        wanted = self.constraint(kernel)
        moved = ops.logical_and(
            ops.not_equal(wanted, kernel),
            ops.equal(self.sparse_kernel.mask, FORWARD | BACKWARD),
        )
        new = theta_from_weight(wanted, self.sparse_kernel.alpha)
        return ops.where(moved, new, theta)
