import keras

from keras_sparse_rl.layers.powerprop_conv import PowerpropConv


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv1D(PowerpropConv):
    """`keras.layers.Conv1D` whose weights are `theta * |theta|**(alpha - 1)`.

    See "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1, and `PowerpropDense`.
    With `alpha=1` this is `keras.layers.Conv1D` exactly.

    Args:
        filters, kernel_size, strides, padding, data_format, dilation_rate,
            groups, activation, use_bias, kernel_initializer,
            bias_initializer, kernel_regularizer, bias_regularizer,
            activity_regularizer, kernel_constraint, bias_constraint: as in
            `keras.layers.Conv1D`; what is said of the kernel acts on the
            effective kernel.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, steps, channels)`, or channels first.
        training: bool, optional.

    Attributes:
        theta: trained variable `(kernel_size, channels / groups, filters)`.
        kernel: tensor of that shape, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs with `filters` channels.

    Raises:
        ValueError: if a size is not positive, `groups` does not divide the
            channels, or `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv1D
    >>> layer = PowerpropConv1D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 3))).shape
    TensorShape([2, 8, 4])
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
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
            rank=1,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            alpha=alpha,
            **kwargs,
        )
