import collections
import contextlib

import keras
import numpy as np

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.matrices import input_axes
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.kernels.matrices import own_matrices
from keras_sparse_rl.kernels.scope import EffectiveScope
from keras_sparse_rl.kernels.sparse_kernel import SparseKernel
from keras_sparse_rl.optimizers.advice import warn_without_powerprop


class PowerpropKernels:
    """Makes a Keras layer's matrices sparse-ready without writing it anew.

    Mixed into a Keras layer. Its matrices, and those of layers inside that it
    adopts, hold `theta` from then on, and while the layer is called whatever
    reads them gets the effective, masked kernel (`keras.StatelessScope`),
    computed once however long a loop over time is.

    Args:
        *args: arguments of the Keras layer.
        alpha: float, the exponent of Powerpropagation, at least 1, or None to
            leave the layer as it is.
        **kwargs: arguments of the Keras layer.

    Attributes:
        sparse_kernels: list of `Kernel`, each with `theta`, `mask` and
            `value()`, the effective kernel.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropLSTM
    >>> layer = PowerpropLSTM(8, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 4))).shape
    TensorShape([2, 8])
    >>> [kernel.name for kernel in layer.sparse_kernels]
    ['kernel', 'recurrent_kernel']
    """

    # Under names that no user's layer has: it may be mixed into one of those.
    _powerprop_kernels = ()  # that this layer's call reads
    _powerprop_inside = ()  # of the layers inside it

    def __init__(self, *args, alpha=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = None if alpha is None else check_alpha(alpha)

    @property
    def sparse_kernels(self):
        """The kernels of this layer, a list of `Kernel`."""
        return list(self._powerprop_kernels)

    def read_layers(self):
        """Layers inside whose matrices this layer's own methods read."""
        return []

    def adopt_kernels(self, layers):
        """Takes over the matrices of layers inside; called last in `build`.

        Args:
            layers: list of Keras layers, built; layers inside them are
                searched too. What another layer has taken over before is
                shared with it.
        """
        if self.alpha is None:
            return
        inside = [part for layer in layers for part in layers_inside(layer)]
        adopt(self, matrices_in(inside), self.alpha)

    @contextlib.contextmanager
    def effective_kernels(self, training=False):
        """Context for `call`: whoever reads a kernel gets the effective one.

        Args:
            training: bool.
        """
        kernels, inside = self._powerprop_kernels, self._powerprop_inside
        if not kernels and not inside:
            yield
            return
        if training and self.trainable and any(k.alpha != 1 for k in kernels):
            warn_without_powerprop(self)
        with EffectiveScope(self, kernels, inside, bool(training)):
            yield

    def save_own_variables(self, store):
        """Saves all variables, masks too, and the exponents beside them."""
        # Keras' own layers save by name what they know of.
        keras.layers.Layer.save_own_variables(self, store)
        mine = own_kernels(self)
        if mine:
            store["alpha"] = np.array([kernel.alpha for kernel in mine])

    def load_own_variables(self, store):
        """Loads what `save_own_variables` has written.

        Raises:
            ValueError: for the weights of a plain layer, or of a layer with
                another exponent.
        """
        found = {name: store[name] for name in store.keys()}
        check_exponents(self, found.pop("alpha", None))
        keras.layers.Layer.load_own_variables(self, found)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


def matrices_in(owners):
    """The matrices that layers hold, each with the layer that holds it.

    Args:
        owners: list of Keras layers, built.

    Returns:
        List of pairs `(variable, layer)`, each variable once.
    """
    found = {}
    for owner in owners:
        for variable in own_matrices(owner):
            found.setdefault(id(variable), (variable, owner))
    return list(found.values())


def adopt(layer, matrices, alpha):
    """Makes matrices kernels of the layer whose call reads them.

    Args:
        layer: `PowerpropKernels`, whose `call` reads the matrices.
        matrices: list of pairs `(variable, the layer that holds it)`. What is
            a kernel already is shared.
        alpha: float, the exponent.
    """
    names = collections.Counter(v.name for v, _ in matrices)
    for variable, owner in matrices:
        kernel = kernel_of(variable)
        if kernel is None:
            name = variable.name
            if names[name] > 1:
                name = "_".join(variable.path.split("/")[-2:])
            kernel = SparseKernel(
                layer,
                variable.shape,
                alpha,
                initializer=_initializer(owner, variable.name),
                name=name if len(matrices) > 1 else None,
                theta=variable,
            )
            kernel.input_axes = input_axes(owner, variable)
        # One by one, so that all that were made can be taken back.
        layer._powerprop_kernels = (*layer._powerprop_kernels, kernel)


def own_kernels(layer):
    """The kernels whose masks a layer holds."""
    return [k for k in layer._powerprop_kernels if k.layer is layer]


def check_exponents(layer, found):
    """Raises unless a file's exponents are those of a layer's kernels.

    Args:
        layer: `PowerpropKernels`.
        found: array of float, or None if the file has none.

    Raises:
        ValueError: if they differ, or the file is a plain layer's.
    """
    expected = [kernel.alpha for kernel in own_kernels(layer)]
    if not expected:
        return
    if found is None:
        raise ValueError(
            f"The file holds the weights of a plain layer for '{layer.name}', "
            "which is sparse, or none. Load them into the plain model first, "
            "then make it sparse: model.load_weights(path); sparsify(model). "
            "If the file is a sparse model's, build that one, with the "
            f"exponents it was saved with (here alpha={expected})."
        )
    found = np.array(found).tolist()
    if found != expected:
        raise ValueError(
            f"The file holds theta of layer '{layer.name}' for alpha={found}, "
            f"and the layer has alpha={expected}: the same theta would be "
            "other weights. Build the model with the exponent it was saved "
            "with."
        )


def _initializer(layer, name):
    """The initializer that a layer has for one of its variables."""
    part = name.removesuffix("_kernel")
    for attribute in (f"{name}_initializer", f"{part}_initializer"):
        initializer = getattr(layer, attribute, None)
        if initializer is not None:
            return initializer
    return getattr(layer, "depthwise_initializer", "glorot_uniform")
