import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class OverTime(keras.layers.Layer):
    """Applies a layer to every step of a sequence, all at once.

    What `keras.layers.TimeDistributed` does step by step: batch and time are
    merged, the layer sees one large batch, and they are split again. Inputs
    and outputs may be nests (dicts of several observations).

    Args:
        layer: a `keras.layers.Layer` or `keras.Model` that knows no time.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, ...)`, or a nest of them.
        training: bool, optional.

    Returns:
        Tensor `(batch, time, ...)`, or a nest of them.

    Raises:
        ValueError: if `layer` is not a Keras layer.

    Example:

    >>> import numpy as np, keras
    >>> from keras_sparse_rl.layers import OverTime
    >>> images = np.zeros((2, 5, 8, 8, 3), "float32")
    >>> OverTime(keras.layers.Conv2D(4, 3))(images).shape
    TensorShape([2, 5, 6, 6, 4])
    """

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "`layer` must be a keras.layers.Layer or keras.Model. "
                f"Received: layer={layer!r} of type {type(layer)}."
            )
        self.layer = layer
        self.supports_masking = True

    def build(self, input_shape):
        if not self.layer.built and _is_shape(input_shape):
            self.layer.build((input_shape[0], *input_shape[2:]))

    def call(self, inputs, training=None):
        first = keras.tree.flatten(inputs)[0]
        batch, time = ops.shape(first)[:2]
        merged = keras.tree.map_structure(_merge, inputs)
        outputs = self.layer(merged, training=training)
        return keras.tree.map_structure(
            lambda x: ops.reshape(x, (batch, time, *x.shape[1:])), outputs
        )

    def compute_output_spec(self, inputs, training=None):
        batch, time = keras.tree.flatten(inputs)[0].shape[:2]
        merged = keras.tree.map_structure(
            lambda x: keras.KerasTensor((None, *x.shape[2:]), x.dtype), inputs
        )
        outputs = self.layer.compute_output_spec(merged)
        if not self.layer.built:
            self.layer(merged)
        return keras.tree.map_structure(
            lambda x: keras.KerasTensor((batch, time, *x.shape[1:]), x.dtype),
            outputs,
        )

    def get_config(self):
        config = super().get_config()
        config["layer"] = keras.saving.serialize_keras_object(self.layer)
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["layer"] = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**config)


def _merge(x):
    return ops.reshape(x, (-1, *x.shape[2:]))


def _is_shape(shape):
    return isinstance(shape, tuple) and all(
        length is None or isinstance(length, int) for length in shape
    )
