import math

import keras
import numpy as np
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_share
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.attention_window import episode_mask
from keras_sparse_rl.layers.attention_window import episode_numbers
from keras_sparse_rl.layers.attention_window import sinusoids
from keras_sparse_rl.layers.attention_window import skew
from keras_sparse_rl.layers.attention_window import window_mask
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.projection import projection


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class RelativeMultiHeadAttention(HoldsProjections):
    """Causal attention over a memory and a segment, by relative distance.

    See "Transformer-XL" by Dai et al. 2019
    (https://arxiv.org/abs/1901.02860), section 3.3: the score of a query `i`
    and a key `j` is `(q_i + u) k_j + (q_i + v) W_R R_{i-j}`, divided by the
    root of `head_dim`, where `R` is a sinusoid of the distance. No gradient
    reaches the memory.

    A single step after a memory projects the query instead of the keys,
    `(W_k' q) x_j` instead of `q (W_k x_j)`: the same numbers, and nothing of
    the memory has to be projected or cached.

    Args:
        num_heads: int, number of heads.
        head_dim: int, width of each head. `num_heads * head_dim` is even.
        window: int, optional, how many steps a query sees behind itself, in
            memory and segment together. None for all.
        dropout: float in [0, 1), share of attention weights dropped.
        use_bias: bool, whether the output gets a bias. Biases of queries,
            keys, distances and values would add nothing: they act as `u` and
            `v`, not at all, not at all, and as the bias of the output.
        alpha: float, at least 1, the exponent of Powerpropagation: makes all
            projections sparse-ready `PowerpropDense` layers. None for plain.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, features)`, the segment.
        memory: tensor `(batch, slots, features)` of earlier inputs, oldest
            first, optional.
        attention_mask: boolean tensor `(batch or 1, time, slots + time)`,
            optional: the keys that each query may attend to, besides being
            causal and in the window.
        query: tensor `(batch, time, features)`, optional, if the queries are
            not computed from `inputs`.
        mask: boolean tensor `(batch, time)`, optional: false for padded steps
            of the segment, which others do not attend to. They do count as
            distance; `GTrXL` leaves them out altogether.
        inputs_mask: the name under which Keras hands on that mask when there
            are several tensors.
        training: bool, optional.

    Returns:
        Tensor `(batch, time, features)`.

    Raises:
        ValueError: if an argument is out of range, or if `memory` or
            `attention_mask` does not fit `inputs`.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import RelativeMultiHeadAttention
    >>> layer = RelativeMultiHeadAttention(num_heads=2, head_dim=4, window=6)
    >>> segment, memory = keras.ops.ones((1, 5, 8)), keras.ops.ones((1, 6, 8))
    >>> layer(segment, memory=memory).shape
    TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        num_heads,
        head_dim,
        window=None,
        dropout=0.0,
        use_bias=True,
        alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = check_integer("num_heads", num_heads)
        self.head_dim = check_integer("head_dim", head_dim)
        if num_heads * head_dim % 2:
            raise ValueError(
                "`num_heads * head_dim` must be even, for pairs of a sine and "
                f"a cosine. Received: num_heads={num_heads}, "
                f"head_dim={head_dim}."
            )
        self.window = (
            None if window is None else check_integer("window", window)
        )
        self.dropout = check_share("dropout", dropout)
        self.use_bias = check_flag("use_bias", use_bias)
        self.alpha = None if alpha is None else check_alpha(alpha)
        self.supports_masking = True

    def build(self, inputs_shape):
        features = inputs_shape[-1]
        width = self.num_heads * self.head_dim
        inner = (None, None, width)
        self._query = self._projection("query", width, inputs_shape)
        self._key = self._projection("key", width, inputs_shape)
        self._value = self._projection("value", width, inputs_shape)
        self._distance = self._projection("distance", width, (None, width))
        self._output = self._projection("output", features, inner)
        shape = (self.num_heads, self.head_dim)
        # Biases of each head, and no matrices of a product.
        zeros = {"shape": shape, "initializer": "zeros"}
        self.u = self.add_weight(name="u_bias", **zeros)
        self.v = self.add_weight(name="v_bias", **zeros)
        self._dropout = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy
        )

    def _projection(self, name, units, input_shape):
        use_bias = self.use_bias and name == "output"
        layer = projection(self, units, name, self.alpha, use_bias)
        layer.build(input_shape)
        return layer

    def call(
        self,
        inputs,
        memory=None,
        attention_mask=None,
        query=None,
        mask=None,
        inputs_mask=None,
        training=False,
    ):
        num_memory = 0 if memory is None else self._check_memory(inputs, memory)
        self._check(inputs, num_memory, attention_mask, query)
        visible = inputs_mask if mask is None else mask
        if self.window is not None and num_memory > self.window:
            surplus, num_memory = num_memory - self.window, self.window
            memory = memory[:, surplus:]
            if attention_mask is not None:
                attention_mask = attention_mask[:, :, surplus:]
        num_steps = ops.shape(inputs)[1]
        mask = window_mask(num_memory, num_steps, self.window)[None]
        if attention_mask is not None:
            mask = mask & ops.cast(attention_mask, "bool")
        if visible is not None:
            numbers = episode_numbers(num_steps, num_memory)
            mask = mask & episode_mask(*numbers, ops.cast(visible, "bool"))
        if memory is not None:
            memory = ops.stop_gradient(ops.cast(memory, inputs.dtype))
        queries = self._heads(self._query(inputs if query is None else query))
        # The scale is put on the queries, which are fewer than the scores.
        scale = 1 / math.sqrt(self.head_dim)
        content = (queries + ops.cast(self.u, queries.dtype)) * scale
        position = (queries + ops.cast(self.v, queries.dtype)) * scale
        if inputs.shape[1] == 1 and memory is not None:
            attend = self._attend_from_one_step
        else:
            attend = self._attend
        outputs = attend(content, position, memory, inputs, mask, training)
        return self._output(outputs)

    def _attend(self, content, position, memory, inputs, mask, training):
        num_memory = 0 if memory is None else memory.shape[1]
        num_steps = ops.shape(inputs)[1]
        reach = num_memory + num_steps - 1
        if num_memory == self.window:
            reach = self.window
        elif self.window is not None:
            lowest = min if isinstance(reach, int) else ops.minimum
            reach = lowest(reach, self.window)
        distances = self._heads(self._distance(self._codes(reach))[None])[0]
        by_distance = ops.einsum("bihd,shd->bhis", position, distances)
        keys = self._heads(self._projected(self._key, memory, inputs))
        scores = ops.einsum("bihd,bjhd->bhij", content, keys)
        scores = scores + skew(by_distance, num_memory, num_steps)
        weights = self._weights(scores, mask, training)
        values = self._heads(self._projected(self._value, memory, inputs))
        outputs = ops.einsum("bhij,bjhd->bihd", weights, values)
        width = self.num_heads * self.head_dim
        return ops.reshape(outputs, (-1, num_steps, width))

    def _projected(self, layer, memory, inputs):
        if memory is None:
            return layer(inputs)
        # Apart, so that no gradient is computed for the memory.
        return ops.concatenate([layer(memory), layer(inputs)], axis=1)

    def _attend_from_one_step(
        self, content, position, memory, inputs, mask, training
    ):
        keys = ops.concatenate([memory, inputs], axis=1)
        # (batch, heads, features): what each head looks for in a raw key.
        content = self._before(self._key, content)
        position = self._before(self._distance, position)
        codes = self._codes(memory.shape[1])
        scores = ops.einsum("bhf,bjf->bhj", content, keys)
        scores = scores + ops.einsum("bhf,jf->bhj", position, codes)
        weights = self._weights(scores, mask, training)
        seen = ops.einsum("bhj,bjf->bhf", weights, keys)
        outputs = ops.einsum("bhf,fw->bhw", seen, self._kernel(self._value))
        return ops.sum(outputs * self._own_columns(), axis=1, keepdims=True)

    def _before(self, layer, queries):
        """Queries `(batch, 1, heads, dim)` seen from before a projection."""
        width = self.num_heads * self.head_dim
        # One product for all heads, each in its own columns, costs less than
        # one for each head, for which the kernel would be cut up every step.
        queries = ops.reshape(queries, (-1, 1, width)) * self._own_columns()
        return ops.einsum("bhw,fw->bhf", queries, self._kernel(layer))

    def _own_columns(self):
        """Ones `(heads, heads * dim)` in the columns of each head."""
        own = np.repeat(np.eye(self.num_heads), self.head_dim, axis=1)
        return ops.convert_to_tensor(own, self.compute_dtype)

    def _kernel(self, layer):
        return ops.cast(layer.kernel, self.compute_dtype)

    def _codes(self, reach):
        """Sinusoids of the distances `reach, ..., 1, 0`."""
        xp = np if isinstance(reach, int) else ops
        distances = reach - xp.arange(reach + 1)
        width = self.num_heads * self.head_dim
        codes = sinusoids(distances, width, self.compute_dtype)
        return ops.convert_to_tensor(codes)

    def _weights(self, scores, mask, training):
        # Finite, so that a query without any key gives no NaN.
        lowest = -3e4 if scores.dtype == "float16" else -1e9
        if len(scores.shape) == 4:
            mask = mask[:, None]
        weights = ops.softmax(ops.where(mask, scores, lowest), axis=-1)
        return self._dropout(weights, training=training)

    def _heads(self, tensor):
        _, steps, _ = ops.shape(tensor)
        shape = (-1, steps, self.num_heads, self.head_dim)
        return ops.reshape(tensor, shape)

    def _check(self, inputs, num_memory, attention_mask, query):
        batch, time = inputs.shape[:2]
        if query is not None and not fits(query.shape, inputs.shape):
            raise ValueError(
                "`query` must have the shape of `inputs`, "
                f"{tuple(inputs.shape)}. Received: query of shape "
                f"{tuple(query.shape)}."
            )
        if attention_mask is None:
            return
        width = None if time is None else num_memory + time
        shape = attention_mask.shape
        if not (
            fits(shape, (batch, time, width)) or fits(shape, (1, time, width))
        ):
            raise ValueError(
                "`attention_mask` must have the shape (batch or 1, time, "
                f"slots + time) = ({batch}, {time}, {width}). Received: "
                f"attention_mask of shape {tuple(shape)}."
            )

    def _check_memory(self, inputs, memory):
        expected, found = inputs.shape, memory.shape
        wanted = (expected[0], None, expected[2])
        if not fits(found, wanted) or found[1] is None:
            raise ValueError(
                f"`memory` must have the shape (batch, slots, features) = "
                f"({expected[0]}, slots, {expected[2]}) with a known number "
                f"of slots. Received: memory of shape {tuple(found)}."
            )
        return found[1]

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "num_heads": self.num_heads,
                "head_dim": self.head_dim,
                "window": self.window,
                "dropout": self.dropout,
                "use_bias": self.use_bias,
                "alpha": self.alpha,
            }
        )
        return config
