import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_share
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])


class GoToTarget(InGraphEnvironment):
    """Four rooms, and one of several targets to go to.

    After the tasks of "Information asymmetry in KL-regularized RL" by Galashov
    et al. 2019 (https://arxiv.org/abs/1905.01240), as a small grid: a default
    policy that does not see the target can only learn how one moves through
    rooms. Actions: up, right, down, left; a wall stops a move, `slip` makes it
    a random one. Each episode starts in a random cell with a random target;
    reaching it pays 1 and ends the episode, which is cut off (not terminated)
    after `time_limit` steps. Some cells are kept as targets of a new task:
    `held_out=True` plays those.

    The observation is a dict, so that policies can see parts of it:
    `"position"` (number of the cell), `"walls"` (which of the four
    neighbours are walls), `"target"` (number of the cell) and
    `"previous_action"` (one-hot, 0 at first).

    The best return is 1; acting at random gives about 0.35 with the defaults.

    Args:
        size: odd int, cells a side, at least 5.
        num_targets: int.
        num_held_out: int, further targets, played with `held_out=True`.
        held_out: bool, which of the two are played.
        slip: float in [0, 1).
        time_limit: int.
        layout_seed: int, which cells are targets.
        batch_size: int, copies of the environment.
        seed: int, of episodes.

    Attributes:
        place: int array `(cells, 2)`, row and column of each cell.
        next_cell: int array `(cells, 4)`, where a move leads.
        walls: float array `(cells, 4)`, which moves a wall stops.
        targets: int array, the cells that are played as targets.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import GoToTarget
    >>> environment = GoToTarget(size=7, batch_size=2)
    >>> sorted(environment.reset().observation)
    ['position', 'previous_action', 'target', 'walls']
    """

    def __init__(
        self,
        size=11,
        num_targets=8,
        num_held_out=4,
        held_out=False,
        slip=0.0,
        time_limit=200,
        layout_seed=0,
        batch_size=1,
        seed=0,
    ):
        if check_integer("size", size, minimum=5) % 2 == 0:
            raise ValueError(
                "`size` must be odd, so that a wall stands in the middle. "
                f"Received: size={size}."
            )
        check_integer("num_targets", num_targets)
        check_integer("num_held_out", num_held_out, minimum=0)
        check_flag("held_out", held_out)
        self._slip = check_share("slip", slip)
        self._time_limit = check_integer("time_limit", time_limit)
        check_integer("layout_seed", layout_seed, minimum=0)
        self._is_free = _rooms(size)
        self.place = np.argwhere(self._is_free)
        cells = len(self.place)
        if num_targets + num_held_out > cells or (
            held_out and not num_held_out
        ):
            raise ValueError(
                f"`num_targets` and `num_held_out` must fit in {cells} cells, "
                "and those that are played must be one at least. Received: "
                f"num_targets={num_targets}, num_held_out={num_held_out}, "
                f"held_out={held_out}."
            )
        self.next_cell = _next_cell(self._is_free, self.place)
        here = np.arange(cells)[:, np.newaxis]
        self.walls = (self.next_cell == here).astype(np.float32)
        order = np.random.default_rng(layout_seed).permutation(cells)
        end = num_targets + num_held_out
        chosen = slice(num_targets, end) if held_out else slice(num_targets)
        self.targets = order[chosen].astype(np.int32)
        cell = BoundedTensorSpec((), tf.int32, 0, cells - 1)
        flags = BoundedTensorSpec((4,), tf.float32, 0, 1)
        super().__init__(
            {
                "position": cell,
                "walls": flags,
                "target": cell,
                "previous_action": flags,
            },
            BoundedTensorSpec((), tf.int32, 0, 3, "action"),
            batch_size,
            seed,
        )

    def _start(self, seed):
        uniform = tf.random.stateless_uniform((2, self.batch_size), seed)
        number = tf.cast(uniform[0] * len(self.targets), tf.int32)
        target = tf.gather(self.targets, number)
        # Any cell but the target: those from it on move up by one.
        cell = tf.cast(uniform[1] * (len(self.place) - 1), tf.int32)
        cell += tf.cast(cell >= target, tf.int32)
        return {
            "cell": cell,
            "target": target,
            "previous": tf.fill((self.batch_size,), -1),
            "time": tf.zeros((self.batch_size,), tf.int32),
        }

    def _advance(self, state, action, seed):
        action = tf.cast(action, tf.int32)
        uniform = tf.random.stateless_uniform((2, self.batch_size), seed)
        random_move = tf.cast(4 * uniform[1], tf.int32)
        move = tf.where(uniform[0] < self._slip, random_move, action)
        cell = tf.gather_nd(
            tf.constant(self.next_cell, tf.int32),
            tf.stack([state["cell"], move], axis=-1),
        )
        reached = tf.equal(cell, state["target"])
        time = state["time"] + 1
        state = {**state, "cell": cell, "previous": action, "time": time}
        reward = tf.cast(reached, tf.float32)
        return state, reward, reached, ~reached & (time >= self._time_limit)

    def _observe(self, state):
        return {
            "position": state["cell"],
            "walls": tf.gather(self.walls, state["cell"]),
            "target": state["target"],
            "previous_action": tf.one_hot(state["previous"], 4),
        }

    def _render(self, state):
        cells = np.tile(self._is_free.astype(int), (self.batch_size, 1, 1))
        rows = np.arange(self.batch_size)
        for key, colour in (("target", 3), ("cell", 2)):
            place = self.place[state[key].numpy()]
            cells[rows, place[:, 0], place[:, 1]] = colour
        return blocks(cells)


def _rooms(size):
    """Which cells of the square are free: a cross of walls with four doors."""
    middle = size // 2
    free = np.ones((size, size), bool)
    free[middle], free[:, middle] = False, False
    for door in (middle // 2, size - 1 - middle // 2):
        free[middle, door] = free[door, middle] = True
    return free


def _next_cell(free, place):
    number = np.full(free.shape, -1)
    number[free] = np.arange(len(place))
    moved = place[:, np.newaxis] + MOVES
    inside = ((moved >= 0) & (moved < len(free))).all(-1)
    moved = moved.clip(0, len(free) - 1)
    target = number[moved[..., 0], moved[..., 1]]
    here = np.arange(len(place))[:, np.newaxis]
    return np.where(inside & (target >= 0), target, here)
