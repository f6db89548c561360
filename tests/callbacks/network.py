"""The small network and data that the tests of callbacks share."""

import keras
import numpy as np

from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop

X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")
Y = np.random.default_rng(1).integers(0, 4, 32)


def network(alpha=2.0):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            PowerpropDense(20, activation="relu", alpha=alpha, name="hidden"),
            PowerpropDense(4, alpha=alpha, name="logits"),
        ]
    )


def compiled(optimizer=None, model=None, **arguments):
    model = model or network()
    rule = optimizer or keras.optimizers.AdamW(0.02, weight_decay=0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(Powerprop(rule), loss, **arguments)
    return model


def fit(model, callback, epochs=3, **arguments):
    arguments = {"batch_size": 4, "shuffle": False, "verbose": 0, **arguments}
    callbacks = callback if isinstance(callback, list) else [callback]
    return model.fit(X, Y, epochs=epochs, callbacks=callbacks, **arguments)


def top(array, count):
    """The `count` largest, first come first kept, by a stable sort."""
    order = np.argsort(-array.ravel(), kind="stable")
    mask = np.zeros(array.size, bool)
    mask[order[:count]] = True
    return mask.reshape(array.shape)
