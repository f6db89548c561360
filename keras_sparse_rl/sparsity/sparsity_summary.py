import math

import numpy as np
import tensorflow as tf

from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.sparsity.model_checks import check_model
from keras_sparse_rl.sparsity.products import parts

_COLUMNS = (
    "layer",
    "shape",
    "kernels",
    "trained",
    "weights",
    "left",
    "FLOPs",
    "KB",
)
_SUMMED = (
    "parameters",
    "used",
    "flops",
    "dense_flops",
    "bytes",
    "dense_bytes",
)


def sparsity_summary(model, print_fn=print):
    """Counts what is left of a model: a table, and the figures as a dict.

    Every layer with weights is in it once, wherever it is: also in layers and
    models of your own. In the table `kernels` and `trained` are shares of the
    sparse kernels alone, `left` that of all weights.

    FLOPs are those of one example's products and sums: two for each weight
    used at each position and step, and in attention layers of Keras two for
    each product of the queries with the keys and of the scores with the
    values. Unknown lengths count as 1; look-ups, biases, and layers without
    weights are free; a layer that is applied several times counts once. They
    are None, `?` in the table, where nobody can know them, as for a layer of
    your own that holds a matrix: in the total too. Bytes are what a file needs
    that stores the weights left and, for a sparse kernel, one bit for each
    position.

    Args:
        model: Keras model or layer, built.
        print_fn: function that takes the table as a string; None prints
            nothing.

    Returns:
        Dict with `"layers"`, a list of dicts with the keys `name`; `shape`,
        of the sparse kernel where there is one; `parameters`, their number
        with biases; `used`, those that no mask hides; `density`, the second
        as a share of the first; `density_of_sparse_kernels` and
        `backward_density_of_sparse_kernels`, the shares of the weights used
        and trained in sparse kernels alone, None where there are none;
        `flops`, `dense_flops`, `bytes`, `dense_bytes`. And `"total"`, a dict
        of the same keys without `name` and `shape`, for the whole model.

    Raises:
        TypeError: if `model` is no Keras model or layer.
        ValueError: if the model has no weights, or none yet.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import prune, sparsity_summary
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> _ = prune(model, density=0.1)
    >>> total = sparsity_summary(model, print_fn=None)["total"]
    >>> total["density_of_sparse_kernels"], total["used"], total["flops"]
    (0.1, 120, 200)
    """
    check_model(model)
    kernels = sparse_kernels(model)
    # Masks are no weights; and what two layers share is counted once.
    counted = {id(v) for kernel in kernels for v in kernel.bookkeeping}
    rows, sizes = [], []
    for part in parts(model):
        weights = [v for v in part.weights if id(v) not in counted]
        counted.update(id(v) for v in weights)
        if weights:
            rows.append(_row(part, weights))
            sizes.append(_sizes(_kernels(weights)))
    if not rows:
        raise ValueError(
            f"`model` '{model.name}' has no layer with weights, so there is "
            "nothing to count. Give a model with layers such as Dense."
        )
    total = {key: _sum(row[key] for row in rows) for key in _SUMMED}
    summary = {
        "layers": rows,
        "total": {**total, **_shares(total, np.sum(sizes, 0))},
    }
    if print_fn is not None:
        print_fn(_table(summary))
    return summary


def _row(part, weights):
    kernels = _kernels(weights)
    sizes = _sizes(kernels)
    hidden, size = sizes[0] - sizes[1], sizes[0]
    number = sum(_size(v) for v in weights)
    dense_bytes = sum(_size(v) * _itemsize(v) for v in weights)
    saved = sum(
        (_size(k.theta) - _used(k.theta)) * _itemsize(k.theta) for k in kernels
    )
    products = part.products()
    counts = {
        "parameters": number,
        "used": number - hidden,
        "flops": None if products is None else products.flops(_used),
        "dense_flops": None if products is None else products.flops(_size),
        "bytes": dense_bytes - saved + (hidden > 0) * -(-size // 8),
        "dense_bytes": dense_bytes,
    }
    return {
        "name": part.layer.name,
        "shape": kernels[0].shape if len(kernels) == 1 else None,
        **_shares(counts, sizes),
        **counts,
    }


def _shares(counts, sizes):
    size, forward, backward = (int(number) for number in sizes)
    return {
        "density": counts["used"] / counts["parameters"],
        "density_of_sparse_kernels": forward / size if size else None,
        "backward_density_of_sparse_kernels": (
            backward / size if size else None
        ),
    }


def _kernels(weights):
    return [kernel for v in weights if (kernel := kernel_of(v)) is not None]


def _sizes(kernels):
    """Weights of kernels: all, used, and trained."""
    found = [
        (
            _size(kernel.theta),
            _used(kernel.theta),
            int(np.count_nonzero(kernel.backward_mask())),
        )
        for kernel in kernels
    ]
    return tuple(map(sum, zip(*found))) if found else (0, 0, 0)


def _size(variable):
    kernel = kernel_of(variable)
    return math.prod(variable.shape if kernel is None else kernel.shape)


def _used(variable):
    kernel = kernel_of(variable)
    if kernel is None:
        return _size(variable)
    return int(np.count_nonzero(kernel.forward_mask()))


def _itemsize(variable):
    return tf.as_dtype(variable.dtype).size


def _sum(numbers):
    numbers = list(numbers)
    return None if None in numbers else sum(numbers)


def _table(summary):
    rows = [_COLUMNS]
    for row in [*summary["layers"], {"name": "total", **summary["total"]}]:
        shape = row.get("shape")
        rows.append(
            (
                row["name"],
                "x".join(map(str, shape)) if shape else "",
                _percent(row["density_of_sparse_kernels"]),
                _percent(row["backward_density_of_sparse_kernels"]),
                f"{row['used']:,} of {row['parameters']:,}",
                _percent(row["density"]),
                "?" if row["flops"] is None else f"{row['flops']:,}",
                f"{row['bytes'] / 1024:,.1f} of "
                f"{row['dense_bytes'] / 1024:,.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if position < 2 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    )


def _percent(share):
    return "" if share is None else f"{share:.2%}"
