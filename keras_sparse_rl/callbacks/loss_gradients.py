"""The gradient of each output's loss, from one forward pass."""

import collections
import inspect

import keras
import tensorflow as tf
from keras import ops

LossGradients = collections.namedtuple(
    "LossGradients",
    ["loss", "y_pred", "main", "rest", "auxiliaries", "functions"],
)


def loss_gradients(model, x, y, sample_weight, auxiliary, main=()):
    """Gradients of main and auxiliary losses of a compiled model.

    Args:
        model: compiled `keras.Model`.
        x: inputs of a batch.
        y: targets.
        sample_weight: sample weights, or None.
        auxiliary: list of names of outputs, or of functions `(model, x, y,
            y_pred) -> scalar`.
        main: list of names of outputs, only checked: all outputs that are not
            auxiliary count to the main loss.

    Returns:
        `LossGradients`: `loss`, the model's; `y_pred`; gradients of
        `model.trainable_variables`, lists with None where there is none:
        `main`, of the losses of all other outputs, `rest`, of what comes from
        no output (regularization, `add_loss`), and `auxiliaries`, a list of
        lists; `functions`, the values of auxiliary functions by name. If no
        other output has a loss, `main` is what comes from no output, and
        `rest` is empty. Gradients are scaled as `optimizer.scale_loss` says.

    Raises:
        ValueError: if a name is not an output's, or a function's value is no
            single number.
    """
    scale_loss = model.optimizer.scale_loss
    replicas = model.distribute_strategy.num_replicas_in_sync
    with tf.GradientTape(persistent=True) as tape:
        y_pred = model(x, training=True)
        # The loss of what is cut off has a gradient for each output alone,
        # and for the variables only where it does not come from an output.
        cut = keras.tree.map_structure(_Cut(name="cut", autocast=False), y_pred)
        ends = keras.tree.flatten(cut)
        tape.watch([end for end in ends if end.dtype.is_floating])
        loss = _loss(model, x, y, cut, sample_weight)
        scaled = scale_loss(loss)
        functions = {
            a: _value(a, model, x, y, y_pred) for a in auxiliary if callable(a)
        }
        extra = {
            function: scale_loss(tf.cast(value, loss.dtype) / replicas)
            for function, value in functions.items()
        }
    variables = model.trainable_variables  # Some models are built by a call.
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

    main_numbers, numbers = find_outputs(model, y_pred, auxiliary, main)
    of_main = backward(main_numbers)
    of_rest = tape.gradient(scaled, variables)
    if all(g is None for g in of_main):
        of_main, of_rest = of_rest, of_main
    return LossGradients(
        loss,
        y_pred,
        main=of_main,
        rest=of_rest,
        auxiliaries=[
            tape.gradient(extra[a], variables)
            if callable(a)
            else backward([numbers[a]])
            for a in auxiliary
        ],
        functions={name_of(a): value for a, value in functions.items()},
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
    number = len(keras.tree.flatten(y_pred))
    if len(names) != number:
        raise ValueError(
            f"The outputs of model '{model.name}' have no names: it returns a "
            f"{type(y_pred).__name__} of {number} tensors, and the names known "
            f"are {names}. Return a dict of tensors."
        )
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


def name_of(auxiliary):
    """The name of an output or function, under which it is reported."""
    function = getattr(auxiliary, "func", auxiliary)  # of functools.partial
    if callable(function):
        return getattr(function, "__name__", type(function).__name__)
    return function


def _loss(model, x, y, y_pred, sample_weight):
    """The model's loss, also where `compute_loss` takes no `training`."""
    arguments = dict(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    parameters = inspect.signature(model.compute_loss).parameters.values()
    if any(p.name == "training" or p.kind == p.VAR_KEYWORD for p in parameters):
        arguments["training"] = True
    return model.compute_loss(**arguments)


def _value(function, model, x, y, y_pred):
    value = tf.convert_to_tensor(function(model, x, y, y_pred))
    if value.shape.rank != 0:
        raise ValueError(
            f"The auxiliary loss {name_of(function)!r} must be a single "
            f"number. Received: a tensor of shape {value.shape}. Take its mean "
            "over the batch."
        )
    return value


class _Cut(keras.layers.Layer):
    """Ends the gradient and keeps the mask."""

    supports_masking = True

    def call(self, x):
        return ops.stop_gradient(x)
