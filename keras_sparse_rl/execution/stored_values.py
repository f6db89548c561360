"""What of a `SparseValues` is in a file: weights with places, never zeros."""

import numpy as np

from keras_sparse_rl.execution.sparse_layout import SparseLayout
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD


def stored_values(theta, layout, reservoir=None):
    """The arrays to write.

    Args:
        theta: float32 array `(capacity,)`.
        layout: `SparseLayout`.
        reservoir: float32 array `(inputs, outputs)`, for training to go on:
            then it is kept, and the weights that are trained but not used.
            None to keep only those in use.

    Returns:
        Dict of name to array.
    """
    begin, middle, end = layout.bounds
    count = end[-1]
    kept = np.ones(count, bool)
    if reservoir is None:
        kept = (layout.mask[:count] & FORWARD) != 0
    num_inputs = layout.bounds_by_input.shape[1]
    arrays = {
        "theta": theta[:count][kept],
        "inputs": layout.inputs[:count][kept].astype(
            "uint16" if num_inputs <= 2**16 else "int32"
        ),
        "used": middle - begin,
    }
    if reservoir is not None:
        arrays["counts"] = end - begin
        arrays["mask"] = layout.mask[:count]
        # What stands in `theta` is not written twice.
        resting = np.array(reservoir)
        resting[layout.places()] = 0.0
        arrays["reservoir"] = resting
    return arrays


def restored_values(arrays, shape, capacity, layer_name):
    """What `stored_values` was made of.

    Args:
        arrays: dict-like of name to array, as that function returns it.
        shape: tuple of two int, the kernel's `(inputs, outputs)`.
        capacity: int, the most weights that fit.
        layer_name: str, for the error.

    Returns:
        Tuple of theta `(number of weights,)`, `SparseLayout` and reservoir,
        zeros where none was stored.

    Raises:
        ValueError: if the kernel is another one, or too small.
    """
    theta, inputs = np.asarray(arrays["theta"]), np.asarray(arrays["inputs"])
    used = np.asarray(arrays["used"])
    is_training = "reservoir" in arrays.keys()
    counts = np.asarray(arrays["counts"]) if is_training else used
    mask = np.full(len(theta), FORWARD | BACKWARD, "uint8")
    if is_training:
        mask = np.asarray(arrays["mask"])
    if len(used) != shape[1] or len(theta) > capacity:
        raise ValueError(
            f"The file holds {len(theta)} weights for {len(used)} units; "
            f"layer '{layer_name}' has room for {capacity} and "
            f"{shape[1]} units. Build it with the arguments it was "
            "saved with (`units`, `backward_density`)."
        )
    layout = SparseLayout.from_entries(
        inputs.astype("int64"), counts, used, mask, shape[0], capacity
    )
    reservoir = np.zeros(shape, "float32")
    if is_training:
        reservoir[...] = arrays["reservoir"]
    return theta, layout, reservoir
