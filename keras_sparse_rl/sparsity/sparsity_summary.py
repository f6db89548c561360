import math

import keras
import numpy as np

from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.layers.in_place import TWINS
from keras_sparse_rl.sparsity.positions import positions

_COLUMNS = ("layer", "shape", "density", "trained", "weights", "FLOPs", "KB")


def sparsity_summary(model, print_fn=print):
    """Counts what is left of a model: a table, and the figures as a dict.

    FLOPs are those of one example's products and sums (two for each weight
    used at each position; unknown lengths count as 1; a look-up is free; a
    layer applied several times counts once). They are None, `?` in the table
    and 0 in the total for kinds of layers that this package does not know.
    Bytes are what a file needs that stores the weights left and, for a
    sparse kernel, one bit for each position.

    Args:
        model: Keras model, built.
        print_fn: function that takes the table as a string; None prints
            nothing.

    Returns:
        Dict with `"layers"`, a list of dicts with the keys `name`, `shape`,
        `density` and `backward_density` (in [0, 1]), `parameters`, `used`
        (parameters that no mask hides; both with bias), `flops`,
        `dense_flops`, `bytes`, `dense_bytes`; and `"total"`, a dict of the
        same keys without `name` and `shape`.

    Raises:
        ValueError: if the model has no weights, or none yet.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import prune, sparsity_summary
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> _ = prune(model, density=0.1)
    >>> total = sparsity_summary(model, print_fn=None)["total"]
    >>> total["density"], total["used"], total["flops"]
    (0.1, 120, 200)
    """
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' has no weights yet. Call it on data first."
        )
    layers = {id(layer): layer for layer in leaf_layers(model) if layer.weights}
    if not layers:
        raise ValueError(f"Model '{model.name}' has no layer with weights.")
    rows = [_row(layer) for layer in layers.values()]
    total = {
        key: sum(row[key] or 0 for row in rows)
        for key in rows[0]
        if key not in ("name", "shape", "density", "backward_density")
    }
    size = total.pop("kernel_size")
    forward, backward = total.pop("forward"), total.pop("backward")
    total["density"] = forward / size if size else 1.0
    total["backward_density"] = backward / size if size else 1.0
    summary = {
        "layers": [
            {
                key: value
                for key, value in row.items()
                if key not in ("kernel_size", "forward", "backward")
            }
            for row in rows
        ],
        "total": total,
    }
    if print_fn is not None:
        print_fn(_table(summary))
    return summary


def leaf_layers(layer):
    """The layers that hold weights themselves, depth first."""
    if isinstance(layer, keras.Model):
        for inner in layer.layers:
            yield from leaf_layers(inner)
    else:
        yield layer


def _row(layer):
    kernels = sparse_kernels(layer)
    beside = {id(v) for kernel in kernels for v in kernel.bookkeeping}
    parameters = [v for v in layer.weights if id(v) not in beside]
    size = sum(math.prod(kernel.shape) for kernel in kernels)
    forward = sum(np.count_nonzero(k.forward_mask()) for k in kernels)
    backward = sum(np.count_nonzero(k.backward_mask()) for k in kernels)
    thetas = {id(kernel.theta) for kernel in kernels}
    others = [v for v in parameters if id(v) not in thetas]
    count = sum(math.prod(v.shape) for v in parameters)
    dense_bytes = sum(math.prod(v.shape) * _itemsize(v) for v in others)
    dense_bytes += sum(math.prod(k.shape) * _itemsize(k.theta) for k in kernels)
    saved = sum(
        (math.prod(k.shape) - np.count_nonzero(k.forward_mask()))
        * _itemsize(k.theta)
        for k in kernels
    )
    is_sparse = forward < size
    flops = dense_flops = None
    if (times := positions(layer)) is not None:
        dense_flops = 2 * times * (size or _plain_kernel_size(layer))
        flops = 2 * times * int(forward) if size else dense_flops
    return {
        "name": layer.name,
        "shape": kernels[0].shape if len(kernels) == 1 else None,
        "density": forward / size if size else 1.0,
        "backward_density": backward / size if size else 1.0,
        "parameters": count,
        "used": int(sum(math.prod(v.shape) for v in others) + forward),
        "flops": flops,
        "dense_flops": dense_flops,
        "bytes": int(dense_bytes - saved + is_sparse * -(-size // 8)),
        "dense_bytes": int(dense_bytes),
        "kernel_size": size,
        "forward": int(forward),
        "backward": int(backward),
    }


def _itemsize(variable):
    return keras.ops.convert_to_numpy(variable).itemsize


def _plain_kernel_size(layer):
    if not isinstance(layer, tuple(TWINS)):
        return 0
    kernels = layer.weights[:1]
    if isinstance(layer, keras.layers.RNN):
        kernels = [v for v in layer.weights if v.name.endswith("kernel")]
    return sum(math.prod(kernel.shape) for kernel in kernels)


def _table(summary):
    rows = [_COLUMNS]
    for row in [*summary["layers"], {"name": "total", **summary["total"]}]:
        shape = row.get("shape")
        rows.append(
            (
                row["name"],
                "x".join(map(str, shape)) if shape else "",
                f"{row['density']:.2%}",
                f"{row['backward_density']:.2%}",
                f"{row['used']:,} of {row['parameters']:,}",
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
