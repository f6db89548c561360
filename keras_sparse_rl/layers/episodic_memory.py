import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.key_distance import distance
from keras_sparse_rl.layers.key_distance import nearness
from keras_sparse_rl.layers.neighbours import Neighbours


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class EpisodicMemory(keras.layers.Layer):
    """A differentiable neural dictionary: what was met under a similar key.

    See "Neural Episodic Control" by Pritzel et al. 2017
    (https://arxiv.org/abs/1703.01988), section 3, and "Been There, Done That"
    by Ritter et al. 2018 (https://arxiv.org/abs/1805.09692), whose memory
    recalls the one nearest neighbour. The layer has no weights. Its content
    is a state that goes in and comes out, one dictionary a row of the batch;
    the zeros of `initial_state` are an empty one. In a loop of a `tf.function`
    it is written in place.

    With several neighbours the values are averaged with weights
    1 / (distance + delta), which has a gradient to queries, keys and values.
    The distance is the squared Euclidean one, or 1 - cosine.

    Args:
        capacity: int, number of entries.
        key_dim: int, width of keys.
        value_dim: int, width of values.
        num_neighbours: int, how many entries a query recalls.
        metric: str, `"euclidean"` or `"cosine"`.
        replacement: str, which entry makes room when all are taken:
            `"oldest"`, longest since written, or `"least_recently_used"`,
            longest since written or recalled.
        delta: float above 0, softens the weights near distance 0.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        queries: tensor `(batch, key_dim)`, or `(batch, n, key_dim)` for
            several queries to each dictionary.
        state: dict from `initial_state`, `write`, `clear` or an earlier call:
            `keys` `(batch, capacity, key_dim)`, `values` `(batch, capacity,
            value_dim)`, `squares` `(batch, capacity)`, the keys' squared
            lengths, int32 `stamp` `(batch, capacity)`, when an entry was last
            written or used (0: empty), and int32 `clock` `(batch,)`.

    Returns:
        Tuple of what is recalled, `(batch, value_dim)` or `(batch, n,
        value_dim)`, zeros from an empty memory, and the new state.

    Raises:
        ValueError: if an argument is out of range, if the memory is smaller
            than the number of neighbours, or if keys, values or state have
            another width.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import EpisodicMemory
    >>> memory = EpisodicMemory(capacity=10, key_dim=2, value_dim=1)
    >>> state = memory.initial_state(batch_size=1)
    >>> state = memory.write(state, keys=[[1.0, 0.0]], values=[[5.0]])
    >>> state = memory.write(state, keys=[[0.0, 1.0]], values=[[7.0]])
    >>> recalled, state = memory(keras.ops.array([[0.1, 0.8]]), state)
    >>> recalled.numpy()
    array([[7.]], dtype=float32)
    """

    def __init__(
        self,
        capacity,
        key_dim,
        value_dim,
        num_neighbours=1,
        metric="euclidean",
        replacement="oldest",
        delta=1e-3,
        **kwargs,
    ):
        # The keys' lengths stay precise in mixed precision.
        super().__init__(autocast=False, **kwargs)
        self.capacity = check_integer("capacity", capacity)
        self.key_dim = check_integer("key_dim", key_dim)
        self.value_dim = check_integer("value_dim", value_dim)
        self.num_neighbours = check_integer("num_neighbours", num_neighbours)
        if self.num_neighbours > self.capacity:
            raise ValueError(
                "`capacity` must be at least `num_neighbours`, or a query "
                f"could never find as many. Received: capacity={capacity!r}, "
                f"num_neighbours={num_neighbours!r}."
            )
        self.metric = check_choice("metric", metric, ("euclidean", "cosine"))
        self.replacement = check_choice(
            "replacement", replacement, ("oldest", "least_recently_used")
        )
        self.delta = check_positive("delta", delta)
        self.built = True

    def initial_state(self, batch_size):
        """Empty dictionaries.

        Args:
            batch_size: int or scalar tensor.

        Returns:
            Dict of zeros: `keys`, `values`, `squares`, `stamp` and `clock`.
        """
        slots = (batch_size, self.capacity)
        return {
            "keys": ops.zeros((*slots, self.key_dim), self.compute_dtype),
            "values": ops.zeros((*slots, self.value_dim), self.compute_dtype),
            "squares": ops.zeros(slots, self._distance_dtype),
            "stamp": ops.zeros(slots, "int32"),
            "clock": ops.zeros((batch_size,), "int32"),
        }

    def call(self, queries, state):
        neighbours = self.find(queries, state)
        return self.average(queries, neighbours), self.touch(state, neighbours)

    def find(self, queries, state):
        """The nearest entries, without marking them as used.

        Of entries at the same distance the one in the first slot comes first.

        Args:
            queries: tensor `(batch, key_dim)` or `(batch, n, key_dim)`.
            state: dict.

        Returns:
            `Neighbours`.
        """
        self._check_state(state)
        queries = ops.convert_to_tensor(queries, self.compute_dtype)
        self._check("queries", queries, self.key_dim, (2, 3))
        one = len(queries.shape) == 2
        scores = nearness(
            self._precise(ops.expand_dims(queries, 1) if one else queries),
            self._precise(state["keys"]),
            state["squares"],
            state["stamp"] > 0,
            self.metric,
        )
        slots = ops.top_k(scores, self.num_neighbours)[1]
        slots = ops.cast(slots[:, 0] if one else slots, "int32")
        found = self._at(state["stamp"], slots) > 0
        keys, values = (
            self._at(ops.convert_to_tensor(state[name]), slots)
            for name in ("keys", "values")
        )
        return Neighbours(keys, values, slots, found)

    def average(self, queries, neighbours):
        """What the neighbours of queries say together.

        Args:
            queries: tensor `(batch, ..., key_dim)`.
            neighbours: `Neighbours` of them.

        Returns:
            Tensor `(batch, ..., value_dim)`.
        """
        found = ops.cast(neighbours.found, self.compute_dtype)
        if self.num_neighbours == 1:
            weights = found
        else:
            far = distance(
                self._precise(queries),
                self._precise(neighbours.keys),
                self.metric,
            )
            weights = ops.cast(found, far.dtype) / (far + self.delta)
            total = ops.sum(weights, axis=-1, keepdims=True)
            weights /= ops.where(total > 0, total, 1)
            weights = ops.cast(weights, self.compute_dtype)
        return ops.sum(weights[..., None] * neighbours.values, axis=-2)

    def touch(self, state, neighbours):
        """Marks entries as used, where replacement goes by use.

        Args:
            state: dict.
            neighbours: `Neighbours` found in it.

        Returns:
            New state.
        """
        if self.replacement == "oldest":
            return state
        batch = ops.shape(state["stamp"])[0]
        slots = ops.reshape(neighbours.slots, (batch, -1))
        found = ops.reshape(neighbours.found, (batch, -1))
        clock = state["clock"] + ops.cast(ops.any(found, axis=-1), "int32")
        # What was not found keeps its stamp.
        now = ops.where(found, clock[:, None], self._at(state["stamp"], slots))
        rows = ops.broadcast_to(ops.arange(batch)[:, None], ops.shape(slots))
        index = ops.reshape(ops.stack([rows, slots], -1), (-1, 2))
        stamp = ops.scatter_update(
            state["stamp"], index, ops.reshape(now, (-1,))
        )
        return {**state, "stamp": stamp, "clock": clock}

    def write(self, state, keys, values, where=None):
        """Adds an entry to each dictionary; an equal key is overwritten.

        Args:
            state: dict.
            keys: tensor `(batch, key_dim)`.
            values: tensor `(batch, value_dim)`.
            where: bool tensor `(batch,)`, optional: which dictionaries are
                written to.

        Returns:
            New state.
        """
        self._check_state(state)
        keys = ops.convert_to_tensor(keys, self.compute_dtype)
        values = ops.convert_to_tensor(values, self.compute_dtype)
        self._check("keys", keys, self.key_dim, (2,))
        self._check("values", values, self.value_dim, (2,))
        stamp, clock = state["stamp"], state["clock"]
        if where is None:
            where = ops.ones_like(clock, "bool")
        where = ops.cast(where, "bool")
        equal = ops.all(ops.equal(state["keys"], keys[:, None]), axis=-1)
        equal = ops.logical_and(equal, stamp > 0)
        slot = ops.where(
            ops.any(equal, axis=-1),
            ops.argmax(ops.cast(equal, "int32"), axis=-1),
            ops.argmin(stamp, axis=-1),
        )
        slot = ops.cast(slot, "int32")
        index = ops.stack([ops.arange(ops.shape(slot)[0]), slot], axis=-1)

        def update(tensor, new, condition):
            # A row that is not written to gets back what it had.
            old = self._at(tensor, slot[:, None])[:, 0]
            new = ops.where(condition, new, old)
            return ops.scatter_update(tensor, index, new)

        clock = clock + ops.cast(where, "int32")
        squares = ops.sum(ops.square(self._precise(keys)), axis=-1)
        return {
            "keys": update(state["keys"], keys, where[:, None]),
            "values": update(state["values"], values, where[:, None]),
            "squares": update(state["squares"], squares, where),
            "stamp": update(stamp, clock, where),
            "clock": clock,
        }

    def clear(self, state, where=None):
        """Empties dictionaries.

        Args:
            state: dict.
            where: bool tensor `(batch,)`, optional: which ones.

        Returns:
            New state. What the emptied slots held is out of reach, and stays
            in `keys` and `values` until it is written over.
        """
        self._check_state(state)
        if where is None:
            where = ops.ones_like(state["clock"], "bool")
        keep = 1 - ops.cast(where, "int32")
        stamp = state["stamp"] * keep[:, None]
        return {**state, "stamp": stamp, "clock": state["clock"] * keep}

    @property
    def _distance_dtype(self):
        return "float64" if self.compute_dtype == "float64" else "float32"

    def _precise(self, x):
        return ops.cast(x, self._distance_dtype)

    def _at(self, tensor, slots):
        """The entries `(batch, ..., dim)` of a tensor at these slots."""
        batch, shape = ops.shape(tensor)[0], tuple(tensor.shape)[2:]
        first = ops.arange(batch) * self.capacity
        first = ops.reshape(first, (-1, *[1] * (len(slots.shape) - 1)))
        flat = ops.reshape(tensor, (-1, *shape))
        return ops.take(flat, first + slots, axis=0)

    def _check(self, name, tensor, width, ranks):
        shape = tuple(tensor.shape)
        if len(shape) not in ranks or not fits(shape[-1:], (width,)):
            expected = " or ".join(
                f"(batch, {'n, ' * (rank == 3)}{width})" for rank in ranks
            )
            raise ValueError(
                f"`{name}` must have the shape {expected}: the memory was "
                f"made with key_dim={self.key_dim} and value_dim="
                f"{self.value_dim}. Received: {name} of shape {shape}."
            )

    def _check_state(self, state):
        expected = {
            "keys": (None, self.capacity, self.key_dim),
            "values": (None, self.capacity, self.value_dim),
            "squares": (None, self.capacity),
            "stamp": (None, self.capacity),
            "clock": (None,),
        }
        shapes = None
        if isinstance(state, dict):
            shapes = {name: tuple(x.shape) for name, x in state.items()}
        if (
            shapes is None
            or set(shapes) != set(expected)
            or not all(fits(shapes[name], expected[name]) for name in expected)
        ):
            raise ValueError(
                "`state` must be the dict that memory.initial_state("
                f"batch_size) or memory.write(...) returns, of shapes "
                f"{expected}. Received: {shapes or state!r}."
            )

    def compute_output_spec(self, queries, state):
        shape = (*queries.shape[:-1], self.value_dim)
        new = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, x.dtype), state
        )
        return keras.KerasTensor(shape, self.compute_dtype), new

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "capacity": self.capacity,
                "key_dim": self.key_dim,
                "value_dim": self.value_dim,
                "num_neighbours": self.num_neighbours,
                "metric": self.metric,
                "replacement": self.replacement,
                "delta": self.delta,
            }
        )
        return config
