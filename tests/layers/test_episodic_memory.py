"""The dictionary against lists in plain Python, and against brute force."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import EpisodicMemory

CAPACITY, KEY, VALUE, ROWS = 5, 2, 3, 3


class Dictionary:
    """One row of an `EpisodicMemory`, by its rules."""

    def __init__(self, memory):
        self.memory = memory
        self.clear()

    def clear(self):
        self.keys, self.values, self.used, self.now = [], [], [], 0

    def write(self, key, value):
        self.now += 1
        equal = [n for n, k in enumerate(self.keys) if (k == key).all()]
        if equal:
            slot = equal[0]
        elif len(self.keys) < self.memory.capacity:
            slot = len(self.keys)
            self.keys.append(key)
            self.values.append(value)
            self.used.append(0)
        else:
            slot = int(np.argmin(self.used))
        self.keys[slot], self.values[slot] = key, value
        self.used[slot] = self.now

    def distance(self, query, key):
        if self.memory.metric == "euclidean":
            return ((query - key) ** 2).sum()
        lengths = np.linalg.norm(query) * np.linalg.norm(key)
        return 1 - query @ key / lengths

    def recall(self, query):
        distance = np.array([self.distance(query, k) for k in self.keys])
        nearest = np.argsort(distance, kind="stable")
        nearest = nearest[: self.memory.num_neighbours]
        if self.memory.replacement == "least_recently_used":
            self.now += 1
            for slot in nearest:
                self.used[slot] = self.now
        if not nearest.size:
            return np.zeros(self.memory.value_dim)
        weights = 1 / (distance[nearest] + self.memory.delta)
        values = np.array(self.values)[nearest]
        return weights @ values / weights.sum()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("replacement", ["oldest", "least_recently_used"])
@pytest.mark.parametrize("k", [1, 3])
def test_follows_its_rules(metric, replacement, k):
    memory = EpisodicMemory(
        CAPACITY, KEY, VALUE, k, metric, replacement, dtype="float64"
    )
    expected = [Dictionary(memory) for _ in range(ROWS)]
    state, generator = memory.initial_state(ROWS), np.random.default_rng(k)
    overwritten = 0
    write, clear = map(tf.function, (memory.write, memory.clear))
    recall = tf.function(lambda q, s: memory(q, s))
    for _ in range(60):
        # Few different keys, so that some come again, and in directions of
        # their own.
        keys = generator.integers(1, 4, (ROWS, KEY)) + [0.0, 0.37]
        values = generator.normal(size=(ROWS, VALUE))
        where = generator.random(ROWS) < 0.8
        cleared = generator.random(ROWS) < 0.03
        state = write(state, tf.constant(keys), values, tf.constant(where))
        state = clear(state, tf.constant(cleared))
        queries = generator.uniform(0, 4, (ROWS, KEY))
        found, state = recall(tf.constant(queries), state)
        for row, dictionary in enumerate(expected):
            if where[row]:
                overwritten += any(
                    (keys[row] == k).all() for k in dictionary.keys
                )
                dictionary.write(keys[row], values[row])
            if cleared[row]:
                dictionary.clear()
            np.testing.assert_allclose(
                found[row], dictionary.recall(queries[row]), atol=1e-9
            )
    assert overwritten > 20
    assert write.experimental_get_tracing_count() == 1
    assert recall.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("k", [1, 10])
def test_equals_brute_force_in_a_large_memory(k):
    generator = np.random.default_rng(0)
    keys = generator.normal(size=(1, 10_000, 64)).astype("float32")
    values = generator.normal(size=(1, 10_000, 8)).astype("float32")
    queries = generator.normal(size=(1, 32, 64)).astype("float32")
    memory = EpisodicMemory(10_000, 64, 8, num_neighbours=k)
    state = {
        "keys": tf.constant(keys),
        "values": tf.constant(values),
        "squares": tf.reduce_sum(tf.constant(keys) ** 2, -1),
        "stamp": tf.ones((1, 10_000), tf.int32),
        "clock": tf.ones((1,), tf.int32),
    }
    distance = np.zeros((32, 10_000))
    for number, query in enumerate(queries[0].astype(float)):
        distance[number] = ((query - keys[0]) ** 2).sum(-1)
    nearest = np.argsort(distance, axis=-1)[:, :k]
    neighbours = memory.find(queries, state)
    np.testing.assert_array_equal(neighbours.slots[0], nearest)
    assert np.all(neighbours.found)
    weights = 1 / (np.take_along_axis(distance, nearest, -1) + 1e-3)
    weights /= weights.sum(-1, keepdims=True)
    expected = np.einsum("qk,qkv->qv", weights, values[0][nearest])
    np.testing.assert_allclose(
        memory(queries, state)[0][0], expected, atol=1e-5
    )


def test_ten_thousand_writes_in_one_graph():
    memory = EpisodicMemory(100, 2, 1)

    @tf.function
    def write(state, start):
        for i in tf.range(start, start + 500):
            key = tf.cast(tf.stack([[i % 250, i // 250]]), tf.float32)
            state = memory.write(state, key, key[:, 1:])
        return state

    state = memory.initial_state(1)
    for start in range(0, 10_000, 500):
        state = write(state, tf.constant(start))
    assert write.experimental_get_tracing_count() == 1
    assert int(state["clock"][0]) == 10_000
    # A hundred slots hold the last hundred entries.
    np.testing.assert_array_equal(
        np.sort(state["stamp"][0])[[0, -1]], [9901, 10_000]
    )
    np.testing.assert_array_equal(
        np.sort(state["keys"][0, :, 0]), range(150, 250)
    )
    np.testing.assert_array_equal(state["values"][0, :, 0], 39)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_gradients_of_a_recall(metric):
    """Against finite differences along a random direction."""
    generator = np.random.default_rng(1)
    shapes = (3, KEY), (3, VALUE), (1, KEY)
    point, way = (
        [tf.constant(generator.normal(size=s)) for s in shapes]
        for _ in range(2)
    )
    for k in (1, 3):
        memory = EpisodicMemory(
            3, KEY, VALUE, k, metric, delta=0.1, dtype="float64"
        )

        @tf.function
        def recall(keys, values, query, memory=memory):
            state = memory.initial_state(1)
            for row in range(3):
                state = memory.write(
                    state, keys[row : row + 1], values[row : row + 1]
                )
            return tf.reduce_sum(memory(query, state)[0])

        with tf.GradientTape() as tape:
            tape.watch(point)
            found = recall(*point)
        gradients = tape.gradient(found, point)
        for place in range(3):
            sides = [
                recall(
                    *(
                        x + sign * 1e-6 * w * (number == place)
                        for number, (x, w) in enumerate(zip(point, way))
                    )
                )
                for sign in (1.0, -1.0)
            ]
            expected = float(sides[0] - sides[1]) / 2e-6
            gradient = gradients[place]
            slope = 0.0
            if gradient is not None:
                gradient = tf.convert_to_tensor(gradient)
                slope = float(tf.reduce_sum(gradient * way[place]))
            assert slope == pytest.approx(expected, abs=1e-6)
            # One neighbour alone has no gradient to keys and query.
            assert (abs(expected) > 1e-4) == (k > 1 or place == 1)


def test_several_queries_share_a_dictionary():
    memory = EpisodicMemory(4, KEY, VALUE, num_neighbours=2)
    generator = np.random.default_rng(2)
    state = memory.initial_state(ROWS)
    for _ in range(3):
        state = memory.write(
            state,
            generator.normal(size=(ROWS, KEY)),
            generator.normal(size=(ROWS, VALUE)),
        )
    queries = generator.normal(size=(ROWS, 5, KEY)).astype("float32")
    together, _ = memory(queries, state)
    for number in range(5):
        alone, _ = memory(queries[:, number], state)
        np.testing.assert_allclose(together[:, number], alone, atol=1e-6)


def test_state_is_saved_and_restored(tmp_path):
    memory = EpisodicMemory(4, KEY, VALUE)
    state = memory.initial_state(ROWS)
    for value in (1.0, 2.0):
        state = memory.write(
            state, np.full((ROWS, KEY), value), np.full((ROWS, VALUE), value)
        )
    variables = [tf.Variable(x) for x in tf.nest.flatten(state)]
    path = tf.train.Checkpoint(state=variables).save(tmp_path / "state")
    again = [tf.Variable(tf.zeros_like(x)) for x in variables]
    tf.train.Checkpoint(state=again).restore(path)
    restored = tf.nest.pack_sequence_as(state, again)
    restored = tf.nest.map_structure(tf.convert_to_tensor, restored)
    query = np.full((ROWS, KEY), 1.8)
    np.testing.assert_array_equal(memory(query, restored)[0], 2.0)
    # And in a saved functional model, whose inputs are query and state.
    inputs = keras.tree.map_structure(
        lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name), state
    )
    queries = keras.Input((KEY,))
    recalled, new = memory(queries, inputs)
    model = keras.Model([queries, inputs], [recalled, new])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded([tf.constant(query, tf.float32), state])[0], 2.0
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_mixed_precision_and_xla(policy, jit_compile):
    memory = EpisodicMemory(4, KEY, VALUE, num_neighbours=2, dtype=policy)

    @tf.function(jit_compile=jit_compile)
    def run(keys, values):
        state = memory.initial_state(ROWS)
        for number in range(3):
            state = memory.write(state, keys + number, values * number)
        return memory(keys + 1.1, state)

    found, state = run(tf.zeros((ROWS, KEY)), tf.ones((ROWS, VALUE)))
    assert found.dtype == policy.removeprefix("mixed_")
    # Distances 0.02 and 1.62.
    weights = np.array([1 / 0.021, 1 / 1.621])
    expected = weights @ [1.0, 2.0] / weights.sum()
    np.testing.assert_allclose(
        tf.cast(found, tf.float32), np.full((ROWS, VALUE), expected), rtol=0.05
    )


def test_config_round_trip():
    memory = EpisodicMemory(7, 2, 3, 4, "cosine", "least_recently_used", 0.5)
    again = EpisodicMemory.from_config(memory.get_config())
    assert again.get_config() == memory.get_config()
    assert again.num_neighbours == 4 and again.delta == 0.5


def test_bad_arguments():
    with pytest.raises(ValueError, match="`capacity` must be at least"):
        EpisodicMemory(2, KEY, VALUE, num_neighbours=3)
    for name, value in (
        ("capacity", 0),
        ("key_dim", 1.5),
        ("metric", "manhattan"),
        ("replacement", "newest"),
        ("delta", 0.0),
    ):
        arguments = {"capacity": 2, "key_dim": 2, "value_dim": 2, name: value}
        with pytest.raises(ValueError, match=f"`{name}`"):
            EpisodicMemory(**arguments)
    memory = EpisodicMemory(4, KEY, VALUE)
    state = memory.initial_state(1)
    with pytest.raises(ValueError, match="`queries`.*key_dim=2"):
        memory(np.zeros((1, 3)), state)
    with pytest.raises(ValueError, match="`keys`"):
        memory.write(state, np.zeros((1, 3)), np.zeros((1, VALUE)))
    with pytest.raises(ValueError, match="`values`"):
        memory.write(state, np.zeros((1, KEY)), np.zeros((1, KEY)))
    for wrong in (
        None,
        {"keys": np.zeros((1, 4, KEY))},
        EpisodicMemory(5, KEY, VALUE).initial_state(1),
    ):
        with pytest.raises(ValueError, match="`state`"):
            memory.find(np.zeros((1, KEY)), wrong)
