"""Many random grid worlds at once: exact returns, teachers, tabular agents.

All worlds are played by one agent, whose tables have a row for each cell of
each world: worlds share nothing, and one `tf.function` steps them all.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments


def make_worlds(number, size=20, seed=0, **arguments):
    """`number` worlds, each with one copy that plays it."""
    return environments.RandomGridWorld(
        size,
        num_worlds=number,
        batch_size=number,
        seed=seed,
        **arguments,
    )


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def table_model(worlds, num_actions=4):
    """Policy and value as tables over the cells of all worlds."""
    cells = worlds.cell_reward.size
    observation = keras.Input((None,), dtype="int32")
    heads = {
        name: keras.layers.Embedding(cells, units, "zeros", name=name)(
            observation
        )
        for name, units in (("policy", num_actions), ("value", 1))
    }
    inputs = {
        "observation": observation,
        "is_first": keras.Input((None,), dtype="bool"),
        "state": (),
    }
    return keras.Model(inputs, {"outputs": heads, "state": ()})


def table_teacher(worlds, logits, value=None):
    """An `agents.Teacher` from tables `(worlds, cells, ...)`."""
    logits = tf.constant(logits.reshape(-1, logits.shape[-1]), tf.float32)
    if value is not None:
        value = tf.constant(value.reshape(-1), tf.float32)
    return agents.Teacher(
        lambda cell: tf.gather(logits, cell),
        worlds.time_step_spec(),
        worlds.action_spec(),
        value=None if value is None else lambda cell: tf.gather(value, cell),
    )


class ExactReturns(keras.callbacks.Callback):
    """Returns of the agent's policy in all worlds, at given train steps.

    Args:
        worlds: the environment.
        at: set of int, train steps.
    """

    def __init__(self, worlds, at):
        super().__init__()
        self._worlds = worlds
        self._at = at
        self.steps, self.returns = [], []

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 not in self._at:
            return
        logits = np.array(self.model.get_layer("policy").embeddings)
        shape = (*self._worlds.cell_reward.shape, logits.shape[-1])
        policy = softmax(logits.reshape(shape).astype(float))
        moves = policy.reshape(*shape[:2], -1, 4).sum(2)
        value, _ = environments.grid_world_values(self._worlds, moves)
        self.steps.append(batch + 1)
        self.returns.append(value[:, self._worlds.start_cell])


def growing(limit, first=4, growth=1.05):
    """Whole numbers up to `limit`, each at most 5 % above the last."""
    found, step = [], float(first)
    while step <= limit:
        found.append(int(step))
        step = max(step * growth, step + 1)
    return sorted({*found, limit})
