"""The linear maps of gates, attention and transformer blocks."""

import keras

from keras_sparse_rl.layers.powerprop_dense import PowerpropDense


def projection(layer, units, name, alpha=None, use_bias=False, **arguments):
    """A dense layer of `layer`, sparse-ready if `alpha` is given.

    Its kernel starts as Glorot's uniform one does for a square matrix, so
    several matrices side by side start like each of them alone.

    Args:
        layer: Keras layer that will own it.
        units: int, width of the output.
        name: str, name of the new layer.
        alpha: float, exponent of a `PowerpropDense`, or None for
            `keras.layers.Dense`.
        use_bias: bool, whether a bias is added.
        **arguments: further arguments of `keras.layers.Dense`.

    Returns:
        A Keras layer, not built.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers.projection import projection
    >>> owner = keras.layers.Layer(dtype="mixed_float16")
    >>> projection(owner, 4, "query").compute_dtype
    'float16'
    """
    arguments = {
        "kernel_initializer": keras.initializers.VarianceScaling(
            1.0, "fan_in", "uniform"
        ),
        "use_bias": use_bias,
        "dtype": layer.dtype_policy,
        "name": name,
        **arguments,
    }
    if alpha is None:
        return keras.layers.Dense(units, **arguments)
    return PowerpropDense(units, alpha=alpha, **arguments)
