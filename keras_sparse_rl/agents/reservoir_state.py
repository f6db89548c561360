import io

import numpy as np
import tensorflow as tf

from keras_sparse_rl.layers import SparseValues
from keras_sparse_rl.layers import sparse_kernels


class ReservoirState(tf.train.experimental.PythonState):
    """The resting weights of a sparse kernel as a part of a checkpoint.

    They are no variable, so that `tf.train.Checkpoint` would leave them out.

    Args:
        kernel: `layers.SparseValues`.
    """

    def __init__(self, kernel):
        self._kernel = kernel

    def serialize(self):
        file = io.BytesIO()
        np.save(file, self._kernel.resting())
        return file.getvalue()

    def deserialize(self, string_value):
        self._kernel.assign_resting(np.load(io.BytesIO(string_value)))


def reservoir_kernels(model):
    """List of the model's `layers.SparseValues`."""
    return [k for k in sparse_kernels(model) if isinstance(k, SparseValues)]
