import collections.abc

import tensorflow as tf


def by_name(model_input, observation):
    """The observation in the structure of a functional model's inputs.

    Args:
        model_input: `input` of a functional `keras.Model`.
        observation: nest of tensors. A dict of several is matched by its keys
            and the names of the inputs, other nests by their order.

    Raises:
        ValueError: if keys and names differ.
    """
    flat = tf.nest.flatten(observation)
    if not isinstance(observation, collections.abc.Mapping) or len(flat) == 1:
        return tf.nest.pack_sequence_as(model_input, flat)
    if isinstance(model_input, dict):
        names, inputs = list(model_input), list(model_input.values())
    else:
        inputs = tf.nest.flatten(model_input)
        names = [x.name for x in inputs]
    if set(names) != set(observation):
        raise ValueError(
            f"its inputs are named {sorted(names)}, where the observation has "
            f"the keys {sorted(observation)}. Name the inputs by the keys: "
            "keras.Input(..., name=key), or keras.Model({key: input}, ...)."
        )
    found = [by_name(x, observation[name]) for name, x in zip(names, inputs)]
    if isinstance(model_input, dict):
        return dict(zip(names, found))
    return tf.nest.pack_sequence_as(model_input, found)
