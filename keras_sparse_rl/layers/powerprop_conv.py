from keras import ops

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.powerprop_spatial import PowerpropSpatial


class PowerpropConv(PowerpropSpatial):
    """A Powerprop convolution over all channels, for any number of axes.

    Args:
        rank: int, number of spatial axes.
        filters: int, number of output channels.
        groups: int, groups of channels convolved separately; divides both
            the input channels and `filters`.
        **kwargs: arguments of `PowerpropSpatial`.

    Raises:
        ValueError: if `filters` is not a positive multiple of `groups`.

    Example:

    >>> from keras_sparse_rl.layers import PowerpropConv, PowerpropConv1D
    >>> issubclass(PowerpropConv1D, PowerpropConv)
    True
    """

    def __init__(self, rank, filters, groups, **kwargs):
        super().__init__(rank, **kwargs)
        self.filters = check_integer("filters", filters)
        self.groups = check_integer("groups", groups)
        if self.filters % self.groups:
            raise ValueError(
                "`filters` must be a multiple of `groups`. Received: "
                f"filters={filters}, groups={groups}."
            )

    def build(self, input_shape):
        channels = self.input_channels(input_shape)
        if channels % self.groups:
            raise ValueError(
                "The number of input channels must be a multiple of "
                f"`groups`. Received: groups={self.groups}, "
                f"input_shape={tuple(input_shape)}."
            )
        self.build_weights(
            (*self.kernel_size, channels // self.groups, self.filters),
            (self.filters,),
        )

    def call(self, inputs, training=False):
        kernel = self.kernel_for_call(training)
        inputs, padding = self.pad_causally(inputs)
        outputs = ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )
        return self.finish_convolution(outputs)

    def compute_output_shape(self, input_shape):
        return self.convolved_shape(input_shape, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
        }
