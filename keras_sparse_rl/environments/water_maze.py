import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.barcode_bandit import check_barcodes
from keras_sparse_rl.environments.barcode_bandit import draw_barcodes
from keras_sparse_rl.environments.contextual_task import ContextualTask
from keras_sparse_rl.environments.pictures import blocks

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)], np.int32)


class WaterMaze(ContextualTask):
    """Find a hidden platform; a barcode tells which of those known it is.

    The contextual water maze of "Been There, Done That" by Ritter et al. 2018
    (https://arxiv.org/abs/1805.09692), after Morris 1981, on a grid (the
    sizes are ours). Actions 0 to 3 step up, right, down and left; a wall
    holds. Who reaches the platform gets 1 and is put somewhere else, at
    random, as at the start of an episode. The platform stands still for the
    episode, and whenever the same barcode is met in the task. Observations
    have `"position"`, one-hot `(grid**2,)`, beside the barcode.

    Args:
        grid: int, cells a side, at least 2.
        num_contexts: int, barcodes, each with its own platform, of a task.
        exposures: int, episodes of each barcode.
        steps: int, steps of an episode.
        barcode_length: int, bits of a barcode, at most 16.
        batch_size: int, copies of the environment.
        seed: int.

    Attributes:
        best_return: float, mean return of an episode of a player who knows
            where the platform is, over all platforms.

    Raises:
        ValueError: if an argument is out of its range, or there are fewer
            barcodes of this length than contexts.

    Example:

    >>> from keras_sparse_rl.environments import WaterMaze
    >>> maze = WaterMaze(grid=4, batch_size=3)
    >>> maze.reset().observation["position"].shape
    TensorShape([3, 16])
    """

    def __init__(
        self,
        grid=4,
        num_contexts=8,
        exposures=8,
        steps=20,
        barcode_length=10,
        batch_size=1,
        seed=0,
    ):
        self.grid = check_integer("grid", grid, minimum=2)
        self._length = check_barcodes(
            "barcode_length", barcode_length, num_contexts
        )
        cells = self.grid**2
        self.best_return = _best_return(
            self.grid, check_integer("steps", steps)
        )
        super().__init__(
            BoundedTensorSpec((self._length,), tf.float32, 0, 1, "context"),
            BoundedTensorSpec((), tf.int32, 0, 3, "action"),
            cells,
            num_contexts,
            exposures,
            steps,
            {"position": BoundedTensorSpec((cells,), tf.float32, 0, 1)},
            batch_size,
            seed,
        )

    def _draw_contexts(self, seed):
        return draw_barcodes(self._size, self.num_contexts, self._length, seed)

    def _begin(self, state, seed):
        return {"position": self._elsewhere(self._now(state, "targets"), seed)}

    def _act(self, state, action, target, seed):
        position = state["position"]
        place = tf.stack([position // self.grid, position % self.grid], -1)
        place = place + tf.gather(MOVES, action)
        place = tf.clip_by_value(place, 0, self.grid - 1)
        moved = place[:, 0] * self.grid + place[:, 1]
        found = tf.equal(moved, target)
        position = tf.where(found, self._elsewhere(target, seed), moved)
        return {"position": position}, tf.cast(found, tf.float32)

    def _elsewhere(self, target, seed):
        """Any cell but that of the platform."""
        cells = self.num_targets
        further = tf.random.stateless_uniform(
            (self._size,), seed, 1, cells, tf.int32
        )
        return (target + further) % cells

    def _observe_more(self, state):
        return {"position": tf.one_hot(state["position"], self.num_targets)}

    def _render(self, state):
        cells = np.ones((self._size, self.num_targets), int)
        rows = np.arange(self._size)
        cells[rows, self._now(state, "targets").numpy()] = 3
        cells[rows, state["position"].numpy()] = 2
        return blocks(cells.reshape(-1, self.grid, self.grid))


def _best_return(grid, steps):
    """Mean return of shortest walks to a known platform."""
    cells = np.stack(np.divmod(np.arange(grid**2), grid), -1)
    distance = np.abs(cells[:, None] - cells).sum(-1)
    returns = []
    for row in distance:  # of one platform
        walks = row[row > 0]
        left = np.zeros(steps + 1)  # expected return by steps left
        for time in range(1, steps + 1):
            near = walks[walks <= time]
            left[time] = (1 + left[time - near]).sum() / len(walks)
        returns.append(left[-1])
    return float(np.mean(returns))
