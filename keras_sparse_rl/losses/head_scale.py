"""From a head's second half to the scale of a normal distribution."""

from keras import ops


def head_scale(x):
    """Positive, 1 at `x = 0`; the floor keeps densities finite."""
    return ops.softplus(x + 0.5413) + 1e-4
