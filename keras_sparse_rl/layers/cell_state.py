"""The state of a Keras cell as a list of its parts, whatever its form."""

import keras
from keras import ops


def leaves_of(state_size):
    """Sizes of a cell's states as a list."""
    return list(keras.tree.flatten(state_size))


def packed(cell, leaves):
    """A list of states in the form that the cell takes."""
    if not isinstance(cell.state_size, (list, tuple)):
        return leaves
    return keras.tree.pack_sequence_as(cell.state_size, leaves)


def where(flag, x, y):
    """`x` where the flag of a row is true, else `y`."""
    return ops.where(flag[..., None], x, y)
