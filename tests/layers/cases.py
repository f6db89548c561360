"""Layers of one matrix with the arguments and inputs that the tests use."""

import dataclasses

import keras
import numpy as np

from keras_sparse_rl import layers


@dataclasses.dataclass(frozen=True)
class Case:
    """A Powerprop layer beside the Keras layer that it replaces."""

    ours: type
    theirs: type
    arguments: dict
    input_shape: tuple  # without the batch axis
    integer_inputs: bool = False

    def build(self, **arguments):
        return self.ours(**{**self.arguments, **arguments})

    def input(self):
        dtype = "int32" if self.integer_inputs else None
        return keras.Input(self.input_shape, dtype=dtype)

    def inputs(self, batch=8, seed=0):
        generator = np.random.default_rng(seed)
        shape = (batch, *(n or 5 for n in self.input_shape))
        if self.integer_inputs:
            return generator.integers(0, 20, shape).astype("int32")
        return generator.normal(size=shape).astype("float32")

    def model(self, **arguments):
        """The layer in a functional model with one number as output."""
        inputs = self.input()
        x = self.build(**arguments)(inputs)
        axes = tuple(range(1, len(x.shape)))
        return keras.Model(inputs, keras.ops.mean(x, axis=axes)[:, None])

    def __str__(self):
        return self.ours.__name__


CASES = [
    Case(
        layers.PowerpropDense,
        keras.layers.Dense,
        {"units": 6, "activation": "tanh"},
        (None, 7),
    ),
    Case(
        layers.PowerpropConv1D,
        keras.layers.Conv1D,
        {"filters": 4, "kernel_size": 3, "padding": "causal"},
        (None, 6),
    ),
    Case(
        layers.PowerpropConv2D,
        keras.layers.Conv2D,
        {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"},
        (8, 8, 3),
    ),
    Case(
        layers.PowerpropDepthwiseConv2D,
        keras.layers.DepthwiseConv2D,
        {"kernel_size": 3, "depth_multiplier": 2},
        (8, 8, 3),
    ),
    Case(
        layers.PowerpropEinsumDense,
        keras.layers.EinsumDense,
        {
            "equation": "abc,cde->abde",
            "output_shape": (None, 2, 3),
            "bias_axes": "de",
        },
        (5, 4),
    ),
    Case(
        layers.PowerpropEmbedding,
        keras.layers.Embedding,
        {"input_dim": 20, "output_dim": 6, "mask_zero": True},
        (None,),
        integer_inputs=True,
    ),
    Case(
        layers.PowerpropConv3D,
        keras.layers.Conv3D,
        {"filters": 3, "kernel_size": 2},
        (4, 4, 4, 2),
    ),
    Case(
        layers.PowerpropConv2DTranspose,
        keras.layers.Conv2DTranspose,
        {"filters": 4, "kernel_size": 3, "strides": 2},
        (4, 4, 3),
    ),
    Case(
        layers.PowerpropDepthwiseConv1D,
        keras.layers.DepthwiseConv1D,
        {"kernel_size": 3},
        (8, 3),
    ),
]
