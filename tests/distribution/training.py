"""The small training that all the tests of distribution run."""

import keras
import numpy as np
import tensorflow as tf

from keras_sparse_rl import callbacks
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule

CALLBACKS = {
    "TopKAST": lambda: callbacks.TopKAST(0.2, refresh_every=2),
    "RigL": lambda: callbacks.RigL(0.2, end_step=100, refresh_every=2),
    "SET": lambda: callbacks.SET(0.2, refresh_every=2),
    "StaticSparsity": lambda: callbacks.StaticSparsity(0.2),
    "MagnitudePruning": lambda: callbacks.MagnitudePruning(
        PolynomialSchedule(0.2, 1, 6), 2
    ),
}
X = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(64, 1)).astype("float32")


def compiled(*others):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            PowerpropDense(8, "tanh"),
            *others,
            keras.layers.Dense(1),
        ]
    )
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(Powerprop(optimizer), "mse", metrics=["mae"])
    return model


class Recorder(keras.callbacks.Callback):
    """What all copies of the masks and weights are, after every step."""

    def __init__(self):
        super().__init__()
        self.masks, self.thetas = [], []

    def on_train_batch_end(self, batch, logs=None):
        kernels = sparse_kernels(self.model)
        for kernel in kernels:
            for variable in (kernel.theta, *kernel.bookkeeping):
                copies = getattr(variable.value, "values", [variable.value])
                for copy in copies[1:]:
                    np.testing.assert_array_equal(copies[0], copy)
        self.masks.append([np.array(k.mask).ravel() for k in kernels])
        self.thetas.append([np.array(k.theta).ravel() for k in kernels])


def masks_by_step(model, name):
    """Masks and weights after every step of an epoch under a callback."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    model.optimizer.iterations.assign(0)
    for kernel in sparse_kernels(model):
        for slot in model.optimizer.sparse_kernel_slots(kernel).values():
            slot.assign(np.zeros(slot.shape, "float32"))
    recorder = Recorder()
    history = model.fit(
        data.with_options(options),
        verbose=0,
        callbacks=[CALLBACKS[name](), recorder],
    ).history
    return {
        "masks": np.array([np.concatenate(m) for m in recorder.masks]),
        "thetas": np.array([np.concatenate(t) for t in recorder.thetas]),
        "loss": np.array(history["loss"]),
    }
