"""What TensorFlow's checkpoints find: they go by attributes of objects."""

import keras

from keras_sparse_rl.kernels.keras_members import sublayers


def follow(layer, name, value):
    """Lets TensorFlow's checkpoints, which go by attributes, find a value.

    It must be one that Keras tracks in this layer already. Names begin with
    two underscores, which Keras' own files leave out.
    """
    super(keras.layers.Layer, layer).__setattr__(f"__{name}", value)


def follow_lists(layer):
    """Lets TensorFlow's checkpoints find layers that are held in lists."""
    for number, part in enumerate(sublayers(layer)):
        follow(layer, f"held_{number}", part)


def unfollow_lists(layer):
    """Takes back what `follow_lists` did."""
    for name in [name for name in vars(layer) if name.startswith("__held_")]:
        super(keras.layers.Layer, layer).__delattr__(name)
