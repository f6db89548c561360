import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_share
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
FLOOR, WALL, GOAL, PIT = range(4)


class RandomGridWorld(InGraphEnvironment):
    """Random mazes with good and bad ends, as small MDPs that can be solved.

    After "Distilling Policy Distillation" by Czarnecki et al. 2019
    (https://arxiv.org/abs/1902.02186), appendix 1: random walls, start in the
    centre, four moves, a random move instead of the chosen one with
    probability `slip`, an end out of nowhere with probability
    `end_probability` at each step, and terminal cells that pay 1 or cost 1.
    How many walls and terminal cells the paper used is not known to us.
    Further actions repeat the four moves (action `a` moves as `a % 4`).

    The best return lies between 0 and 1 and differs from world to world;
    `grid_world_values` computes it from the tables below. Acting at random
    gives about 0 on average over worlds.

    Args:
        size: int, cells a side, at least 3.
        walls: float in [0, 1), share of cells that are walls.
        num_goals: int, terminal cells with reward 1; one at least can be
            reached.
        num_pits: int, terminal cells with reward -1.
        slip: float in [0, 1).
        end_probability: float in [0, 1).
        num_actions: int, at least 4.
        view: int or None. None: the observation is the number of the cell,
            counted over all worlds (`world * size**2 + cell`), for tables.
            Odd int: the square of so many cells a side around the agent,
            `(view, view, 3)` of walls, goals and pits.
        num_worlds: int, number of worlds; copy `i` plays world
            `i % num_worlds`.
        batch_size: int, copies of the environment.
        seed: int, of worlds and episodes.

    Attributes:
        next_cell: int array `(num_worlds, cells, 4)`, where a move leads.
        cell_reward: float array `(num_worlds, cells)`, reward on entering.
        is_terminal: bool array `(num_worlds, cells)`.
        start_cell: int, where episodes start.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import RandomGridWorld
    >>> environment = RandomGridWorld(size=7, batch_size=2, view=3)
    >>> environment.reset().observation.shape
    TensorShape([2, 3, 3, 3])
    """

    def __init__(
        self,
        size=20,
        walls=0.2,
        num_goals=3,
        num_pits=3,
        slip=0.1,
        end_probability=0.01,
        num_actions=4,
        view=None,
        num_worlds=1,
        batch_size=1,
        seed=0,
    ):
        self._size = check_integer("size", size, minimum=3)
        self.slip = check_share("slip", slip)
        self.end_probability = check_share("end_probability", end_probability)
        check_integer("num_actions", num_actions, minimum=4)
        check_integer("num_goals", num_goals)
        check_integer("num_pits", num_pits, minimum=0)
        check_integer("num_worlds", num_worlds)
        check_share("walls", walls)
        if view is not None and check_integer("view", view) % 2 == 0:
            raise ValueError(
                "`view` must be odd, so that the agent is in the middle, or "
                f"None. Received: view={view}."
            )
        if check_integer("batch_size", batch_size) < num_worlds:
            raise ValueError(
                "`batch_size` must be at least `num_worlds`, or some worlds "
                f"are never played. Received: batch_size={batch_size}, "
                f"num_worlds={num_worlds}."
            )
        self._view = view
        free = size**2 - int(walls * size**2) - 1
        if num_goals + num_pits > free // 2:
            raise ValueError(
                "`num_goals` and `num_pits` must fill at most half of the "
                f"{free} free cells. Received: num_goals={num_goals}, "
                f"num_pits={num_pits}."
            )
        generator = np.random.default_rng(seed)
        self._cells = np.stack(
            [
                _world(generator, size, walls, num_goals, num_pits)
                for _ in range(num_worlds)
            ]
        )
        self.start_cell = (size // 2) * size + size // 2
        self.next_cell = np.stack([_next_cell(c) for c in self._cells])
        flat = self._cells.reshape(num_worlds, -1)
        self.cell_reward = np.select(
            [flat == GOAL, flat == PIT], [1.0, -1.0], 0.0
        ).astype(np.float32)
        self.is_terminal = (flat == GOAL) | (flat == PIT)
        if view is None:
            observation = BoundedTensorSpec(
                (), tf.int32, 0, num_worlds * size**2 - 1
            )
        else:
            observation = BoundedTensorSpec((view, view, 3), tf.float32, 0, 1)
        self._world = np.arange(batch_size, dtype=np.int32) % num_worlds
        super().__init__(
            observation,
            BoundedTensorSpec((), tf.int32, 0, num_actions - 1, "action"),
            batch_size,
            seed,
        )

    def _start(self, seed):
        return {"cell": tf.fill((self.batch_size,), self.start_cell)}

    def _advance(self, state, action, seed):
        uniform = tf.random.stateless_uniform((3, self.batch_size), seed)
        slipped = uniform[0] < self.slip
        random_move = tf.cast(4 * uniform[1], tf.int32)
        move = tf.where(slipped, random_move, tf.cast(action, tf.int32) % 4)
        cell = self._look_up(self.next_cell, state["cell"], move)
        reward = self._look_up(self.cell_reward, cell)
        ended = self._look_up(self.is_terminal, cell)
        ended |= uniform[2] < self.end_probability
        return {"cell": cell}, reward, ended, tf.zeros_like(ended)

    def _look_up(self, table, *indices):
        indices = tf.stack([self._world, *indices], axis=-1)
        return tf.gather_nd(tf.constant(table), indices)

    def _observe(self, state):
        if self._view is None:
            return state["cell"] + self._world * self._size**2
        return self._look_up(self._views(), state["cell"])

    def _views(self):
        """What is seen from each cell: `(worlds, cells, view, view, 3)`."""
        around = self._view // 2
        padded = np.pad(
            self._cells,
            ((0, 0), (around, around), (around, around)),
            constant_values=WALL,
        )
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, (self._view, self._view), axis=(1, 2)
        )
        kinds = np.arange(WALL, PIT + 1)
        seen = (windows[..., np.newaxis] == kinds).astype(np.float32)
        return seen.reshape(len(self._cells), -1, self._view, self._view, 3)

    def _render(self, state):
        painted = np.array([1, 0, 3, 4])[self._cells[self._world]]
        flat = painted.reshape(self.batch_size, -1)
        flat[np.arange(self.batch_size), state["cell"].numpy()] = 2
        return blocks(flat.reshape(painted.shape))


def _world(generator, size, walls, num_goals, num_pits):
    """Draws cells `(size, size)` until a goal can be reached."""
    centre = (size // 2) * size + size // 2
    while True:
        order = generator.permutation(size**2)
        order = order[order != centre]
        cells = np.full(size**2, FLOOR)
        cells[order[: int(walls * size**2)]] = WALL
        order = order[int(walls * size**2) :]
        cells[order[:num_goals]] = GOAL
        cells[order[num_goals : num_goals + num_pits]] = PIT
        cells = cells.reshape(size, size)
        if _reaches_goal(cells, centre):
            return cells


def _next_cell(cells):
    """Where each of four moves leads: `(cells, 4)`; walls stop it."""
    size = len(cells)
    place = np.stack(np.divmod(np.arange(size**2), size), axis=-1)
    moved = place[:, np.newaxis] + MOVES
    inside = ((moved >= 0) & (moved < size)).all(-1)
    moved = moved.clip(0, size - 1)
    free = inside & (cells[moved[..., 0], moved[..., 1]] != WALL)
    target = moved[..., 0] * size + moved[..., 1]
    here = np.arange(size**2)[:, np.newaxis]
    return np.where(free, target, here).astype(np.int32)


def _reaches_goal(cells, start):
    flat, next_cell = cells.ravel(), _next_cell(cells)
    seen, edge = {start}, [start]
    while edge:
        cell = edge.pop()
        if flat[cell] == GOAL:
            return True
        if flat[cell] == FLOOR:
            new = set(next_cell[cell].tolist()) - seen
            seen |= new
            edge.extend(new)
    return False
