import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl.layers.cell_state import leaves_of
from keras_sparse_rl.layers.cell_state import packed
from keras_sparse_rl.layers.cell_state import where
from keras_sparse_rl.layers.intervals import over_steps


class FastCore:
    """A core of `PPRCore` that runs between ticks: a cell, and how it starts.

    No layer of its own: `PPRCore` owns cell and map.

    Args:
        name: str, put before the names of its states.
        cell: Keras cell.
        start: what it goes on from at a tick: `"zeros"`, `"slow"` (the slow
            core's states; if their widths differ, a learned linear map of its
            output) or `"keep"` (what it has; zeros where an episode begins).
        slow_sizes: list of int, widths of the slow core's states; None if no
            cell can start from them.
        dtype: `keras.DTypePolicy`, or its name.

    Attributes:
        sizes: list of int, widths of its states.
        start_map: `keras.layers.Dense`, that map, or None.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers.fast_core import FastCore
    >>> core = FastCore("reaction", keras.layers.LSTMCell(3), "slow", [5])
    >>> core.state_specs()
    {'reaction_0': ((3,), 'float32'), 'reaction_1': ((3,), 'float32')}
    >>> core.start_map.units
    6
    """

    def __init__(self, name, cell, start, slow_sizes, dtype="float32"):
        self.name = name
        self.cell = cell
        self.start = start
        self.sizes = leaves_of(cell.state_size)
        self.units = getattr(cell, "output_size", self.sizes[0])
        self.start_map = None
        if start == "slow" and slow_sizes != self.sizes:
            self.start_map = keras.layers.Dense(
                sum(self.sizes), dtype=dtype, name=f"{name}_start"
            )
        self.dtype = keras.dtype_policies.get(dtype).compute_dtype

    def state_specs(self):
        """Shape without batch, and dtype, of each part of the state."""
        return {
            f"{self.name}_{k}": ((size,), self.dtype)
            for k, size in enumerate(self.sizes)
        }

    def starts(self, output, leaves):
        """The states to start from where the slow core ticks.

        Args:
            output: tensor `(batch, dim)`, the slow core's output.
            leaves: list of tensors `(batch, ...)`, the slow core's states.

        Returns:
            List of tensors `(batch, size)`; None unless it starts from them.
        """
        if self.start != "slow":
            return None
        if self.start_map is None:
            return leaves
        values = self.start_map(output)
        ends = [sum(self.sizes[:k]) for k in range(1, len(self.sizes))]
        return ops.split(values, ends, axis=-1) if ends else [values]

    def run(self, x, state, starts, tick, first, counted, training):
        """Runs over the steps of a segment.

        Args:
            x: tensor `(time, batch, dim)`, what it sees.
            state: dict of its states `(batch, size)`, and of others.
            starts: list of tensors `(time, batch, size)`, as `starts` gives
                them; only read at ticks.
            tick: boolean tensor `(time, batch)`: here an interval begins.
            first: boolean tensor `(time, batch)`: here an episode begins.
            counted: boolean tensor `(time, batch)`, false at padded steps,
                which leave the state as it is; or None.
            training: bool.

        Returns:
            Tuple of the outputs `(time, batch, units)` and a dict of its
            states after the segment.
        """
        names, number = list(self.state_specs()), len(self.sizes)
        leaves = [ops.cast(state[name], self.dtype) for name in names]
        xs = [x, first if self.start == "keep" else tick]
        if starts is not None:
            xs += starts
        if counted is not None:
            xs.append(counted)

        def step(carry, xs):
            x, begins, *xs = xs
            for k in range(number):
                fresh = ops.zeros_like(carry[k]) if starts is None else xs[k]
                carry[k] = where(begins, fresh, carry[k])
            output, new = self.cell(
                x, packed(self.cell, carry[:number]), training=training
            )
            new = [*keras.tree.flatten(new), output]
            if counted is not None:
                new = [where(xs[-1], a, b) for a, b in zip(new, carry)]
            return new, [new[-1]]

        output = ops.zeros_like(leaves[0][:, :1]) * ops.zeros(
            (1, self.units), self.dtype
        )
        carry, (outputs,) = over_steps(
            step, [*leaves, output], xs, [(leaves[0].shape[0], self.units)]
        )
        return outputs, dict(zip(names, carry))

    def after_tick(self, x, starts, count, limit, training):
        """Its states some steps after a tick, if it sees the same at each.

        Args:
            x: tensor `(batch, dim)`, what it sees.
            starts: list of tensors `(batch, size)`, what it started from at
                the tick; None for zeros.
            count: int32 tensor `(batch,)`, how many steps.
            limit: int, the largest `count` there can be.
            training: bool.

        Returns:
            Dict of tensors `(batch, size)`.
        """
        leaves = starts
        if starts is None:
            leaves = [
                ops.zeros((ops.shape(count)[0], size), self.dtype)
                for size in self.sizes
            ]

        # Variables are read outside of the loop: a loop that holds any is run
        # even where nobody wants its result, as in acting.
        variables = self.cell.variables
        values = [(v, tf.convert_to_tensor(v.value)) for v in variables]

        def step(k, *leaves):
            with keras.StatelessScope(values):
                _, new = self.cell(
                    x, packed(self.cell, list(leaves)), training=training
                )
            new = keras.tree.flatten(new)
            new = [where(k < count, a, b) for a, b in zip(new, leaves)]
            return k + 1, *new

        _, *leaves = ops.while_loop(
            lambda k, *_: k < ops.max(count),
            step,
            (0, *leaves),
            maximum_iterations=limit,
        )
        return dict(zip(self.state_specs(), leaves))
