import keras
import numpy as np
from keras import ops

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.layers.gtrxl import GTrXL
from keras_sparse_rl.layers.gtrxl_block import GTrXLBlock
from keras_sparse_rl.layers.projection import projection


class _DIEngineBlock(GTrXLBlock):
    def _query_inputs(self, x):
        # DI-engine normalizes keys and values, but not the queries.
        return x


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class DIEngineGTrXL(GTrXL):
    """A `GTrXL` that computes what DI-engine's one does, with its weights.

    For agents trained with `ding.torch_utils.network.gtrxl.GTrXL`
    (opendilab/DI-engine 0.5.3). It differs from the paper, and from `GTrXL`,
    in three places, all kept here: queries are not normalized, the empty
    slots of a fresh memory are attended to as zeros, and inputs are embedded
    with a ReLU. Biases and scales that change nothing are folded away:
    queries' biases into `u` and `v`, the norm's scale into the kernels of
    keys and values, values' biases into that of the output.

    Its empty slots cannot come back in the middle of a segment: `is_first` is
    refused. Put rows of `initial_state` into the state instead.

    Args:
        num_layers, num_heads, head_dim, feedforward_dim, memory_length: as
            for `GTrXL`.
        rolling_window: bool, as for `GTrXL`; DI-engine's does not roll.
        embed_inputs: bool, whether inputs pass a dense layer with a ReLU.
        **kwargs: further arguments of `GTrXL`.

    Returns:
        As `GTrXL`.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import DIEngineGTrXL
    >>> layer = DIEngineGTrXL(num_layers=1, num_heads=2, head_dim=4,
    ...                       feedforward_dim=8, memory_length=6)
    >>> layer(keras.ops.ones((1, 3, 5))).shape
    TensorShape([1, 3, 8])
    """

    block_class = _DIEngineBlock

    def __init__(
        self,
        num_layers,
        num_heads,
        head_dim,
        feedforward_dim,
        memory_length,
        rolling_window=False,
        embed_inputs=True,
        **kwargs,
    ):
        super().__init__(
            num_layers,
            num_heads,
            head_dim,
            feedforward_dim,
            memory_length,
            rolling_window=rolling_window,
            **kwargs,
        )
        self.embed_inputs = check_flag("embed_inputs", embed_inputs)

    @classmethod
    def from_state_dict(cls, state_dict, memory_length, **kwargs):
        """The layer with the weights of a saved DI-engine network.

        Args:
            state_dict: dict of name to array or CPU tensor, from
                `network.state_dict()`.
            memory_length: int, DI-engine's `memory_len`.
            **kwargs: further arguments, such as `return_state`.

        Returns:
            A built `DIEngineGTrXL`.

        Raises:
            ValueError: for networks that cannot be expressed: other than two
                `mlp` layers, or `head_num * head_dim` unlike the width.
        """
        weights = {k: np.asarray(v) for k, v in state_dict.items()}
        if "u" not in weights or "layers.0.layernorm1.weight" not in weights:
            raise ValueError(
                "`state_dict` must be network.state_dict() of DI-engine's "
                f"GTrXL. Received one with the keys {sorted(weights)[:5]}..."
            )
        num_layers = len({k.split(".")[1] for k in weights if "layers." in k})
        num_heads, head_dim = weights["u"].shape
        width = len(weights["layers.0.layernorm1.weight"])
        depth = {k.split(".")[3] for k in weights if "layers.0.mlp." in k}
        if len(depth) != 2 or num_heads * head_dim != width:
            raise ValueError(
                "`state_dict` must be of a network with mlp_num=2 and with "
                "head_num * head_dim equal to embedding_dim. Received: "
                f"mlp_num={len(depth)}, head_num={num_heads}, "
                f"head_dim={head_dim}, embedding_dim={width}."
            )
        embed_inputs = "embedding.0.weight" in weights
        layer = cls(
            num_layers,
            num_heads,
            head_dim,
            feedforward_dim=width,
            memory_length=memory_length,
            gating="gru" if "layers.0.gate1.bg" in weights else None,
            embed_inputs=embed_inputs,
            **kwargs,
        )
        features = width
        if embed_inputs:
            features = weights["embedding.0.weight"].shape[1]
        layer.build((None, None, features))
        if embed_inputs:
            _assign(layer._input_projection, weights, "embedding.0")
        for number, block in enumerate(layer._blocks):
            _assign_block(block, weights, f"layers.{number}.")
        return layer

    def _make_input_projection(self, features):
        if not self.embed_inputs:
            if features != self.width:
                raise ValueError(
                    "With embed_inputs=False `inputs` must have num_heads * "
                    f"head_dim = {self.width} features. Received: {features}."
                )
            return None
        return projection(
            self,
            self.width,
            "input_projection",
            self.alpha,
            use_bias=True,
            activation="relu",
        )

    def initial_state(self, batch_size):
        state = super().initial_state(batch_size)
        every_slot = ops.full((batch_size,), self.memory_length, "int32")
        return {**state, "length": every_slot}

    def _advance(self, inputs, state, is_first, *arguments):
        if is_first is not None:
            raise ValueError(
                "`is_first` is not supported by DIEngineGTrXL, whose agents "
                "attend to the empty slots of a fresh memory. Received: "
                f"is_first={is_first!r}. Start a new segment, with the rows "
                "of layer.initial_state(...) in the state."
            )
        if state is None:
            state = self.initial_state(ops.shape(inputs)[0])
        return super()._advance(inputs, state, None, *arguments)

    def get_config(self):
        return {**super().get_config(), "embed_inputs": self.embed_inputs}


def _assign(dense, weights, name, bias=None):
    dense.kernel.assign(weights[f"{name}.weight"].T)
    dense.bias.assign(weights[f"{name}.bias"] if bias is None else bias)


def _assign_block(block, weights, prefix):
    weights = {
        k.removeprefix(prefix): v
        for k, v in weights.items()
        if k.startswith(prefix) or k in ("u", "v")
    }
    _assign_attention(block._attention, weights)
    block._feedforward_norm.gamma.assign(weights["layernorm2.weight"])
    block._feedforward_norm.beta.assign(weights["layernorm2.bias"])
    first, last = sorted(
        {k.split(".")[1] for k in weights if k.startswith("mlp.")}, key=int
    )
    _assign(block._widen, weights, f"mlp.{first}.0")
    _assign(block._narrow, weights, f"mlp.{last}.0")
    gates = (block._attention_gate, block._feedforward_gate)
    for name, gate in zip(("gate1", "gate2"), gates):
        if gate is None:
            continue
        matrix = {
            k: weights[f"{name}.{k}.weight"].T
            for k in ("Wr", "Wz", "Wg", "Ur", "Uz", "Ug")
        }
        gate._submodule.kernel.assign(
            np.hstack([matrix["Wr"], matrix["Wz"], matrix["Wg"]])
        )
        gate._stream.kernel.assign(np.hstack([matrix["Ur"], matrix["Uz"]]))
        gate._candidate.kernel.assign(matrix["Ug"])
        gate.bias.assign(weights[f"{name}.bg"])


def _assign_attention(attention, weights):
    def both(name):
        path = f"attention.{name}.0"
        return weights[f"{path}.weight"].T, weights[f"{path}.bias"]

    scale = weights["layernorm1.weight"][:, None]
    offset = weights["layernorm1.bias"]
    key_value, key_value_bias = both("attention_kv")
    key, value = np.split(key_value, 2, axis=1)
    value_bias = np.split(key_value_bias, 2)[1] + offset @ value
    query, query_bias = both("attention_q")
    output, output_bias = both("project")
    distance, _ = both("project_pos")
    attention._query.kernel.assign(query)
    attention._key.kernel.assign(scale * key)
    attention._value.kernel.assign(scale * value)
    attention._distance.kernel.assign(distance)
    attention._output.kernel.assign(output)
    attention._output.bias.assign(output_bias + value_bias @ output)
    for name in ("u", "v"):
        shift = query_bias.reshape(weights[name].shape)
        getattr(attention, name).assign(weights[name] + shift)
