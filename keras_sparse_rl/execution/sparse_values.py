import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.execution.reservoir import fill_reservoir
from keras_sparse_rl.execution.reservoir import new_reservoir
from keras_sparse_rl.execution.reservoir import refuse_several_workers
from keras_sparse_rl.execution.sparse_layout import SparseLayout
from keras_sparse_rl.execution.sparse_matmul import scatter
from keras_sparse_rl.execution.stored_values import restored_values
from keras_sparse_rl.execution.stored_values import stored_values
from keras_sparse_rl.kernels.checkpoints import follow
from keras_sparse_rl.kernels.kernel import Kernel
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.kernels.powerpropagation import masked_weight
from keras_sparse_rl.kernels.powerpropagation import theta_from_weight


class SparseValues(Kernel):
    """A kernel `(inputs, outputs)` of which only the weights in use exist.

    What `SparseKernel` is to layers that multiply by zeros: optimizers and
    callbacks treat both alike. `theta` is the vector of the weights in the
    backward set B (and in A). All others rest in the *reservoir*, an array on
    the host that no training step touches; a refresh of the masks moves
    weights between the two. Large reservoirs are files mapped into memory.

    Args:
        layer: the `keras.layers.Layer` that owns the kernel.
        shape: tuple of two int, `(inputs, outputs)`.
        density: float in (0, 1], the share of weights in A at first: those of
            the largest magnitude.
        backward_density: float, the share in B, which is also the largest
            that will ever fit.
        alpha: float, the exponent of Powerpropagation, at least 1.
        initializer: Keras initializer of the effective weight.
        regularizer: Keras regularizer, applied to the vector of effective
            weights in A.

    Raises:
        ValueError: if several machines train the layer together.

    Attributes:
        theta: trained variable `(capacity,)`.
        mask: `uint8` variable `(capacity,)`, bits as in `sparsity.masks`.
        layout: `SparseLayout` of variables.
        alpha: float.
        layer: the owner.

    Example:

    >>> from keras_sparse_rl.layers import SparseDense, SparseValues
    >>> layer = SparseDense(20, density=0.1)
    >>> layer.build((None, 50))
    >>> kernel = layer.sparse_kernel
    >>> isinstance(kernel, SparseValues), int(kernel.forward_mask().sum())
    (True, 100)
    """

    is_stored = True
    shape = None

    def __init__(
        self,
        layer,
        shape,
        density,
        backward_density,
        alpha=1.0,
        initializer="glorot_uniform",
        regularizer=None,
    ):
        refuse_several_workers(layer)
        self.layer = layer
        self.shape = tuple(shape)
        self.alpha = check_alpha(alpha)
        size = shape[0] * shape[1]
        # Room for what rounding to whole blocks adds.
        self.capacity = min(
            size, keep_count(backward_density, size) // 8 * 8 + 8
        )
        initializer = keras.initializers.get(initializer)
        with tf.init_scope():
            weight = initializer(self.shape, dtype="float32")
            reservoir = ops.convert_to_numpy(
                theta_from_weight(weight, self.alpha)
            )
        magnitude = abs(ops.convert_to_numpy(weight))
        layout = SparseLayout.from_masks(
            topk_mask(magnitude, density),
            topk_mask(magnitude, backward_density),
            self.capacity,
        )
        self._reservoir = new_reservoir(reservoir)
        theta = np.zeros(self.capacity, "float32")
        inputs, outputs = layout.places()
        theta[: len(inputs)] = reservoir[inputs, outputs]
        if regularizer is not None:
            regularizer = _ValuesRegularizer(
                keras.regularizers.get(regularizer), self
            )
        self.theta = layer.add_weight(
            name="theta",
            shape=theta.shape,
            initializer=lambda shape, dtype=None: ops.cast(theta, dtype),
            regularizer=regularizer,
            autocast=False,
        )
        self.layout = SparseLayout(
            **{
                name: layer.add_weight(
                    name=name,
                    shape=value.shape,
                    initializer=_constant(value),
                    dtype=str(value.dtype),
                    trainable=False,
                    autocast=False,
                )
                for name, value in vars(layout).items()
            }
        )
        self.mask = self.layout.mask
        # TensorFlow's checkpoints follow a layer's attributes alone.
        follow(layer, "theta", self.theta)
        for name, variable in vars(self.layout).items():
            follow(layer, name, variable)
        self.register()

    @property
    def bookkeeping(self):
        return list(vars(self.layout).values())

    def entries(self, training=False):
        """The effective weights as a float32 tensor `(capacity,)`."""
        if self.alpha == 1:
            return ops.cast(self.theta.value, "float32")
        return masked_weight(
            self.theta, self.mask, self.alpha, "float32", fuse=training
        )

    def tensors(self):
        """The layout as tensors, for the products."""
        return self.layout.map(lambda v: tf.convert_to_tensor(v.value))

    def value(self, dtype=None, training=False):
        """The effective, masked kernel as a dense tensor of `dtype`."""
        dense = scatter(self.entries(), self.tensors(), self.shape[0])
        return ops.cast(dense, dtype or self.theta.dtype)

    def dense_theta(self):
        """All of `theta`, resting weights too: float32 `(inputs, outputs)`."""
        layout = self._numpy_layout()
        theta = np.array(self._reservoir)
        inputs, outputs = layout.places()
        theta[inputs, outputs] = self._numpy_theta()[: len(inputs)]
        return theta

    def assign_dense_theta(self, theta):
        """Sets all of `theta`, resting weights too; masks stay."""
        inputs, outputs = self._numpy_layout().places()
        fill_reservoir(self._reservoir, theta)
        self._assign_theta(np.asarray(theta)[inputs, outputs])

    def resting(self):
        """The reservoir: a copy, for a checkpoint beside the variables.

        Returns:
            float32 array `(inputs, outputs)`, out of date where `theta` is.
        """
        return np.array(self._reservoir)

    def assign_resting(self, values):
        """Sets the reservoir to what `resting` returned."""
        fill_reservoir(self._reservoir, values)

    def assign_weight(self, weight):
        """Sets `theta` such that the effective weight is `weight`."""
        theta = theta_from_weight(
            tf.convert_to_tensor(weight, "float32"), self.alpha
        )
        self.assign_dense_theta(ops.convert_to_numpy(theta))

    def assign_masks(self, forward, backward, slots=None):
        """Sets both sets from boolean arrays of the kernel's shape.

        Args:
            forward: boolean array, the set A.
            backward: boolean array, the set B.
            slots: dict of name to an optimizer's variable of this kernel: it
                moves with the weights, from 0 where one comes into B.

        Raises:
            ValueError: if there are more weights than the layer has room for.
        """
        count = int(np.count_nonzero(forward | backward))
        if count > self.capacity:
            raise ValueError(
                f"Layer '{self.layer.name}' has room for {self.capacity} of "
                f"its weights, and the masks hold {count}. Build it with "
                f"backward_density={count / forward.size:.3g} or more (it has "
                f"{self.layer.backward_density:.3g}), or ask for fewer."
            )
        theta = self.dense_theta()
        new = SparseLayout.from_masks(forward, backward, self.capacity)
        source, stays = new.sources(self._numpy_layout())
        places = new.places()
        fill_reservoir(self._reservoir, theta)
        self._assign_theta(theta[places])
        for name, variable in vars(self.layout).items():
            variable.assign(getattr(new, name))
        for name, slot in (slots or {}).items():
            if tuple(slot.shape) != (self.capacity,):
                continue
            values = ops.convert_to_numpy(slot)
            moved = np.zeros_like(values)
            # An average of the weight is not a sum of gradients.
            if name == "average":
                moved[: len(source)] = theta[places]
            moved[: len(source)][stays] = values[source[stays]]
            slot.assign(moved)

    def take(self, theta, masks=None):
        """Takes all of theta from a dense matrix, and its masks.

        Args:
            theta: float array `(inputs, outputs)`.
            masks: pair of boolean arrays of that shape, the sets A and B; or
                None to keep the weights of the largest magnitude.
        """
        self.assign_dense_theta(theta)
        if masks is None:
            magnitude = abs(self.weight())
            masks = (
                topk_mask(magnitude, self.layer.density),
                topk_mask(magnitude, self.layer.backward_density),
            )
        self.assign_masks(*masks)

    def save(self, store, with_resting):
        """Writes the kernel: every weight with its place, never zeros.

        Args:
            store: dict-like of name to array.
            with_resting: bool, whether training will go on: then the weights
                that are trained but not used are kept, and the reservoir.
        """
        arrays = stored_values(
            self._numpy_theta(),
            self._numpy_layout(),
            self._reservoir if with_resting else None,
        )
        for name, array in arrays.items():
            store[name] = array

    def load(self, store):
        """Reads what `save` wrote."""
        theta, layout, resting = restored_values(
            store, self.shape, self.capacity, self.layer.name
        )
        for name, variable in vars(self.layout).items():
            variable.assign(getattr(layout, name))
        fill_reservoir(self._reservoir, resting)
        self._assign_theta(theta)

    def _numpy_layout(self):
        return self.layout.map(ops.convert_to_numpy)

    def _numpy_theta(self):
        return ops.convert_to_numpy(ops.cast(self.theta.value, "float32"))

    def _assign_theta(self, theta):
        padded = np.zeros(self.capacity, "float32")
        padded[: len(theta)] = theta
        self.theta.assign(ops.cast(padded, self.theta.dtype))

    def dense_mask(self):
        layout = self._numpy_layout()
        mask = np.zeros(self.shape, "uint8")
        places = layout.places()
        mask[places] = layout.mask[: len(places[0])]
        return mask


def _constant(value):
    return lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype)


class _ValuesRegularizer(keras.regularizers.Regularizer):
    """Regularizes the effective weights in A."""

    def __init__(self, regularizer, kernel):
        self.regularizer = regularizer
        self.kernel = kernel

    def __call__(self, theta):
        kernel = self.kernel
        return self.regularizer(masked_weight(theta, kernel.mask, kernel.alpha))
