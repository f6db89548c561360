import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks

FORWARD, LEFT, RIGHT = range(3)


class TMaze(InGraphEnvironment):
    """A sign at the start, a corridor, and a junction where it matters.

    See "Reinforcement Learning with Long Short-Term Memory" by Bakker 2001.
    Actions: 0 forward, 1 left, 2 right. Only forward moves along the
    corridor; any other action there, and forward at the junction, costs
    `penalty`. At the junction left or right ends the episode: reward 1 on the
    side that the sign showed, -1 on the other. Episodes are cut off (not
    terminated) after `10 * (length + 1)` steps.

    The observation has four numbers: sign left, sign right (both at the first
    step alone), corridor, junction. The best return is 1. Without memory it
    is 0; acting at random it is -(2 * length + 0.5) * penalty, on average.

    Args:
        length: int, steps from the sign to the junction.
        batch_size: int, copies of the environment.
        seed: int.
        penalty: float, cost of an action that leads nowhere.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import TMaze
    >>> environment = TMaze(length=10, batch_size=4)
    >>> environment.reset().observation.shape
    TensorShape([4, 4])
    """

    def __init__(self, length=10, batch_size=1, seed=0, penalty=0.1):
        self.length = check_integer("length", length)
        self._penalty = check_non_negative("penalty", penalty)
        self._time_limit = 10 * (self.length + 1)
        super().__init__(
            BoundedTensorSpec((4,), tf.float32, 0, 1, "observation"),
            BoundedTensorSpec((), tf.int32, 0, 2, "action"),
            batch_size,
            seed,
        )

    def _start(self, seed):
        zeros = tf.zeros((self.batch_size,), tf.int32)
        sign = tf.random.stateless_uniform(
            (self.batch_size,), seed, 0, 2, tf.int32
        )
        return {"sign": sign, "position": zeros, "time": zeros}

    def _advance(self, state, action, seed):
        action = tf.cast(action, tf.int32)
        position, time = state["position"], state["time"] + 1
        at_junction = tf.equal(position, self.length)
        forward = tf.equal(action, FORWARD)
        chosen = at_junction & ~forward
        right_side = tf.equal(action - LEFT, state["sign"])
        wasted = tf.equal(at_junction, forward)
        reward = tf.where(
            chosen,
            tf.where(right_side, 1.0, -1.0),
            tf.where(wasted, -self._penalty, 0.0),
        )
        moved = tf.minimum(position + tf.cast(forward, tf.int32), self.length)
        state = {"sign": state["sign"], "position": moved, "time": time}
        return state, reward, chosen, time >= self._time_limit

    def _observe(self, state):
        sign, position = state["sign"], state["position"]
        at_start = tf.equal(state["time"], 0)
        at_junction = tf.equal(position, self.length)
        return tf.cast(
            tf.stack(
                [
                    at_start & tf.equal(sign, 0),
                    at_start & tf.equal(sign, 1),
                    ~at_junction,
                    at_junction,
                ],
                axis=-1,
            ),
            tf.float32,
        )

    def _render(self, state):
        cells = np.zeros((self.batch_size, 3, self.length + 1), int)
        cells[:, 1, :] = 1
        cells[:, :, -1] = 1
        rows = np.arange(self.batch_size)
        cells[rows, 2 * state["sign"].numpy(), -1] = 3
        cells[rows, 1, state["position"].numpy()] = 2
        return blocks(cells)
