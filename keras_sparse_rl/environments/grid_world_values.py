import numpy as np

from keras_sparse_rl._checks import check_positive
from keras_sparse_rl._checks import check_unit


def grid_world_values(
    world, policy=None, discount=1.0, values=None, tolerance=1e-4
):
    """Exact values of all moves in all cells of a `RandomGridWorld`.

    By value iteration: a teacher, a yardstick for returns, or the value of a
    policy that was learned.

    Args:
        world: `environments.RandomGridWorld`.
        policy: array `(num_worlds, cells, 4)`, probabilities of the moves.
            None for the best policy.
        discount: float in [0, 1].
        values: array `(num_worlds, cells)` to start from, such as those of a
            policy that was nearly the same. None for zeros.
        tolerance: float above 0, largest change at which iteration ends.

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
    if values is None:
        values = np.zeros(world.cell_reward.shape)
    index = np.arange(len(values))[:, np.newaxis, np.newaxis]
    while True:
        worth = world.cell_reward + goes_on * ~world.is_terminal * values
        moved = worth[index, world.next_cell]
        random_move = moved.mean(-1, keepdims=True)
        moves = (1 - world.slip) * moved + world.slip * random_move
        new = moves.max(-1) if policy is None else (policy * moves).sum(-1)
        change = np.abs(new - values).max()
        values = new
        if change < tolerance:
            return values, moves
