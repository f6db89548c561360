import numbers

import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


class PowerpropSpatial(PowerpropLayer):
    """What the Powerprop convolutions share, for any number of axes.

    Args:
        rank: int, number of spatial axes.
        kernel_size: int or tuple of `rank` ints.
        strides: int or tuple of `rank` ints.
        padding: `"valid"`, `"same"` or, in one dimension, `"causal"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int or tuple of `rank` ints.
        **kwargs: arguments of `PowerpropLayer`.

    Raises:
        ValueError: if a size is not positive, `padding` is unknown, or both
            `strides` and `dilation_rate` exceed 1.

    Example:

    >>> from keras_sparse_rl.layers import PowerpropConv2D, PowerpropSpatial
    >>> issubclass(PowerpropConv2D, PowerpropSpatial)
    True
    """

    def __init__(
        self,
        rank,
        kernel_size,
        strides,
        padding,
        data_format,
        dilation_rate,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.rank = rank
        self.kernel_size = _sizes("kernel_size", kernel_size, rank)
        self.strides = _sizes("strides", strides, rank)
        self.dilation_rate = _sizes("dilation_rate", dilation_rate, rank)
        paddings = ("valid", "same") + (("causal",) if rank == 1 else ())
        if isinstance(padding, str):
            padding = padding.lower()  # as Keras does
        self.padding = check_choice("padding", padding, paddings)
        self.data_format = check_choice(
            "data_format",
            data_format or keras.config.image_data_format(),
            ("channels_last", "channels_first"),
        )
        if self.padding == "causal" and not self._channels_last:
            raise ValueError(
                "padding='causal' needs data_format='channels_last'. "
                f"Received: data_format={data_format!r}."
            )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "`strides` and `dilation_rate` cannot both exceed 1. "
                f"Received: strides={strides}, dilation_rate={dilation_rate}."
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=rank + 2)

    @property
    def _channels_last(self):
        return self.data_format == "channels_last"

    def input_channels(self, input_shape):
        """Number of channels, which must be known."""
        axis = -1 if self._channels_last else 1
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                "The channel axis of the inputs must be known when the layer "
                f"is built. Received: input_shape={tuple(input_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(
            min_ndim=self.rank + 2, axes={axis: channels}
        )
        return channels

    def pad_causally(self, inputs):
        """Pads the start of the time axis, so that no output looks ahead."""
        if self.padding != "causal":
            return inputs, self.padding
        ahead = self.dilation_rate[0] * (self.kernel_size[0] - 1)
        return ops.pad(inputs, [[0, 0], [ahead, 0], [0, 0]]), "valid"

    def finish_convolution(self, outputs):
        """Adds the bias along the channels and applies the activation."""
        bias = self.bias
        if bias is not None and not self._channels_last:
            bias = ops.reshape(bias, (1, -1) + (1,) * self.rank)
        return self.finish(outputs, bias)

    def convolved_shape(self, input_shape, channels):
        """Output shape of a convolution with `channels` output channels."""
        first = 1 if self._channels_last else 2
        spatial = tuple(
            self._output_length(length, axis)
            for axis, length in enumerate(
                input_shape[first : first + self.rank]
            )
        )
        if self._channels_last:
            return (input_shape[0], *spatial, channels)
        return (input_shape[0], channels, *spatial)

    def _output_length(self, length, axis):
        if length is None:
            return None
        if self.padding == "valid":
            reach = self.dilation_rate[axis] * (self.kernel_size[axis] - 1)
            length -= reach
        return -(-length // self.strides[axis])

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "kernel_size": self.kernel_size,
                "strides": self.strides,
                "padding": self.padding,
                "data_format": self.data_format,
                "dilation_rate": self.dilation_rate,
            }
        )
        return config


def _sizes(name, value, rank):
    is_one = isinstance(value, numbers.Integral)
    sizes = (value,) * rank if is_one else tuple(value)
    if len(sizes) != rank:
        raise ValueError(
            f"`{name}` must be an int or a tuple of {rank} ints. Received: "
            f"{name}={value!r}."
        )
    return tuple(check_integer(name, size) for size in sizes)
