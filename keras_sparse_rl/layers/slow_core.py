"""Memories that only take the steps at which they tick."""

import keras
from keras import ops

from keras_sparse_rl.layers.cell_state import leaves_of
from keras_sparse_rl.layers.cell_state import packed
from keras_sparse_rl.layers.cell_state import where
from keras_sparse_rl.layers.intervals import over_steps


class SlowCell(keras.layers.Layer):
    """A Keras cell that ticks now and then.

    Only ticks are computed: those of every row move to the front, and the
    loop runs as often as the row with most of them ticks.

    Args:
        cell: a Keras cell.
        **kwargs: arguments of `keras.layers.Layer`.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sparse_rl.layers.slow_core import SlowCell
    >>> SlowCell(keras.layers.LSTMCell(3)).leaf_sizes
    [3, 3]
    """

    def __init__(self, cell, **kwargs):
        super().__init__(**kwargs)
        self.cell = cell
        self.leaf_sizes = leaves_of(cell.state_size)
        self.units = getattr(cell, "output_size", self.leaf_sizes[0])

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build((input_shape[0], input_shape[2]))

    def state_specs(self):
        """Shape without batch, and dtype, of each part of the state."""
        return {
            f"slow_{k}": ((size,), self.compute_dtype)
            for k, size in enumerate(self.leaf_sizes)
        }

    def leaves(self, state):
        """The cell's state as a list, out of the dict."""
        return [
            ops.cast(state[name], self.compute_dtype)
            for name in self.state_specs()
        ]

    def at_ticks(self, heard, tick, first, state, starts, training):
        """Advances at ticks.

        Args:
            heard: tensor `(time, batch, dim)`, the input at each tick.
            tick: boolean tensor `(time, batch)`.
            first: boolean tensor `(time, batch)`: ticks from zeros.
            state: dict of `slow_output` and the cell's state.
            starts: function of output and list of states to a dict of lists
                of tensors, computed at ticks.
            training: bool.

        Returns:
            Tuple of the outputs `(time, batch, units)` and the dict of lists
            of `starts` `(time, batch, ...)`, both only right at ticks, and
            the new state.
        """
        output = ops.cast(state["slow_output"], self.compute_dtype)
        carry = [output, *self.leaves(state)]
        # What happens is at the latest known here: a nest without values.
        names = starts(output, carry[1:])
        form = [output, *keras.tree.flatten(names)]

        def advance(carry, xs):
            x, active, first = xs
            before = [where(first, ops.zeros_like(s), s) for s in carry[1:]]
            output, new = self.cell(
                x, packed(self.cell, before), training=training
            )
            new = [output, *keras.tree.flatten(new)]
            found = [output, *keras.tree.flatten(starts(output, new[1:]))]
            return [where(active, a, b) for a, b in zip(new, carry)], found

        if tick.shape[0] == 1:
            xs = [heard[0], tick[0], first[0]]
            carry, found = ops.cond(
                ops.any(tick),
                lambda: advance(carry, xs),
                lambda: (carry, [ops.zeros_like(x) for x in form]),
            )
            found = [x[None] for x in found]
        else:
            carry, found = _compressed(advance, carry, heard, tick, first, form)
        new_state = dict(
            zip(("slow_output", *self.state_specs()), carry, strict=True)
        )
        starts = keras.tree.pack_sequence_as(names, found[1:])
        return found[0], starts, new_state


class SlowLayer(keras.layers.Layer):
    """A memory with explicit state, such as `GTrXL`, that ticks now and then.

    It takes the steps between ticks as padded ones.

    Args:
        layer: layer with `initial_state` and `return_state=True`.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if the layer is no such memory.

    Example:

    >>> from keras_sparse_rl.layers import GTrXL
    >>> from keras_sparse_rl.layers.slow_core import SlowLayer
    >>> memory = GTrXL(1, 2, 4, 8, 3, return_state=True)
    >>> sorted(SlowLayer(memory).state_specs())
    ['slow_length', 'slow_memory']
    """

    # Other cells cannot start from such a state.
    leaf_sizes = None

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        if not hasattr(layer, "initial_state") or not getattr(
            layer, "return_state", False
        ):
            raise ValueError(
                "`slow_cell` must be a Keras cell, or a layer with explicit "
                "state that returns it, such as GTrXL(..., return_state=True)."
                f" Received: slow_cell={layer!r} of type {type(layer)}."
            )
        self.layer = layer

    @property
    def units(self):
        return self.layer.compute_output_spec(
            keras.KerasTensor((1, 1, self._features))
        )[0].shape[-1]

    def build(self, input_shape):
        self._features = input_shape[-1]
        if not self.layer.built:
            self.layer.build(input_shape)
        state = self.layer.initial_state(1)
        nested = [name for name, x in state.items() if isinstance(x, dict)]
        if nested:
            raise ValueError(
                "`slow_cell` must have a state that is a flat dict, as GTrXL "
                f"has. Received: {self.layer!r}, whose state has dicts under "
                f"{nested}. An EpisodicLSTM goes before the PPRCore; by the "
                "core's `inputs` say who sees what it recalls."
            )

    def state_specs(self):
        """Shape without batch, and dtype, of each part of the state."""
        return {
            f"slow_{name}": (
                tuple(x.shape[1:]),
                keras.backend.standardize_dtype(x.dtype),
            )
            for name, x in sorted(self.layer.initial_state(1).items())
        }

    def leaves(self, state):
        """Nothing: no cell can start from it."""
        return []

    def at_ticks(self, heard, tick, first, state, starts, training):
        """See `SlowCell.at_ticks`."""
        before = {
            name.removeprefix("slow_"): state[name]
            for name in self.state_specs()
        }
        output = ops.cast(state["slow_output"], self.compute_dtype)

        def advance():
            outputs, new = self.layer(
                ops.swapaxes(heard, 0, 1),
                state=before,
                is_first=ops.transpose(first),
                mask=ops.transpose(tick),
                training=training,
            )
            return ops.swapaxes(outputs, 0, 1), new

        if tick.shape[0] == 1:
            outputs, new = ops.cond(
                ops.any(tick), advance, lambda: (output[None], before)
            )
        else:
            outputs, new = advance()
        new_state = {f"slow_{name}": x for name, x in new.items()}
        # The last tick's, of those that ticked at all.
        time = ops.shape(tick)[0]
        last = time - 1 - ops.argmax(tick[::-1], axis=0)
        index = ops.cast(last, "int32")[None, :, None]
        latest = ops.take_along_axis(outputs, index, axis=0)[0]
        new_state["slow_output"] = where(ops.any(tick, axis=0), latest, output)
        return outputs, starts(outputs, []), new_state


def slow_core(memory, **kwargs):
    """The `SlowCell` or `SlowLayer` that a memory makes.

    Args:
        memory: Keras cell, recurrent layer, which stands for its cell, or
            layer with explicit state.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        ValueError: if it is none of these.
    """
    if isinstance(memory, keras.layers.RNN):
        memory = memory.cell
    kind = SlowCell if hasattr(memory, "state_size") else SlowLayer
    return kind(memory, **kwargs)


def _compressed(advance, carry, heard, tick, first, form):
    """Runs `advance` over the ticks of each row, one after the other."""
    count = ops.cumsum(ops.cast(tick, "int32"), axis=0)
    time = ops.shape(tick)[0]
    # Ticks first, in their order: steps are whole numbers below `time`.
    index = ops.arange(time)[:, None]
    order = ops.argsort(ops.where(tick, index, index + time), axis=0)
    xs = [
        ops.take_along_axis(heard, order[:, :, None], axis=0),
        index < count[-1:],
        ops.take_along_axis(first, order, axis=0),
    ]
    shapes = [tuple(x.shape) for x in form]
    carry, found = over_steps(advance, carry, xs, shapes, ops.max(count[-1]))
    back = ops.maximum(count - 1, 0)[:, :, None]
    return carry, [ops.take_along_axis(x, back, axis=0) for x in found]
