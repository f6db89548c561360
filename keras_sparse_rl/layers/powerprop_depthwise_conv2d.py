import keras
from keras import ops

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.powerprop_spatial import PowerpropSpatial


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropDepthwiseConv2D(PowerpropSpatial):
    """`keras.layers.DepthwiseConv2D` with `theta * |theta|**(alpha - 1)`.

    See "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1, and `PowerpropDense`.
    With `alpha=1` this is `keras.layers.DepthwiseConv2D` exactly.

    Args:
        kernel_size, strides, padding, depth_multiplier, data_format,
            dilation_rate, activation, use_bias, depthwise_initializer,
            bias_initializer, depthwise_regularizer, bias_regularizer,
            activity_regularizer, depthwise_constraint, bias_constraint: as
            in `keras.layers.DepthwiseConv2D`; what is said of the kernel
            acts on the effective kernel.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, height, width, channels)`, or channels first.
        training: bool, optional.

    Attributes:
        theta: trained variable `(height, width, channels, depth_multiplier)`.
        kernel: tensor of that shape, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs with `channels * depth_multiplier`
        channels.

    Raises:
        ValueError: if a size is not positive or `alpha` is not a finite
            number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDepthwiseConv2D
    >>> layer = PowerpropDepthwiseConv2D(3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 3])
    """

    def __init__(
        self,
        kernel_size,
        strides=(1, 1),
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=(1, 1),
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        alpha=2.0,
        **kwargs,
    ):
        super().__init__(
            rank=2,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
            alpha=alpha,
            **kwargs,
        )
        self.depth_multiplier = check_integer(
            "depth_multiplier", depth_multiplier
        )

    def build(self, input_shape):
        channels = self.input_channels(input_shape)
        self.build_weights(
            (*self.kernel_size, channels, self.depth_multiplier),
            (channels * self.depth_multiplier,),
        )

    def call(self, inputs, training=False):
        outputs = ops.depthwise_conv(
            inputs,
            self.kernel_for_call(training),
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self.finish_convolution(outputs)

    def compute_output_shape(self, input_shape):
        channels = input_shape[-1 if self._channels_last else 1]
        return self.convolved_shape(
            input_shape, channels * self.depth_multiplier
        )

    def get_config(self):
        config = super().get_config()
        for part in ("initializer", "regularizer", "constraint"):
            config[f"depthwise_{part}"] = config.pop(f"kernel_{part}")
        config["depth_multiplier"] = self.depth_multiplier
        return config
