import keras

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.layers.optimizer_check import warn_without_powerprop
from keras_sparse_rl.layers.sparse_kernel import SparseKernel


class PowerpropLayer(keras.layers.Layer):
    """What all Powerprop layers share: a sparse kernel, bias, activation.

    Not written from `keras.layers.Dense` and its kin on purpose: those save
    their `kernel` attribute, which here is computed, and reload it wrongly.

    Args:
        alpha: float, the exponent of Powerpropagation, at least 1.
        activation: Keras activation.
        use_bias: bool, whether a bias is added.
        kernel_initializer: Keras initializer of the effective kernel.
        bias_initializer: Keras initializer of the bias.
        kernel_regularizer: Keras regularizer of the effective kernel.
        bias_regularizer: Keras regularizer of the bias.
        kernel_constraint: Keras constraint of the effective kernel.
        bias_constraint: Keras constraint of the bias.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

    Example:

    >>> from keras_sparse_rl.layers import PowerpropDense, PowerpropLayer
    >>> issubclass(PowerpropDense, PowerpropLayer)
    True
    """

    def __init__(
        self,
        alpha,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.alpha = check_alpha(alpha)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.bias = None

    def build_weights(self, kernel_shape, bias_shape):
        """Creates the kernel and, unless `bias_shape` is None, the bias."""
        self._sparse_kernel = SparseKernel(
            self,
            kernel_shape,
            self.alpha,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias and bias_shape is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=bias_shape,
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def kernel_for_call(self, training):
        """The effective kernel in the compute dtype, for use in `call`."""
        if training and self.trainable and self.alpha != 1:
            warn_without_powerprop(self)
        return self._sparse_kernel.value(self.compute_dtype, bool(training))

    def finish(self, outputs, bias=None):
        """Adds the bias and applies the activation."""
        bias = self.bias if bias is None else bias
        if bias is not None:
            outputs = outputs + bias
        return self.activation(outputs)

    @property
    def sparse_kernel(self):
        """The `SparseKernel` of this layer."""
        if not self.built:
            raise AttributeError(
                f"Layer '{self.name}' has no weights yet. Call it on data, or "
                "call layer.build(input_shape), before reading `theta`, "
                "`kernel` or `mask`."
            )
        return self._sparse_kernel

    @property
    def theta(self):
        """The trained variable; the kernel is computed from it."""
        return self.sparse_kernel.theta

    @property
    def mask(self):
        """The `uint8` variable: bit 1 = weight is used, bit 2 = trained."""
        return self.sparse_kernel.mask

    @property
    def kernel(self):
        """The effective, masked kernel as a tensor."""
        return self.sparse_kernel.value()

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "alpha": self.alpha,
                "activation": keras.activations.serialize(self.activation),
                "use_bias": self.use_bias,
                "kernel_initializer": keras.initializers.serialize(
                    self.kernel_initializer
                ),
                "bias_initializer": keras.initializers.serialize(
                    self.bias_initializer
                ),
                "kernel_regularizer": keras.regularizers.serialize(
                    self.kernel_regularizer
                ),
                "bias_regularizer": keras.regularizers.serialize(
                    self.bias_regularizer
                ),
                "activity_regularizer": keras.regularizers.serialize(
                    self.activity_regularizer
                ),
                "kernel_constraint": keras.constraints.serialize(
                    self.kernel_constraint
                ),
                "bias_constraint": keras.constraints.serialize(
                    self.bias_constraint
                ),
            }
        )
        return config
