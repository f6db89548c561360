import keras
import numpy as np
from keras import ops

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropEmbedding(PowerpropLayer):
    """`keras.layers.Embedding` with `theta * |theta|**(alpha - 1)`.

    See "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1, and `PowerpropDense`.
    With `alpha=1` this is `keras.layers.Embedding` exactly.

    Args:
        input_dim, output_dim, embeddings_initializer,
            embeddings_regularizer, embeddings_constraint, mask_zero,
            weights: as in `keras.layers.Embedding`; what is said of the
            embeddings acts on the effective table.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor of ints `(batch, ...)`, each below `input_dim`.
        training: bool, optional.

    Attributes:
        theta: trained variable `(input_dim, output_dim)`.
        kernel, embeddings: tensor of that shape, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor `(batch, ..., output_dim)`.

    Raises:
        ValueError: if a size is not positive or `alpha` is not a finite
            number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropEmbedding
    >>> layer = PowerpropEmbedding(100, 8, alpha=2.0)
    >>> layer(keras.ops.array([[1, 2, 3]])).shape
    TensorShape([1, 3, 8])
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        alpha=2.0,
        **kwargs,
    ):
        super().__init__(
            alpha=alpha,
            use_bias=False,
            kernel_initializer=embeddings_initializer,
            kernel_regularizer=embeddings_regularizer,
            kernel_constraint=embeddings_constraint,
            **kwargs,
        )
        self.input_dim = check_integer("input_dim", input_dim)
        self.output_dim = check_integer("output_dim", output_dim)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        if weights is not None:
            self.build(None)
            self.built = True
            table = weights[0] if isinstance(weights, list) else weights
            self.sparse_kernel.assign_weight(np.asarray(table))

    def build(self, input_shape):
        if not self.built:
            self.build_weights((self.input_dim, self.output_dim), None)

    def call(self, inputs, training=False):
        if inputs.dtype not in ("int32", "int64"):
            inputs = ops.cast(inputs, "int32")
        return ops.take(self.kernel_for_call(training), inputs, axis=0)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.output_dim)

    @property
    def embeddings(self):
        """The effective, masked table as a tensor."""
        return self.kernel

    def get_config(self):
        config = super().get_config()
        for part in ("initializer", "regularizer", "constraint"):
            config[f"embeddings_{part}"] = config.pop(f"kernel_{part}")
            del config[f"bias_{part}"]
        del config["activation"], config["use_bias"]
        config.update(
            {
                "input_dim": self.input_dim,
                "output_dim": self.output_dim,
                "mask_zero": self.mask_zero,
            }
        )
        return config
