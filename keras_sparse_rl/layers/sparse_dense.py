import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.execution.choice import can_run_sparse
from keras_sparse_rl.execution.choice import is_sparse_faster
from keras_sparse_rl.execution.sparse_matmul import masked_matmul
from keras_sparse_rl.execution.sparse_matmul import sparse_matmul
from keras_sparse_rl.execution.sparse_matmul import transpose
from keras_sparse_rl.execution.sparse_values import SparseValues
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer
from keras_sparse_rl.optimizers.advice import warn_without_powerprop

# Activations that may be applied before the axes are put back in order.
_ELEMENTWISE = frozenset(
    getattr(keras.activations, name)
    for name in (
        "elu exponential gelu hard_sigmoid leaky_relu linear mish relu relu6 "
        "selu sigmoid silu softplus softsign tanh"
    ).split()
)


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class SparseDense(PowerpropLayer, keras.layers.Dense):
    """A dense layer that stores and computes only what its masks keep.

    The trained weight is the vector of the values in the backward set B, so
    that parameters, gradients and optimizer slots shrink with the density;
    the products of the forward and backward pass run over the non-zeros
    ("Top-KAST", Jayakumar et al. 2020, https://arxiv.org/abs/2106.03517,
    section 2). Otherwise it is a `PowerpropDense` layer: `TopKAST`, `RigL`,
    `SET`, `StaticSparsity` and `MagnitudePruning` choose its masks, with an
    optimizer of `optimizers.Powerprop(...)`, as they do for a masked layer.
    `sparsify(model, execution="sparse")` makes such layers, `densify` turns
    them back.

    The products are C++ ops on the CPU, for float32 and bfloat16 (float16 is
    computed as float32), compiled on first use; see `load_sparse_ops`.
    Without a compiler, on a GPU, and for float64 they are masked dense
    products. A model with sparse layers runs without XLA.

    A saved model holds all weights, resting ones too, so that training can go
    on. With `layer.trainable = False` it holds the weights in use alone.

    Args:
        units: int, dimensionality of the output.
        density: float in (0, 1], the share of weights used at first.
        backward_density: float, the share of weights trained, from `density`
            to 1; no mask may ever hold more. By default twice `density`.
        activation, use_bias, kernel_initializer, bias_initializer,
            bias_regularizer, activity_regularizer, bias_constraint: as in
            `keras.layers.Dense`.
        kernel_regularizer: Keras regularizer, applied to the vector of the
            effective weights in use.
        alpha: float, the exponent of Powerpropagation, at least 1.
        execution: `"sparse"`; `"dense"`, masked dense products; or `"auto"`,
            which measures both when the layer is built, for batches of 128,
            and takes the faster.

    Call arguments:
        inputs: tensor `(batch, ..., features)`.
        training: bool, optional.

    Attributes:
        theta: trained variable, the values in B, one after the other.
        kernel: tensor `(features, units)`, effective and masked.
        mask: `uint8` variable, shaped as `theta`; see `sparsity.masks`.

    Returns:
        Tensor `(batch, ..., units)`.

    Raises:
        ValueError: if `units` is not a positive integer, a density is out of
            range, or `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import SparseDense
    >>> layer = SparseDense(100, density=0.05, activation="relu")
    >>> layer(keras.ops.ones((2, 200))).shape
    TensorShape([2, 100])
    >>> layer.theta.shape[0] < 0.11 * 200 * 100
    True
    """

    def __init__(
        self,
        units,
        density=0.1,
        backward_density=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        bias_constraint=None,
        alpha=1.0,
        execution="sparse",
        **kwargs,
    ):
        keras.layers.Dense.__init__(
            self,
            check_integer("units", units),
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.alpha = check_alpha(alpha)
        self.density = check_density("density", density)
        if backward_density is None:
            backward_density = min(1.0, 2 * self.density)
        self.backward_density = check_density(
            "backward_density", backward_density
        )
        if self.backward_density < self.density:
            raise ValueError(
                "`backward_density` must be at least `density`: the weights "
                f"in use are trained. Received: density={density}, "
                f"backward_density={backward_density}."
            )
        self.execution = check_choice(
            "execution", execution, ("sparse", "dense", "auto")
        )
        self.supports_jit = self.execution == "dense"

    def build(self, input_shape):
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.store_values(input_shape[-1])
        self.input_spec = keras.layers.InputSpec(
            min_ndim=2, axes={-1: input_shape[-1]}
        )

    def store_values(self, features):
        """Creates the kernel of values; part of `build`.

        Args:
            features: int, width of the inputs.
        """
        kernel = SparseValues(
            self,
            (features, self.units),
            self.density,
            self.backward_density,
            self.alpha,
            self.kernel_initializer,
            self.kernel_regularizer,
        )
        self._powerprop_kernels = (kernel,)
        self._is_sparse = self.execution == "sparse" or (
            self.execution == "auto"
            and is_sparse_faster(features, self.units, self.density)
        )

    def sparse_arguments(self):
        """What makes it sparse, as in the constructor; a dict."""
        names = ("alpha", "density", "backward_density", "execution")
        return {name: getattr(self, name) for name in names}

    @property
    def kernel(self):
        """The effective, masked kernel as a dense tensor."""
        return self.sparse_kernel.value()

    def call(self, inputs, training=False):
        if training and self.trainable and self.alpha != 1:
            warn_without_powerprop(self)
        kernel = self.sparse_kernel
        features = kernel.shape[0]
        x = inputs
        if len(inputs.shape) > 2:
            x = ops.reshape(inputs, (-1, features))
        if self._is_sparse and can_run_sparse(self.compute_dtype):
            y = self._sparse_call(x, bool(training))
        else:
            y = masked_matmul(
                x,
                kernel.entries(training),
                kernel.tensors(),
                features,
                kernel.observe,
            )
            y = self._finished(y)
        if len(inputs.shape) > 2:
            y = ops.reshape(y, (*ops.shape(inputs)[:-1], self.units))
        return y

    def _sparse_call(self, x, training):
        kernel = self.sparse_kernel
        columns = transpose(x)  # features first, as the products want them
        dtype = columns.dtype
        if dtype == "float16":
            columns = tf.cast(columns, "float32")
        is_fused = self.activation in _ELEMENTWISE
        bias = None
        if is_fused and self.bias is not None:
            bias = tf.cast(self.bias, "float32")
        y = sparse_matmul(
            columns,
            kernel.entries(training),
            kernel.tensors(),
            bias,
            kernel.observe,
        )
        y = tf.cast(y, dtype)
        if is_fused:
            return transpose(self.activation(y))
        return self._finished(transpose(y))

    def _finished(self, y):
        y = y if self.bias is None else ops.add(y, self.bias)
        return self.activation(y)

    def save_own_variables(self, store):
        self.sparse_kernel.save(store, with_resting=self.trainable)
        if self.bias is not None:
            store["bias"] = ops.convert_to_numpy(self.bias)

    def load_own_variables(self, store):
        self.sparse_kernel.load(store)
        if self.bias is not None:
            self.bias.assign(store["bias"])

    def get_config(self):
        config = super().get_config()
        for name in ("kernel_constraint", "quantization_config"):
            config.pop(name, None)
        return {
            **config,
            "density": self.density,
            "backward_density": self.backward_density,
            "execution": self.execution,
        }
