import keras
from keras import ops

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropDense(PowerpropLayer):
    """`keras.layers.Dense` whose weights are `theta * |theta|**(alpha - 1)`.

    Large weights learn faster and small ones stay small, so the trained
    layer keeps its accuracy when most of its weights are removed. See
    "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1. With `alpha=1` this is
    `keras.layers.Dense` exactly; every `alpha` starts from the same effective
    weights. Train it with `optimizers.Powerprop(...)`, unless with SGD.

    Args:
        units: int, dimensionality of the output.
        alpha: float, the exponent, at least 1. Larger is sparser, and needs
            a smaller learning rate.
        activation, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, bias_constraint: as in `keras.layers.Dense`;
            what is said of the kernel acts on the effective kernel.

    Call arguments:
        inputs: tensor `(batch, ..., features)`.
        training: bool, optional.

    Attributes:
        theta: trained variable `(features, units)`.
        kernel: tensor `(features, units)`, effective and masked.
        mask: `uint8` variable `(features, units)`; see `sparsity.masks`.

    Returns:
        Tensor `(batch, ..., units)`.

    Raises:
        ValueError: if `units` is not a positive integer or `alpha` is not a
            finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> layer = PowerpropDense(8, alpha=3.0, activation="relu")
    >>> layer(keras.ops.ones((2, 4))).shape
    TensorShape([2, 8])
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        alpha=2.0,
        **kwargs,
    ):
        super().__init__(
            alpha=alpha,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.units = check_integer("units", units)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        features = input_shape[-1]
        self.build_weights((features, self.units), (self.units,))
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: features}
        )

    def call(self, inputs, training=False):
        kernel = self.kernel_for_call(training)
        return self.finish(ops.matmul(inputs, kernel))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}
