"""Cells of a grid as pictures."""

import numpy as np

# Wall or nothing, floor, agent, goal, pit, lamp.
COLOURS = np.array(
    [
        (40, 40, 48),
        (230, 230, 225),
        (30, 90, 200),
        (60, 170, 80),
        (200, 60, 50),
        (245, 190, 40),
    ],
    np.uint8,
)


def blocks(cells, size=8):
    """Paints each cell as a square.

    Args:
        cells: int array `(batch, rows, columns)`, indices into `COLOURS`.
        size: int, pixels a side.

    Returns:
        uint8 array `(batch, rows * size, columns * size, 3)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.environments.pictures import blocks
    >>> blocks(np.zeros((1, 2, 3), int)).shape
    (1, 16, 24, 3)
    """
    return COLOURS[cells].repeat(size, axis=1).repeat(size, axis=2)
