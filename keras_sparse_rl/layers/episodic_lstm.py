import keras
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_per_step
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.episodic_memory import EpisodicMemory
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.over_steps import over_steps
from keras_sparse_rl.layers.projection import projection


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class EpisodicLSTM(HoldsProjections):
    """An LSTM that gets back the cell state it had in a similar context.

    See "Been There, Done That: Meta-Learning with Episodic Recall" by Ritter
    et al. 2018 (https://arxiv.org/abs/1805.09692), section 3. Every step asks
    an `EpisodicMemory` for the cell state c_ep stored under the present
    context, and a reinstatement gate r lets it in:
    c = i * tanh(...) + f * c_before + r * c_ep. Where the paper says nothing
    that could be read, there is an option, whose default is the paper's as
    far as its re-implementations agree (when to write; raw or squashed).

    There are two kinds of state. Hidden and cell state are forgotten where an
    episode starts (`is_first`). The memory, under `state["episodic"]`, lives
    on through all episodes of a task and is cleared by `is_task_start` alone.
    No gradient flows into or out of what is stored.

    Args:
        units: int, width of hidden and cell state.
        memory: `EpisodicMemory` whose `value_dim` is `units`.
        write: str, when the cell state is stored under the context:
            `"episode_end"`, the last one of an episode (at the `is_first`
            that follows it); `"every_step"`; or `"signal"`, at the steps
            that the call argument `write` names.
        reinstatement: str, what is let in of a stored cell state: `"raw"`,
            c_ep itself, or `"squashed"`, tanh(c_ep).
        reinstatement_bias: float, where the bias of the reinstatement gate
            starts. Far below 0 the layer is an LSTM.
        return_state: bool, whether the new state is returned too.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            kernels sparse-ready. None for plain ones.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, features)`.
        context: tensor `(batch, time, key_dim)`, the keys; None for the
            inputs themselves.
        state: dict as returned by `initial_state` or an earlier call; None for
            zeros and an empty memory.
        is_first: tensor `(batch, time)`, bool or 0 and 1, optional: where an
            episode starts.
        is_task_start: the same, optional: where the memory is cleared.
        write: the same, needed by `write="signal"` and of no meaning to
            others: at which steps the cell state is stored.
        mask: boolean tensor `(batch, time)`, optional: false at padded steps,
            which leave the whole state as it is.
        inputs_mask: the name under which Keras hands on that mask when there
            are several tensors.

    Returns:
        Tensor `(batch, time, units)`; with `return_state`, a pair of it and
        the state after the last step: `hidden` and `cell` `(batch, units)`,
        `key` `(batch, key_dim)`, the last context, `steps`, int32 `(batch,)`,
        steps of the episode so far, and `episodic`, the memory's state.

    Raises:
        ValueError: if an argument is out of range, if the memory's values are
            no cell states, or if contexts, state or signals do not fit.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import EpisodicLSTM, EpisodicMemory
    >>> memory = EpisodicMemory(capacity=10, key_dim=3, value_dim=4)
    >>> layer = EpisodicLSTM(4, memory, write="every_step", return_state=True)
    >>> outputs, state = layer(
    ...     keras.ops.ones((2, 5, 6)), context=keras.ops.ones((2, 5, 3)))
    >>> outputs.shape, state["episodic"]["stamp"][0, :3].numpy()
    (TensorShape([2, 5, 4]), array([5, 0, 0], dtype=int32))
    """

    def __init__(
        self,
        units,
        memory,
        write="episode_end",
        reinstatement="raw",
        reinstatement_bias=0.0,
        return_state=False,
        alpha=None,
        **kwargs,
    ):
        # Lengths of the memory's keys stay precise in mixed precision.
        super().__init__(autocast=False, **kwargs)
        self.units = check_integer("units", units)
        if not isinstance(memory, EpisodicMemory):
            raise ValueError(
                "`memory` must be a keras_sparse_rl.layers.EpisodicMemory. "
                f"Received: memory={memory!r} of type {type(memory)}."
            )
        if memory.value_dim != self.units:
            raise ValueError(
                "`memory` must store cell states: give it value_dim="
                f"{units}, the layer's units. Received: a memory with "
                f"value_dim={memory.value_dim}."
            )
        self.memory = memory
        self.write = check_choice(
            "write", write, ("episode_end", "every_step", "signal")
        )
        self.reinstatement = check_choice(
            "reinstatement", reinstatement, ("raw", "squashed")
        )
        self.reinstatement_bias = check_finite(
            "reinstatement_bias", reinstatement_bias
        )
        self.return_state = check_flag("return_state", return_state)
        self.alpha = None if alpha is None else check_alpha(alpha)
        self.supports_masking = True
        # Gates in the order of Keras' LSTM, and the reinstatement gate last.
        self._kernel = projection(
            self,
            5 * self.units,
            "kernel",
            self.alpha,
            use_bias=True,
            kernel_initializer="glorot_uniform",
            bias_initializer=self._initial_bias,
        )
        self._recurrent_kernel = projection(
            self,
            5 * self.units,
            "recurrent_kernel",
            self.alpha,
            kernel_initializer="orthogonal",
        )

    def _initial_bias(self, shape, dtype=None):
        zeros, ones = ops.zeros((self.units,)), ops.ones((self.units,))
        bias = [zeros, ones, zeros, zeros, self.reinstatement_bias * ones]
        return ops.cast(ops.concatenate(bias), dtype)

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) with a "
                "known number of features. Received: inputs of shape "
                f"{tuple(input_shape)}."
            )
        self._kernel.build(input_shape)
        self._recurrent_kernel.build((input_shape[0], self.units))

    def initial_state(self, batch_size):
        """Of agents that have seen nothing yet, with an empty memory.

        Args:
            batch_size: int or scalar tensor.

        Returns:
            Dict of zeros.
        """
        shape, dtype = (batch_size, self.units), self.compute_dtype
        return {
            "hidden": ops.zeros(shape, dtype),
            "cell": ops.zeros(shape, dtype),
            "key": ops.zeros((batch_size, self.memory.key_dim), dtype),
            "steps": ops.zeros((batch_size,), "int32"),
            "episodic": self.memory.initial_state(batch_size),
        }

    def call(
        self,
        inputs,
        context=None,
        state=None,
        is_first=None,
        is_task_start=None,
        write=None,
        mask=None,
        inputs_mask=None,
    ):
        # Keras calls the mask `inputs_mask` when there are several tensors.
        mask = inputs_mask if mask is None else mask
        context = inputs if context is None else context
        flags = {
            "is_first": is_first,
            "is_task_start": is_task_start,
            "write": write,
            "mask": mask,
        }
        self._check(inputs, context, state, flags)
        empty = self.initial_state(ops.shape(inputs)[0])
        state = keras.tree.map_structure(
            lambda x, like: ops.cast(x, like.dtype),
            empty if state is None else state,
            empty,
        )
        nothing = ops.zeros(ops.shape(inputs)[:2], "bool")
        flags = {
            name: nothing if flag is None else ops.cast(flag, "bool")
            for name, flag in flags.items()
        }
        flags["mask"] = ops.logical_or(flags["mask"], mask is None)
        steps = {
            "gates": self._kernel(inputs),
            "context": ops.cast(context, self.compute_dtype),
            **flags,
        }
        if inputs.shape[1] == 1:
            found, new_state = over_steps(self._step, steps, state)
            outputs = found["hidden"]
        else:
            # What is stored and recalled has no gradient, so it is found
            # first, and nothing of the memory is kept for the backward pass.
            found, new_state = over_steps(
                self._step,
                *keras.tree.map_structure(ops.stop_gradient, (steps, state)),
            )
            outputs, working = over_steps(
                self._step_after_recall,
                {**steps, "neighbours": found["neighbours"]},
                {name: state[name] for name in ("hidden", "cell")},
            )
            new_state = {**new_state, **working}
        return (outputs, new_state) if self.return_state else outputs

    def _step(self, now, state):
        """Stores, clears, recalls and moves on, all of one step."""
        real, is_first = now["mask"], now["is_first"]
        memory = keras.tree.map_structure(ops.stop_gradient, state["episodic"])
        if self.write == "episode_end":
            ended = ops.logical_and(is_first, state["steps"] > 0)
            memory = self.memory.write(
                memory,
                ops.stop_gradient(state["key"]),
                ops.stop_gradient(state["cell"]),
                ops.logical_and(ended, real),
            )
        memory = self.memory.clear(
            memory, ops.logical_and(now["is_task_start"], real)
        )
        neighbours = self.memory.find(now["context"], memory)
        used = ops.logical_and(neighbours.found, real[:, None])
        memory = self.memory.touch(memory, neighbours._replace(found=used))
        hidden, working = self._step_after_recall(
            {**now, "neighbours": neighbours}, state
        )
        if self.write != "episode_end":
            stored = real
            if self.write == "signal":
                stored = ops.logical_and(now["write"], real)
            memory = self.memory.write(
                memory,
                ops.stop_gradient(now["context"]),
                ops.stop_gradient(working["cell"]),
                stored,
            )
        steps = ops.where(is_first, 0, state["steps"]) + 1
        return {"hidden": hidden, "neighbours": neighbours}, {
            **working,
            "key": ops.where(real[:, None], now["context"], state["key"]),
            "steps": ops.where(real, steps, state["steps"]),
            "episodic": memory,
        }

    def _step_after_recall(self, now, state):
        """The LSTM's own step, of which alone there is a gradient."""
        keep = ops.cast(ops.logical_not(now["is_first"]), self.compute_dtype)
        before = {name: state[name] for name in ("hidden", "cell")}
        hidden, cell = (keep[:, None] * x for x in before.values())
        recalled = self.memory.average(now["context"], now["neighbours"])
        if self.reinstatement == "squashed":
            recalled = ops.tanh(recalled)
        gates = now["gates"] + self._recurrent_kernel(hidden)
        i, f, new, o, r = ops.split(gates, 5, axis=-1)
        cell = (
            ops.sigmoid(i) * ops.tanh(new)
            + ops.sigmoid(f) * cell
            + ops.sigmoid(r) * recalled
        )
        after = {"hidden": ops.sigmoid(o) * ops.tanh(cell), "cell": cell}
        real = now["mask"][:, None]
        working = {
            name: ops.where(real, after[name], before[name]) for name in after
        }
        return working["hidden"], working

    def _check(self, inputs, context, state, flags):
        lead = tuple(inputs.shape)[:2]
        wanted = (*lead, self.memory.key_dim)
        if not fits(tuple(context.shape), wanted):
            raise ValueError(
                f"`context` must have the shape {wanted}, (batch, time, "
                "key_dim of the memory); left out, the inputs are the "
                f"context. Received: context of shape {tuple(context.shape)}."
            )
        check_per_step(flags, lead)
        if flags["write"] is None and self.write == "signal":
            raise ValueError(
                "`write` must name the steps to store after, as the layer was "
                'made with write="signal". Received: write=None.'
            )
        names = set(self.initial_state(1)) if state is not None else set()
        if state is not None and set(state) != names:
            raise ValueError(
                f"`state` must be the dict of {sorted(names)} that "
                "layer.initial_state(batch_size) or an earlier call returns. "
                f"Received: {sorted(state)}."
            )

    def compute_output_spec(self, inputs, context=None, **arguments):
        self._check_symbols(inputs, context, **arguments)
        shape = (*inputs.shape[:2], self.units)
        outputs = keras.KerasTensor(shape, self.compute_dtype)
        if not self.return_state:
            return outputs
        return outputs, keras.tree.map_structure(
            lambda x: keras.KerasTensor(
                (inputs.shape[0], *x.shape[1:]),
                keras.backend.standardize_dtype(x.dtype),
            ),
            self.initial_state(1),
        )

    def _check_symbols(
        self,
        inputs,
        context=None,
        state=None,
        is_first=None,
        is_task_start=None,
        write=None,
        **_,
    ):
        flags = {
            "is_first": is_first,
            "is_task_start": is_task_start,
            "write": write,
        }
        context = inputs if context is None else context
        self._check(inputs, context, state, flags)

    def compute_mask(self, inputs, previous_mask):
        if not self.return_state:
            return previous_mask
        # One for each output in order: the state has none.
        return [previous_mask]

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "units": self.units,
                "memory": keras.saving.serialize_keras_object(self.memory),
                "write": self.write,
                "reinstatement": self.reinstatement,
                "reinstatement_bias": self.reinstatement_bias,
                "return_state": self.return_state,
                "alpha": self.alpha,
            }
        )
        return config

    @classmethod
    def from_config(cls, config):
        memory = keras.saving.deserialize_keras_object(config["memory"])
        return cls(**{**config, "memory": memory})
