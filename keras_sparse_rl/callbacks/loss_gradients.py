"""The gradient of each output's loss, from one forward pass."""

import collections

import keras
import tensorflow as tf
from keras import ops

LossGradients = collections.namedtuple(
    "LossGradients", ["loss", "y_pred", "main", "rest", "auxiliaries"]
)


def loss_gradients(model, x, y, sample_weight, auxiliary):
    """Gradients of main and auxiliary losses of a compiled model.

    Args:
        model: compiled `keras.Model`.
        x: inputs of a batch.
        y: targets.
        sample_weight: sample weights, or None.
        auxiliary: list of names of outputs, or of functions `(model, x, y,
            y_pred) -> scalar`.

    Returns:
        `LossGradients`: `loss`, the model's; `y_pred`; gradients of
        `model.trainable_variables`, lists with None where there is none:
        `main`, of the losses of all other outputs, `rest`, of what comes from
        no output (regularization, `add_loss`), and `auxiliaries`, a list of
        lists. The gradients are scaled as `optimizer.scale_loss` says.

    Raises:
        ValueError: if a name is not an output's.
    """
    variables = model.trainable_variables
    scale_loss = model.optimizer.scale_loss
    replicas = model.distribute_strategy.num_replicas_in_sync
    with tf.GradientTape(persistent=True) as tape:
        y_pred = model(x, training=True)
        # The loss of what is cut off has a gradient for each output alone,
        # and for the variables only where it does not come from an output.
        cut = keras.tree.map_structure(_Cut(name="cut", autocast=False), y_pred)
        ends = keras.tree.flatten(cut)
        tape.watch(ends)
        loss = model.compute_loss(
            x=x, y=y, y_pred=cut, sample_weight=sample_weight, training=True
        )
        scaled = scale_loss(loss)
        extra = {
            function: scale_loss(
                tf.cast(function(model, x, y, y_pred), loss.dtype) / replicas
            )
            for function in auxiliary
            if callable(function)
        }
    outputs = keras.tree.flatten(y_pred)
    of_outputs = tape.gradient(scaled, ends)

    def backward(numbers):
        used = [k for k in numbers if of_outputs[k] is not None]
        if not used:
            return [None] * len(variables)
        return tape.gradient(
            [outputs[k] for k in used],
            variables,
            output_gradients=[of_outputs[k] for k in used],
        )

    main_numbers, numbers = find_outputs(model, y_pred, auxiliary)
    return LossGradients(
        loss,
        y_pred,
        main=backward(main_numbers),
        rest=tape.gradient(scaled, variables),
        auxiliaries=[
            tape.gradient(extra[a], variables)
            if callable(a)
            else backward([numbers[a]])
            for a in auxiliary
        ],
    )


def find_outputs(model, y_pred, auxiliary, main=()):
    """Places of the main outputs, and of auxiliary ones by name.

    Args:
        model: `keras.Model`.
        y_pred: its outputs, a nest.
        auxiliary: list of names of outputs, or of functions.
        main: list of names of outputs, only checked.

    Returns:
        Tuple of a list of int and a dict of name to int.
    """
    if isinstance(y_pred, dict):
        # Leaves are flattened in the order of their sorted keys.
        names = [path[0] for path, _ in keras.tree.flatten_with_path(y_pred)]
    else:
        names = list(getattr(model, "output_names", ["output"]))
    auxiliary = [a for a in auxiliary if not callable(a)]
    for name in (*main, *auxiliary):
        if names.count(name) != 1:
            raise ValueError(
                f"GradientCosine was given the output {name!r}, and the "
                f"outputs of model '{model.name}' are {names}. Outputs are "
                "named by the keys of a dict, or by the layers that make them."
            )
    others = [k for k, name in enumerate(names) if name not in auxiliary]
    return others, {name: names.index(name) for name in auxiliary}


class _Cut(keras.layers.Layer):
    """Ends the gradient and keeps the mask."""

    supports_masking = True

    def call(self, x):
        return ops.stop_gradient(x)
