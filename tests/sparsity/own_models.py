"""Models as users write them: layers and classes of their own."""

import keras
import numpy as np

register = keras.saving.register_keras_serializable(package="tests")

X = np.random.default_rng(0).normal(size=(4, 3, 8)).astype("float32")
Y = np.ones((4, 2), "float32")


@register
class Own(keras.layers.Layer):
    """A matrix of its own, and that of a layer inside used once more."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.layers.Dense(units, "relu")

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], self.units), name="w")
        self.b = self.add_weight((self.units,), name="b")
        self.inner.build((None, self.units))

    def call(self, inputs):
        hidden = self.inner(inputs @ self.w + self.b)
        return hidden @ keras.ops.transpose(self.inner.kernel)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class ReadsTable(keras.layers.Layer):
    """A table, which `sparsify` spares unless it is named, and a matrix."""

    def build(self, input_shape):
        self.table = self.add_weight((4, 5), name="embeddings")
        self.w = self.add_weight((5, 6), name="w")

    def call(self, inputs):
        rows = keras.ops.one_hot(inputs, 4) @ self.table
        return keras.ops.sum(rows, 1) @ self.w


@register
class Residual(keras.layers.Layer):
    """No `build`: what is inside is built by the first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.Sequential([keras.layers.Dense(8, "relu")])

    def call(self, inputs):
        return inputs + self.inner(inputs)


@register
class Net(keras.Model):
    """Blocks in a list, cells in a list, a head; and a method of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        cells = [keras.layers.LSTMCell(5), keras.layers.GRUCell(8)]
        self.blocks = [Own(8), Own(8)]
        self.cells = keras.layers.RNN(cells, return_sequences=True)
        self.gru = keras.layers.GRU(6)
        self.head = keras.layers.Dense(2)

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(self.gru(self.cells(inputs)))

    def generate(self):
        return "generated"


@register
class Task(keras.Model):
    """A functional model of a class of its own, as KerasHub's are."""

    def __init__(self, units=8, **kwargs):
        inputs = keras.Input((3, 8))
        attention = keras.layers.MultiHeadAttention(2, 4)
        x = keras.layers.LayerNormalization()(attention(inputs, inputs))
        x = keras.layers.GlobalAveragePooling1D()(Own(units)(Residual()(x)))
        super().__init__(inputs, keras.layers.Dense(2)(x), **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


def net():
    keras.utils.set_random_seed(0)
    model = Net()
    model(X)
    return model


def task():
    keras.utils.set_random_seed(0)
    return Task()
