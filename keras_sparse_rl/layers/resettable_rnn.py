import keras
from keras import ops

from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class ResettableRNN(PowerpropKernels, keras.layers.Layer):
    """A recurrent network with explicit state that forgets where told to.

    Any Keras cell as the memory of an agent, with the call arguments of
    `GTrXL`: the state goes in and comes out, and a step with `is_first` starts
    from zeros, also in the middle of a segment.

    Args:
        cell: a Keras cell (`keras.layers.LSTMCell(64)`), or a recurrent layer
            (`keras.layers.LSTM(64)`), whose cell is taken. Its dropout drops
            the same units at all steps of a call, as in Keras.
        return_state: bool, whether the new state is returned too.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            cell's matrices sparse-ready (`sparse_kernels`). None for plain
            ones.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, dim)`.
        state: dict as returned by `initial_state` or an earlier call; None for
            zeros.
        is_first: boolean tensor `(batch, time)`, optional: true where an
            episode starts.
        mask: boolean tensor `(batch, time)`, optional: false at padded steps,
            which leave the state as it is.
        training: bool, optional.

    Returns:
        Tensor `(batch, time, units)`; with `return_state`, a pair of it and
        the state after the last step, a dict of `state_0`, `state_1`, …
        (an LSTM's hidden and cell state), each `(batch, units)`.

    Raises:
        ValueError: if `cell` is no cell, or if the state does not fit it.

    Example:

    >>> import numpy as np, keras
    >>> from keras_sparse_rl.layers import ResettableRNN
    >>> layer = ResettableRNN(keras.layers.LSTMCell(4), return_state=True)
    >>> outputs, state = layer(np.ones((2, 3, 5), "float32"))
    >>> outputs.shape, sorted(state)
    (TensorShape([2, 3, 4]), ['state_0', 'state_1'])
    """

    def __init__(self, cell, return_state=False, alpha=None, **kwargs):
        super().__init__(alpha=alpha, **kwargs)
        if isinstance(cell, keras.layers.RNN):
            cell = cell.cell
        if not hasattr(cell, "state_size") or not isinstance(
            cell, keras.layers.Layer
        ):
            raise ValueError(
                "`cell` must be a Keras cell, such as keras.layers.LSTMCell("
                f"64). Received: cell={cell!r} of type {type(cell)}."
            )
        self.cell = cell
        self.return_state = return_state
        self.supports_masking = True
        self._rnn = keras.layers.RNN(
            _ResetCell(cell), return_sequences=True, return_state=True
        )

    def build(self, input_shape):
        if not self._rnn.built:
            self._rnn.build((*input_shape[:2], input_shape[2] + 1))
        self.adopt_kernels(self.read_layers())

    def read_layers(self):
        return [self.cell]

    def initial_state(self, batch_size):
        """Zeros, as before the first step of an episode.

        Args:
            batch_size: int.

        Returns:
            Dict of `state_0`, `state_1`, … of tensors `(batch, ...)`.
        """
        zeros = self.cell.get_initial_state(batch_size)
        return _as_dict(keras.tree.flatten(zeros))

    def call(self, inputs, state=None, is_first=None, mask=None, training=None):
        if is_first is None:
            flag = ops.zeros_like(inputs[..., :1])
        else:
            flag = ops.cast(ops.expand_dims(is_first, -1), inputs.dtype)
        if state is None:
            state = self.initial_state(ops.shape(inputs)[0])
        state = keras.tree.pack_sequence_as(
            self.cell.state_size, self._as_list(state)
        )
        _reset_dropout(self.cell)
        if training:
            _draw_dropout(self.cell, inputs[:, 0], state)
        inputs = ops.concatenate([inputs, flag], axis=-1)
        with self.effective_kernels(training):
            outputs, states = self._run(inputs, state, mask, training)
        _reset_dropout(self.cell)
        if not self.return_state:
            return outputs
        return outputs, _as_dict(keras.tree.flatten(states))

    def _run(self, inputs, state, mask, training):
        if inputs.shape[1] == 1 and mask is None:  # acting needs no loop
            outputs, states = self._rnn.cell(
                inputs[:, 0], state, training=training
            )
            return ops.expand_dims(outputs, 1), states
        outputs, *states = self._rnn(
            inputs,
            initial_state=state if isinstance(state, list) else [state],
            mask=mask,
            training=training,
        )
        return outputs, states

    def _as_list(self, state):
        leaves = keras.tree.flatten(self.cell.state_size)
        names = list(_as_dict(leaves))
        if not isinstance(state, dict) or sorted(state) != sorted(names):
            found = sorted(state) if isinstance(state, dict) else type(state)
            raise ValueError(
                f"`state` must be a dict of {names}, as `initial_state"
                f"(batch_size)` returns it. Received: {found}."
            )
        return [ops.cast(state[name], self.compute_dtype) for name in names]

    def compute_output_spec(
        self, inputs, state=None, is_first=None, mask=None, training=None
    ):
        batch, time = inputs.shape[:2]
        sizes = keras.tree.flatten(self.cell.state_size)
        units = getattr(self.cell, "output_size", sizes[0])
        outputs = keras.KerasTensor((batch, time, units), self.compute_dtype)
        if not self.return_state:
            return outputs
        return outputs, _as_dict(
            [
                keras.KerasTensor((batch, size), self.compute_dtype)
                for size in sizes
            ]
        )

    def compute_mask(self, inputs, mask=None):
        return (mask, None) if self.return_state else mask

    def get_config(self):
        config = super().get_config()
        config["cell"] = keras.saving.serialize_keras_object(self.cell)
        config["return_state"] = self.return_state
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["cell"] = keras.saving.deserialize_keras_object(config["cell"])
        return cls(**config)


class _ResetCell(keras.layers.Layer):
    """The cell; its last input is 1 where the state is to be forgotten.

    `keras.layers.RNN` feeds a cell one tensor, so the flag travels in it.
    """

    def __init__(self, cell):
        super().__init__(dtype=cell.dtype_policy)
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = getattr(cell, "output_size", None)
        if self.output_size is None:
            self.output_size = keras.tree.flatten(cell.state_size)[0]

    def build(self, input_shape):
        if not self.cell.built:
            self.cell.build((*input_shape[:-1], input_shape[-1] - 1))

    def get_initial_state(self, batch_size=None):
        return self.cell.get_initial_state(batch_size)

    def call(self, inputs, states, training=None):
        keep = 1 - inputs[..., -1:]
        states = keras.tree.map_structure(
            lambda state: state * ops.cast(keep, state.dtype), states
        )
        return self.cell(inputs[..., :-1], states, training=training)


def _draw_dropout(cell, inputs, state):
    """Masks of one call, as `keras.layers.RNN` draws them for its cells.

    Before the loop over time: a mask made inside could not leave it.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        for each, part in zip(cell.cells, state):
            _draw_dropout(each, inputs, part)
            size = getattr(each, "output_size", None)
            if size is None:
                size = keras.tree.flatten(each.state_size)[0]
            # Only its shape and type count.
            inputs = ops.zeros((ops.shape(inputs)[0], size), inputs.dtype)
    elif hasattr(cell, "get_dropout_mask"):
        cell.get_dropout_mask(inputs)
        cell.get_recurrent_dropout_mask(keras.tree.flatten(state)[0])


def _reset_dropout(cell):
    for each in getattr(cell, "cells", [cell]):
        if each is not cell:
            _reset_dropout(each)
        elif hasattr(cell, "reset_dropout_mask"):
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


def _as_dict(leaves):
    return {f"state_{number}": leaf for number, leaf in enumerate(leaves)}
