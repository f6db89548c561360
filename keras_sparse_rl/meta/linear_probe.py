import numpy as np


def linear_probe(states, targets, held_out=0.2):
    """How well numbers can be read from a memory by a linear map.

    Least squares on a part of the sequences, coefficient of determination on
    the rest, which are the last ones.

    Args:
        states: array `(batch, time, dim)` or `(batch, dim)`, of a model.
        targets: array `(batch, time, ...)` or `(batch, ...)`: what is looked
            for, such as a posterior's log-odds.
        held_out: float in (0, 1), share of sequences to test on.

    Returns:
        float, R²: 1 if all can be read, 0 if no more than the mean.

    Raises:
        ValueError: if states and targets do not fit, or a part has no
            sequence.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.meta import linear_probe
    >>> states = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(linear_probe(states, 2 * states[:, 0] - states[:, 2]), 6)
    1.0
    """
    (x, x_test), (y, y_test) = split(
        held_out, {"states": states, "targets": targets}
    )
    x, x_test = (
        np.concatenate([part, np.ones_like(part[:, :1])], axis=1)
        for part in (x, x_test)
    )
    weights = np.linalg.lstsq(x, y, rcond=None)[0]
    error = ((x_test @ weights - y_test) ** 2).sum()
    return float(1 - error / ((y_test - y_test.mean(0)) ** 2).sum())


def split(held_out, arrays):
    """Splits sequences into those to learn from and those to test on.

    Args:
        held_out: float in (0, 1).
        arrays: dict of arrays of one batch (and time) and a last axis.

    Returns:
        A pair of float64 arrays `(steps, dim)` for each array.
    """
    arrays = {k: np.asarray(x, "float64") for k, x in arrays.items()}
    first = next(iter(arrays.values()))
    axes = max(first.ndim - 1, 1)
    shapes = {name: x.shape for name, x in arrays.items()}
    if any(shape[:axes] != first.shape[:axes] for shape in shapes.values()):
        raise ValueError(
            f"All of {list(arrays)} must have the same leading axes, (batch, "
            f"time) or (batch,). Received shapes: {shapes}."
        )
    number = round(len(first) * held_out)
    if not 0 < number < len(first):
        raise ValueError(
            "`held_out` must leave sequences to learn from and to test on. "
            f"Received: held_out={held_out} of {len(first)} sequences."
        )

    def flat(x):
        return x.reshape(int(np.prod(x.shape[:axes])), -1)

    return [(flat(x[:-number]), flat(x[-number:])) for x in arrays.values()]
