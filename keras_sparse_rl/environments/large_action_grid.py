import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks

MOVES = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)], np.int32)


class LargeActionGrid(InGraphEnvironment):
    """A grid with 756 actions, of which 9 simple ones suffice.

    A small stand-in for the action-space curriculum of "Mix & Match" by
    Czarnecki et al. 2018 (https://arxiv.org/abs/1806.01780), which goes from 9
    to 756 actions of a first-person task. Each of nine moves (to the eight
    neighbours, or none) comes in 84 ways: action `a` is move `a % 9`, done in
    way `a // 9`. Way 0 is plain, and so are most good ones; the next
    `num_fast` ways go twice as far; the last `num_faulty` fail half the time
    and cost `fault_cost`.

    An episode starts anywhere and ends at the goal in the corner, with reward
    1; every other step costs `step_cost`. With size 9 the best return is 0.909
    with the nine core actions and 0.960 with all of them, on average over
    starts.

    Args:
        size: int, cells a side, at least 2.
        num_ways: int, ways of doing each move.
        num_fast: int.
        num_faulty: int.
        step_cost: float.
        fault_cost: float.
        time_limit: int, steps after which an episode is cut off.
        batch_size: int, copies of the environment.
        seed: int.

    Attributes:
        core_actions: int array `(9,)`, the actions that are done plainly.
        best_return: float, of all actions, on average over starts.
        best_core_return: float, of the core actions.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import LargeActionGrid
    >>> environment = LargeActionGrid(batch_size=2)
    >>> int(environment.action_spec().maximum) + 1
    756
    >>> environment.core_actions
    array([0, 1, 2, 3, 4, 5, 6, 7, 8], dtype=int32)
    """

    def __init__(
        self,
        size=9,
        num_ways=84,
        num_fast=3,
        num_faulty=64,
        step_cost=0.02,
        fault_cost=0.02,
        time_limit=50,
        batch_size=1,
        seed=0,
    ):
        self._size = check_integer("size", size, minimum=2)
        self._num_ways = check_integer("num_ways", num_ways)
        self._num_fast = check_integer("num_fast", num_fast, minimum=0)
        self._num_faulty = check_integer("num_faulty", num_faulty, minimum=0)
        self._step_cost = check_non_negative("step_cost", step_cost)
        self._fault_cost = check_non_negative("fault_cost", fault_cost)
        self._time_limit = check_integer("time_limit", time_limit)
        if num_fast + num_faulty >= num_ways:
            raise ValueError(
                "`num_fast` and `num_faulty` must leave one of `num_ways`, "
                f"the plain one. Received: num_fast={num_fast}, "
                f"num_faulty={num_faulty}, num_ways={num_ways}."
            )
        self.core_actions = np.arange(9, dtype=np.int32)
        # As far as the larger of two coordinates: steps are king's moves.
        cells = np.arange(1, size**2)
        steps = np.maximum(*np.divmod(cells, size))
        fast = -(-steps // 2) if num_fast else steps
        self.best_core_return = 1 - self._step_cost * (steps - 1).mean()
        self.best_return = 1 - self._step_cost * (fast - 1).mean()
        super().__init__(
            BoundedTensorSpec((), tf.int32, 0, size**2 - 1),
            BoundedTensorSpec((), tf.int32, 0, 9 * num_ways - 1, "action"),
            batch_size,
            seed,
        )

    def expected_return(self, probabilities):
        """Mean return of a policy, computed and not sampled.

        Args:
            probabilities: array `(cells, actions)`, for each cell.

        Returns:
            Float, of an episode, on average over starts.
        """
        cells = np.arange(self._size**2)
        by_way = np.reshape(probabilities, (-1, self._num_ways, 9))
        fast = by_way[:, 1 : 1 + self._num_fast].sum(1)
        faulty = by_way[:, self._num_ways - self._num_faulty :].sum(1)
        plain = by_way.sum(1) - fast - faulty / 2
        place = np.stack(np.divmod(cells, self._size), -1)[:, np.newaxis]
        once = np.clip(place + MOVES, 0, self._size - 1)
        twice = np.clip(once + MOVES, 0, self._size - 1)
        twice = np.where((once == 0).all(-1, keepdims=True), once, twice)
        leads = np.zeros((len(cells), len(cells)))
        for target, share in ((once, plain), (twice, fast)):
            target = target @ [self._size, 1]
            np.add.at(leads, (cells[:, np.newaxis], target), share)
        leads[cells, cells] += faulty.sum(1) / 2
        reward = leads[:, 0] - self._step_cost * (1 - leads[:, 0])
        reward -= self._fault_cost * faulty.sum(1)
        value = np.zeros(len(cells))
        for _ in range(self._time_limit):
            value = reward + leads[:, 1:] @ value[1:]
        return value[1:].mean()

    def _start(self, seed):
        # The goal is cell 0, in the corner.
        return {
            "cell": tf.random.stateless_uniform(
                (self.batch_size,), seed, 1, self._size**2, tf.int32
            ),
            "time": tf.zeros((self.batch_size,), tf.int32),
        }

    def _advance(self, state, action, seed):
        action = tf.cast(action, tf.int32)
        move, way = tf.gather(MOVES, action % 9), action // 9
        is_fast = (way >= 1) & (way <= self._num_fast)
        is_faulty = way >= self._num_ways - self._num_faulty
        fails = tf.random.stateless_uniform((self.batch_size,), seed) < 0.5
        distance = tf.where(is_fast, 2, tf.where(is_faulty & fails, 0, 1))
        place = tf.stack(
            [state["cell"] // self._size, state["cell"] % self._size], axis=-1
        )
        # Walls stop each coordinate by itself, the goal stops everything.
        ended = tf.zeros((self.batch_size,), tf.bool)
        for reach in (1, 2):
            goes_on = (distance >= reach) & ~ended
            moved = tf.clip_by_value(place + move, 0, self._size - 1)
            place = tf.where(goes_on[:, tf.newaxis], moved, place)
            ended |= tf.reduce_all(place == 0, axis=-1)
        cost = tf.where(ended, 0.0, self._step_cost)
        cost += tf.where(is_faulty, self._fault_cost, 0.0)
        time = state["time"] + 1
        return (
            {"cell": place[:, 0] * self._size + place[:, 1], "time": time},
            tf.cast(ended, tf.float32) - cost,
            ended,
            time >= self._time_limit,
        )

    def _observe(self, state):
        return state["cell"]

    def _render(self, state):
        cells = np.ones((self.batch_size, self._size**2), int)
        cells[:, 0] = 3
        cells[np.arange(self.batch_size), state["cell"].numpy()] = 2
        return blocks(cells.reshape(-1, self._size, self._size))
