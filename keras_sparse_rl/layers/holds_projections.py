import keras


class HoldsProjections(keras.layers.Layer):
    """A layer of this package whose `alpha` makes the layers inside sparse.

    What such layers share for those who look for them: with `alpha` their
    projections are `PowerpropDense` layers, with None plain ones.

    Attributes:
        alpha: float of at least 1, or None.

    Example:

    >>> from keras_sparse_rl.layers import GTrXL
    >>> from keras_sparse_rl.layers.holds_projections import HoldsProjections
    >>> issubclass(GTrXL, HoldsProjections)
    True
    """

    alpha = None
