import numpy as np
from scipy import linalg

from keras_sparse_rl._checks import check_positive
from keras_sparse_rl._checks import check_unit


def grid_world_values(world, policy=None, discount=1.0, tolerance=1e-4):
    """Exact values of all moves in all cells of a `RandomGridWorld`.

    A teacher or a yardstick for returns, by value iteration; or the value of
    a policy that was learned, by linear equations.

    Args:
        world: `environments.RandomGridWorld`.
        policy: array `(num_worlds, cells, 4)`, probabilities of the moves.
            None for the best policy.
        discount: float in [0, 1].
        tolerance: float above 0, largest change at which it ends.

    Returns:
        Tuple of the values of cells, array `(num_worlds, cells)`, and of
        moves, array `(num_worlds, cells, 4)`. Episodes start at
        `world.start_cell`.

    Raises:
        ValueError: if the world ends by no chance and nothing is discounted
            (a policy may then never end), or a number is out of range.

    Example:

    >>> from keras_sparse_rl import environments
    >>> world = environments.RandomGridWorld(size=5)
    >>> value, move_value = environments.grid_world_values(world)
    >>> bool(0 < value[0, world.start_cell] < 1)
    True
    >>> move_value.shape
    (1, 25, 4)
    """
    check_unit("discount", discount)
    check_positive("tolerance", tolerance)
    goes_on = discount * (1 - world.end_probability)
    if goes_on == 1:
        raise ValueError(
            "`discount` must be below 1 in a world with end_probability=0, "
            f"where a policy may walk for ever. Received: discount={discount}."
        )
    if policy is not None:
        values = _values_of(world, policy, goes_on)
        return values, _move_values(world, values, goes_on)
    values = np.zeros(world.cell_reward.shape)
    while True:
        moves = _move_values(world, values, goes_on)
        new = moves.max(-1)
        change = np.abs(new - values).max()
        values = new
        if change < tolerance:
            return values, moves


def _move_values(world, values, goes_on):
    worth = world.cell_reward + goes_on * ~world.is_terminal * values
    index = np.arange(len(values))[:, np.newaxis, np.newaxis]
    moved = worth[index, world.next_cell]
    random_move = moved.mean(-1, keepdims=True)
    return (1 - world.slip) * moved + world.slip * random_move


def _values_of(world, policy, goes_on):
    """Solves the equations of a policy's values, world by world."""
    cells = world.cell_reward.shape[1]
    here = np.arange(cells)[:, np.newaxis]
    # A move leads at most one row away, so the equations are banded.
    width = np.abs(world.next_cell - here).max()
    chosen = (1 - world.slip) * np.asarray(policy) + world.slip / 4
    values = []
    for number, probability in enumerate(chosen):
        there = world.next_cell[number]
        later = goes_on * probability * ~world.is_terminal[number][there]
        bands = np.zeros((2 * width + 1, cells))
        bands[width] = 1
        np.subtract.at(bands, (width + here - there, there), later)
        reward = (probability * world.cell_reward[number][there]).sum(-1)
        values.append(linalg.solve_banded((width, width), bands, reward))
    return np.stack(values)
