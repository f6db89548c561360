"""The array on the host in which the weights of a sparse kernel rest."""

import mmap
import tempfile

import numpy as np
import tensorflow as tf

# From this many weights on the reservoir is a file, not memory.
LARGE = 2**20


def new_reservoir(values):
    """A float32 array of these values; a large one is a file in memory."""
    if values.size < LARGE:
        return np.array(values, "float32")
    with tempfile.TemporaryFile(prefix="keras_sparse_rl-") as file:
        # The file has no name any more and ends with the process.
        mapped = np.memmap(file, "float32", "w+", shape=values.shape)
    mapped[...] = values
    return mapped


def fill_reservoir(reservoir, values):
    """Writes other values into a reservoir."""
    reservoir[...] = values
    if isinstance(reservoir, np.memmap):
        # The pages go back to the file until the next refresh.
        if hasattr(mmap, "MADV_DONTNEED"):
            reservoir._mmap.madvise(mmap.MADV_DONTNEED)


def refuse_several_workers(layer):
    """Raises if several machines, each with a host, train a layer together."""
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        workers = strategy.cluster_resolver.cluster_spec().as_dict()
        if sum(map(len, workers.values())) > 1:
            raise ValueError(
                f"Layer '{layer.name}' keeps its resting weights on the host "
                "of each worker, where they would differ. Train masked layers "
                "(PowerpropDense, sparsify(model, execution='dense')) on "
                "several machines, and change the execution afterwards."
            )
