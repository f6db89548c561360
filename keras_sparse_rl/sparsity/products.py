"""The products that a layer computes for one example, where it is known."""

import dataclasses
import math

import keras

from keras_sparse_rl.kernels.keras_members import sublayers
from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.matrices import is_matrix
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers import RelativeMultiHeadAttention
from keras_sparse_rl.layers import ResettableRNN
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.sparsity.lora import has_lora
from keras_sparse_rl.sparsity.positions import built_shapes
from keras_sparse_rl.sparsity.positions import keras_kind
from keras_sparse_rl.sparsity.positions import plain_class
from keras_sparse_rl.sparsity.positions import positions
from keras_sparse_rl.sparsity.positions import time_steps

_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_CELLS = (
    keras.layers.LSTMCell,
    keras.layers.GRUCell,
    keras.layers.SimpleRNNCell,
)
_LOOPS = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
# Layers whose weights, of however many axes, are each used by one input.
_ELEMENTWISE = (
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
)
# They use what they hold over a memory, not on the shapes it was built for.
_OVER_A_MEMORY = (EpisodicLSTM, RelativeMultiHeadAttention)


@dataclasses.dataclass(frozen=True)
class Products:
    """The products of one example in a layer.

    Args:
        weights: list of pairs of a variable and how often each of its weights
            is multiplied.
        others: int, products of activations with each other.
    """

    weights: list = dataclasses.field(default_factory=list)
    others: int = 0

    def times(self, number):
        """The same, `number` times."""
        weights = [(v, number * times) for v, times in self.weights]
        return Products(weights, number * self.others)

    def flops(self, size):
        """Two for each product, of it and of its sum.

        Args:
            size: function of a variable to how many of its weights count.
        """
        products = sum(times * size(v) for v, times in self.weights)
        return int(2 * (products + self.others))


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer that has weights, and those that are counted as its own.

    Args:
        layer: Keras layer.
        weights: list of Keras variables, masks among them.
        times: int, how often layers around it apply it for one example; None
            where that is unknown.
    """

    layer: keras.layers.Layer
    weights: list
    times: int

    def products(self):
        """`Products` of one example, or None where they are unknown."""
        found = products(self.layer, self.weights)
        if None in (found, self.times):
            return None
        return found.times(self.times)


def parts(root):
    """The layers with weights that a model is made of, each once.

    Where a layer stands for one of Keras, or reads what layers inside it
    hold, it is one with them; any other layer of layers is taken apart, and
    the weights that it holds itself are a part of their own.

    Args:
        root: Keras model or layer, built.

    Returns:
        List of `Part`, in the model's order.
    """
    found, seen = [], set()

    def visit(layer, times):
        if id(layer) in seen:
            return
        seen.add(id(layer))
        if _is_one(layer):
            seen.update(id(inner) for inner in layers_inside(layer))
            if layer.weights:
                found.append(Part(layer, layer.weights, times))
            return
        own = _own_weights(layer)
        if own:
            found.append(Part(layer, own, times))
        if isinstance(layer, (keras.layers.TimeDistributed, OverTime)):
            steps = time_steps(layer)
            times = None if None in (times, steps) else times * steps
        for inner in sublayers(layer):
            visit(inner, times)

    visit(root, 1)
    return found


def products(layer, weights):
    """The products of a layer with weights, for one example.

    Args:
        layer: Keras layer, built.
        weights: list of variables, those counted as the layer's own.

    Returns:
        `Products`; None where the layer is of a kind that is not known here
        and has a matrix, or where Keras does not know its shapes.
    """
    if has_lora(layer) or getattr(layer, "quantization_mode", None):
        return None  # computed otherwise than the kernel says
    if isinstance(layer, ResettableRNN):
        return _over_time(layer, layer.cell)
    kind = keras_kind(layer)
    matrices = [v for v in weights if kernel_of(v) or is_matrix(v)]
    if plain_class(layer) in _CELLS:
        return Products([(v, 1) for v in matrices])
    if kind in _ATTENTION:
        return _of_attention(layer)
    if kind is keras.layers.RNN or kind in _LOOPS:
        return _over_time(layer, layer.cell)
    if kind is None:
        is_known = not matrices or isinstance(layer, _ELEMENTWISE)
        return Products() if is_known else None
    times = positions(layer)
    if issubclass(kind, keras.layers.RNN):  # of convolutions
        steps = time_steps(layer)
        times = None if None in (times, steps) else times * steps
    return None if times is None else Products([(v, times) for v in matrices])


def _is_one(layer):
    """Whether a layer and those inside it are one part of a model."""
    if isinstance(layer, (keras.layers.RNN, *_OVER_A_MEMORY)):
        return True
    reads = isinstance(layer, PowerpropKernels) and layer.read_layers()
    return bool(reads) or keras_kind(layer) is not None


def _own_weights(layer):
    inside = {id(v) for part in sublayers(layer) for v in part.weights}
    return [v for v in layer.weights if id(v) not in inside]


def _over_time(layer, cell):
    """The products of all that a cell holds, at every step."""
    steps = time_steps(layer)
    found = [part.products() for part in parts(cell)]
    if steps is None or None in found:
        return None
    weights = [pair for each in found for pair in each.weights]
    return Products(weights, sum(each.others for each in found)).times(steps)


def _of_attention(layer):
    """Projections of queries and of keys and values, and what they make."""
    shapes = built_shapes(layer)
    if not {"query_shape", "value_shape"} <= set(shapes):
        return None
    lengths = {
        name: [length or 1 for length in shapes[f"{name}_shape"][1:-1]]
        for name in ("query", "value")
    }
    queries, values = (math.prod(lengths[name]) for name in ("query", "value"))
    weights, matrices = [], {}
    for part in sublayers(layer):
        for variable in part.weights:
            if kernel_of(variable) or is_matrix(variable):
                times = values if part.name in ("key", "value") else queries
                weights.append((variable, times))
                matrices[part.name] = variable
    heads, width = matrices["query"].shape[-2:]
    axes = layer.get_config().get("attention_axes")
    attended = values
    if axes is not None:
        axes = [axes] if isinstance(axes, int) else axes
        attended = math.prod(lengths["value"][axis - 1] for axis in axes)
    width += matrices["value"].shape[-1]
    return Products(weights, queries * attended * heads * width)
