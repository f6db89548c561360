import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_per_step
from keras_sparse_rl._checks import check_share
from keras_sparse_rl._checks import fits
from keras_sparse_rl.kernels.checkpoints import follow_lists
from keras_sparse_rl.layers.attention_window import EMPTY_SLOT
from keras_sparse_rl.layers.attention_window import episode_mask
from keras_sparse_rl.layers.attention_window import episode_numbers
from keras_sparse_rl.layers.attention_window import next_memory
from keras_sparse_rl.layers.attention_window import valid_steps_first
from keras_sparse_rl.layers.gtrxl_block import GATES
from keras_sparse_rl.layers.gtrxl_block import GTrXLBlock
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.projection import projection


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class GTrXL(HoldsProjections):
    """Gated Transformer-XL: a transformer as the memory of an agent.

    See "Stabilizing Transformers for Reinforcement Learning" by Parisotto et
    al. 2019 (https://arxiv.org/abs/1910.06764), section 3. Each of the layers
    attends to its own inputs of the last `memory_length` steps, across
    segments, through an explicit state: what is computed does not depend on
    how a sequence is cut into segments. One step at a time (`step`) costs
    little and gives the same numbers; nothing is cached that could go stale
    when the weights change.

    The width is `num_heads * head_dim`; inputs of another width are projected
    to it. With `gating=None` this is TrXL-I, with `ordering="post"` besides
    it is TrXL.

    Args:
        num_layers: int, number of layers.
        num_heads: int, number of attention heads.
        head_dim: int, width of each head.
        feedforward_dim: int, width of the feed-forward networks' middle.
        memory_length: int, number of earlier steps that a layer sees.
        gating: str or None, how residual stream and submodules are joined:
            `"gru"` (the paper's best), `"output"`, `"highway"`,
            `"sigmoid_tanh"`, `"input"`, or None for a sum.
        gate_bias: float, where the gates' biases start: above 0 near the
            identity. None for the paper's values, 2 for `"gru"`, 1 for the
            others; `"input"` has none.
        ordering: str, `"identity"` (normalize the inputs of submodules) or
            `"post"` (normalize after each sum, as Transformer-XL does).
        dropout: float in [0, 1), share of attention weights and of the
            submodules' outputs dropped in training.
        rolling_window: bool. True: every step sees the `memory_length` steps
            before it. False, as in Transformer-XL: every step sees the whole
            memory and the segment so far, so results depend on the cutting.
        return_state: bool, whether the new state is returned too.
        alpha: float, at least 1, the exponent of Powerpropagation: makes all
            projections sparse-ready `PowerpropDense` layers, for
            `callbacks.TopKAST` and its kin. None for plain ones.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, features)`.
        state: dict from `initial_state` or from an earlier call, optional:
            `memory`, `(batch, num_layers, memory_length, width)`, and
            `length`, int32 `(batch,)`, how many of its steps are filled.
        is_first: tensor `(batch, time)`, bool or 0 and 1, optional: where an
            episode begins. Nothing before is seen from there on.
        mask: boolean tensor `(batch, time)`, optional: false for padded
            steps, which count for nothing, but for their `is_first`.
        inputs_mask: the name under which Keras hands on that mask when there
            are several tensors.
        training: bool, optional.

    Returns:
        Tensor `(batch, time, width)`; with `return_state=True` a tuple of it
        and the new state.

    Raises:
        ValueError: if an argument is out of range, or if `inputs`, `state` or
            `is_first` do not fit each other.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import GTrXL
    >>> layer = GTrXL(num_layers=2, num_heads=2, head_dim=4,
    ...               feedforward_dim=16, memory_length=6, return_state=True)
    >>> state = layer.initial_state(batch_size=3)
    >>> outputs, state = layer(keras.ops.ones((3, 5, 8)), state=state)
    >>> outputs.shape, state["length"].numpy()
    (TensorShape([3, 5, 8]), array([5, 5, 5], dtype=int32))
    >>> action_features, state = layer.step(keras.ops.ones((3, 8)), state)
    >>> action_features.shape
    TensorShape([3, 8])
    """

    block_class = GTrXLBlock

    def __init__(
        self,
        num_layers,
        num_heads,
        head_dim,
        feedforward_dim,
        memory_length,
        gating="gru",
        gate_bias=None,
        ordering="identity",
        dropout=0.0,
        rolling_window=True,
        return_state=False,
        alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_layers = check_integer("num_layers", num_layers)
        self.num_heads = check_integer("num_heads", num_heads)
        self.head_dim = check_integer("head_dim", head_dim)
        self.feedforward_dim = check_integer("feedforward_dim", feedforward_dim)
        self.memory_length = check_integer("memory_length", memory_length)
        self.gating = check_choice("gating", gating, (*GATES, None))
        self.gate_bias = (
            None if gate_bias is None else check_finite("gate_bias", gate_bias)
        )
        if gate_bias is not None and gating in ("input", None):
            raise ValueError(
                f"`gate_bias` has no meaning with gating={gating!r}, which has "
                f"no bias. Received: gate_bias={gate_bias!r}. Leave it out."
            )
        self.ordering = check_choice("ordering", ordering, ("identity", "post"))
        self.dropout = check_share("dropout", dropout)
        self.rolling_window = check_flag("rolling_window", rolling_window)
        self.return_state = check_flag("return_state", return_state)
        self.alpha = None if alpha is None else check_alpha(alpha)
        self.supports_masking = True
        self._blocks = [
            self._block(f"block_{number}") for number in range(num_layers)
        ]

    @property
    def width(self):
        """int, the width of the stream and of the output."""
        return self.num_heads * self.head_dim

    def _block(self, name):
        return self.block_class(
            self.num_heads,
            self.head_dim,
            self.feedforward_dim,
            self.gating,
            self.gate_bias,
            self.ordering,
            self.memory_length if self.rolling_window else None,
            self.dropout,
            self.alpha,
            dtype=self.dtype_policy,
            name=name,
        )

    def build(self, inputs_shape):
        if len(inputs_shape) != 3 or inputs_shape[-1] is None:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) with a "
                "known number of features. Received: inputs of shape "
                f"{tuple(inputs_shape)}. For one step write layer.step(...)."
            )
        self._features = inputs_shape[-1]
        self._input_projection = self._make_input_projection(inputs_shape[-1])
        if self._input_projection is not None:
            self._input_projection.build(inputs_shape)
        for block in self._blocks:
            block.build((*inputs_shape[:-1], self.width))
        follow_lists(self)

    def _make_input_projection(self, features):
        if features == self.width:
            return None
        return projection(
            self,
            self.width,
            "input_projection",
            self.alpha,
            use_bias=True,
            kernel_initializer="glorot_uniform",
        )

    def initial_state(self, batch_size):
        """The state of agents that have seen nothing yet.

        Args:
            batch_size: int or scalar tensor.

        Returns:
            Dict of `memory`, zeros `(batch, num_layers, memory_length,
            width)`, and `length`, zeros `(batch,)`.
        """
        shape = (batch_size, self.num_layers, self.memory_length, self.width)
        return {
            "memory": ops.zeros(shape, self.compute_dtype),
            "length": ops.zeros((batch_size,), "int32"),
        }

    def call(
        self,
        inputs,
        state=None,
        is_first=None,
        mask=None,
        inputs_mask=None,
        training=False,
    ):
        # Keras calls the mask `inputs_mask` when there are several tensors.
        mask = inputs_mask if mask is None else mask
        outputs, new_state = self._advance(
            inputs, state, is_first, mask, training, self.return_state
        )
        return (outputs, new_state) if self.return_state else outputs

    @tf.autograph.experimental.do_not_convert
    def step(self, inputs, state, is_first=None):
        """One step of acting: what a call on a segment of one step gives.

        Args:
            inputs: tensor `(batch, features)`.
            state: dict from `initial_state` or an earlier call or step.
            is_first: tensor `(batch,)`, optional: true for rows whose episode
                begins with this step.

        Returns:
            Tuple of the output, `(batch, width)`, and the new state.
        """
        if len(inputs.shape) != 2:
            raise ValueError(
                "`inputs` of a step must have the shape (batch, features). "
                f"Received: inputs of shape {tuple(inputs.shape)}. For "
                "segments call the layer."
            )
        if not self.built:
            self.build((inputs.shape[0], None, inputs.shape[-1]))
        if is_first is not None:
            is_first = ops.expand_dims(is_first, 1)
        outputs, new_state = self._advance(
            ops.expand_dims(inputs, 1), state, is_first, None, False, True
        )
        return outputs[:, 0], new_state

    def _advance(self, inputs, state, is_first, mask, training, want_state):
        self._check(inputs, state, is_first, mask)
        slots, steps = episode_numbers(
            ops.shape(inputs)[1],
            0 if state is None else self.memory_length,
            length=None if state is None else state["length"],
            is_first=is_first,
        )
        current, back = steps[:, -1:], None
        if mask is not None:
            # Padded steps go to the end, so that they count for nothing.
            mask = ops.cast(mask, "bool")
            order, back = valid_steps_first(mask)
            mask = ops.take_along_axis(mask, order, axis=1)
            steps = ops.broadcast_to(steps, ops.shape(order))
            steps = ops.take_along_axis(steps, order, axis=1)
            inputs = ops.take_along_axis(inputs, order[:, :, None], axis=1)
        attention_mask = None
        if not (state is None and is_first is None and mask is None):
            attention_mask = episode_mask(slots, steps, mask)
        memory = None if state is None else self._memory(state)
        outputs, hidden = self._through_blocks(
            inputs, memory, attention_mask, training
        )
        if back is not None:
            outputs = ops.take_along_axis(outputs, back[:, :, None], axis=1)
        if not want_state:
            return outputs, None
        if memory is None:
            memory = self.initial_state(ops.shape(outputs)[0])["memory"]
            slots = ops.full((1, self.memory_length), EMPTY_SLOT, "int32")
        memory, length = next_memory(
            memory,
            ops.stop_gradient(ops.stack(hidden, axis=1)),
            slots,
            steps,
            mask,
            current,
        )
        # Known lengths stay known, also where that of time is not.
        shape = (-1, self.num_layers, self.memory_length, self.width)
        return outputs, {
            "memory": ops.reshape(memory, shape),
            "length": length,
        }

    def _through_blocks(self, inputs, memory, attention_mask, training):
        """The last block's output, and what each block wants remembered."""
        x = ops.cast(inputs, self.compute_dtype)
        if self._input_projection is not None:
            x = self._input_projection(x)
        hidden = []
        for number, block in enumerate(self._blocks):
            x, to_remember = block(
                x,
                None if memory is None else memory[:, number],
                attention_mask,
                training=training,
            )
            hidden.append(to_remember)
        return x, hidden

    def _memory(self, state):
        memory = ops.convert_to_tensor(state["memory"], self.compute_dtype)
        return ops.stop_gradient(memory)

    def _check(self, inputs, state, is_first, mask):
        shape = tuple(inputs.shape)
        if not fits(shape, (None, None, self._features)) or shape[1] == 0:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) with "
                f"{self._features} features and at least one step. Received: "
                f"inputs of shape {shape}."
            )
        check_per_step({"is_first": is_first, "mask": mask}, shape[:2])
        if state is None:
            return
        if not isinstance(state, dict) or set(state) != {"memory", "length"}:
            raise ValueError(
                "`state` must be the dict of `memory` and `length` that "
                "layer.initial_state(batch_size) or an earlier call returns. "
                f"Received: state={state!r}."
            )
        batch = shape[0]
        expected = (batch, self.num_layers, self.memory_length, self.width)
        for name, shape in (("memory", expected), ("length", (batch,))):
            if not fits(state[name].shape, shape):
                raise ValueError(
                    f"state['{name}'] must have the shape {shape}, (batch, "
                    "num_layers, memory_length, width) for the memory. "
                    f"Received: shape {tuple(state[name].shape)}. Start with "
                    "layer.initial_state(batch_size)."
                )

    def compute_mask(self, inputs, previous_mask):
        # One for each output in order: the state has none.
        return [previous_mask] if self.return_state else previous_mask

    def compute_output_shape(self, inputs_shape):
        shape = (*inputs_shape[:-1], self.width)
        if not self.return_state:
            return shape
        memory = (self.num_layers, self.memory_length, self.width)
        return shape, {
            "memory": (inputs_shape[0], *memory),
            "length": (inputs_shape[0],),
        }

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "num_layers": self.num_layers,
                "num_heads": self.num_heads,
                "head_dim": self.head_dim,
                "feedforward_dim": self.feedforward_dim,
                "memory_length": self.memory_length,
                "gating": self.gating,
                "gate_bias": self.gate_bias,
                "ordering": self.ordering,
                "dropout": self.dropout,
                "rolling_window": self.rolling_window,
                "return_state": self.return_state,
                "alpha": self.alpha,
            }
        )
        return config
