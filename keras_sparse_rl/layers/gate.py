import keras

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.projection import projection


class Gate(HoldsProjections):
    """What the gates of GTrXL share: a bias, projections, two inputs.

    See "Stabilizing Transformers for Reinforcement Learning" by Parisotto et
    al. 2019 (https://arxiv.org/abs/1910.06764), section 3.2. A gate joins the
    residual stream `x` and the output `y` of a submodule. A subclass says how,
    in `call`; this class itself cannot be called.

    Args:
        gate_bias: float, value at which the trained bias starts. Above 0 the
            gate starts near the identity, `z = x`. None for a gate without.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            projections sparse-ready `PowerpropDense` layers. None for plain
            ones.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if `gate_bias` or `alpha` is out of range, or if `x` and
            `y` differ in shape.

    Example:

    >>> from keras_sparse_rl.layers import Gate, GRUGate
    >>> issubclass(GRUGate, Gate)
    True
    """

    def __init__(self, gate_bias=None, alpha=None, **kwargs):
        super().__init__(**kwargs)
        self.gate_bias = gate_bias
        self.alpha = None if alpha is None else check_alpha(alpha)
        self.bias = None

    def build(self, x_shape, y_shape):
        if not fits(x_shape, y_shape) or x_shape[-1] is None:
            raise ValueError(
                f"Gate '{self.name}' joins two tensors of one shape. "
                f"Received: x of shape {tuple(x_shape)}, y of shape "
                f"{tuple(y_shape)}."
            )
        dim = x_shape[-1]
        if self.gate_bias is not None:
            self.bias = self.add_weight(
                name="bias",
                shape=(dim,),
                initializer=keras.initializers.Constant(self.gate_bias),
            )
        self.build_projections(dim)

    def build_projections(self, dim):
        """Creates the gate's matrices; overridden by each gate."""
        self._projection = self.projection(dim, dim, "projection")

    def projection(self, input_dim, units, name):
        """A built matrix `(input_dim, units)` without bias."""
        layer = projection(self, units, name, self.alpha)
        layer.build((None, input_dim))
        return layer

    def compute_output_shape(self, x_shape, y_shape):
        return x_shape

    def compute_mask(self, x, previous_mask):
        return previous_mask

    def get_config(self):
        config = super().get_config()
        config.update({"alpha": self.alpha})
        if self.gate_bias is not None:
            config["gate_bias"] = self.gate_bias
        return config
