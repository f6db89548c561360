import functools

import keras

from keras_sparse_rl.optimizers.powerprop_update import PowerpropUpdate

# Their step is not a change of the weight that a factor could scale: Ftrl
# computes the weight anew from its sums, schedule-free recovers an average
# from it, and the other two are containers of optimizers.
_NO_STEP_TO_SCALE = (
    "Ftrl",
    "ScheduleFreeAdamW",
    "LossScaleOptimizer",
    "MultiOptimizer",
)


def Powerprop(optimizer):  # noqa: N802, a constructor like keras.Input
    """Makes any Keras optimizer right for exponents and masks.

    Adam and its relatives divide the gradient by its own scale, and with it
    by Powerpropagation's factor `alpha * |theta|**(alpha - 1)`. The result of
    this function runs the optimizer's rule on the gradient of the *effective*
    weight and multiplies its *step* by the factor (Schwarz et al. 2021,
    https://arxiv.org/abs/2110.00296, section 2; that remedy is recalled, not
    read): `theta <- (1 - lr * decay) * theta + factor * step`. It
    also leaves every weight outside the backward set B of a mask as it is,
    bit for bit, whatever momentum and decay do. Other weights are trained as
    before. Clipping acts on the gradient of the effective weight, weight
    decay on `theta`; Lamb and Adafactor scale by the norm of `theta`. Muon is
    untested.

    Args:
        optimizer: a Keras optimizer that has not been used yet, or its name.

    Returns:
        The same optimizer, now of a class derived from its own.

    Raises:
        TypeError: if `optimizer` is not a Keras 3 optimizer.
        ValueError: for Ftrl, ScheduleFreeAdamW and containers of optimizers,
            which have no step to scale; for an optimizer in use, or with
            variables excluded from decay before it came here; and with
            `ema_overwrite_frequency`, which would move weights outside B.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((4,)), PowerpropDense(1)])
    >>> model.compile(Powerprop(keras.optimizers.Adam(1e-3)), "mse")
    >>> isinstance(model.optimizer, keras.optimizers.Adam)
    True
    """
    if isinstance(optimizer, str):
        optimizer = keras.optimizers.get(optimizer)
    if isinstance(optimizer, type):
        raise TypeError(
            f"`optimizer` is a class. Call it: Powerprop("
            f"{optimizer.__name__}(...))."
        )
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be a Keras 3 optimizer such as "
            "keras.optimizers.Adam(1e-3), or its name. Received: "
            f"{optimizer!r} (of type {type(optimizer)}). Optimizers of "
            "tf_keras and tf.compat cannot train Keras 3 layers."
        )
    _check(optimizer)
    # The object itself changes class, so that schedules and whatever else it
    # holds stay what they are.
    optimizer.__class__ = _powerprop_class(type(optimizer))
    return optimizer


def powerprop_advice(optimizer):
    """The line to write for a model that `optimizer` trains.

    Args:
        optimizer: Keras optimizer that is not a Powerprop one.
    """
    name = type(optimizer).__name__
    if name in _NO_STEP_TO_SCALE:
        return (
            f"{name} cannot be made right; use another, for example "
            "model.compile(optimizer=keras_sparse_rl.optimizers.Powerprop("
            "keras.optimizers.AdamW(1e-3)), ...)."
        )
    return (
        "Write model.compile(optimizer=keras_sparse_rl.optimizers.Powerprop("
        f"keras.optimizers.{name}(...)), ...)."
    )


def _check(optimizer):
    name = type(optimizer).__name__
    if isinstance(optimizer, PowerpropUpdate):
        raise ValueError(
            f"`optimizer` is wrapped already: {name}. Use it as it is."
        )
    for refused in _NO_STEP_TO_SCALE:
        refused_class = getattr(keras.optimizers, refused, ())
        if isinstance(optimizer, refused_class):
            raise ValueError(
                f"{name} has no step that Powerprop could scale. Wrap the "
                "optimizer inside it, or use another, for example "
                "Powerprop(keras.optimizers.AdamW(1e-3))."
            )
    if optimizer.built:
        raise ValueError(
            f"This {name} has already been used: its moments belong to other "
            "gradients. Wrap a new one: "
            f"Powerprop(keras.optimizers.{name}(...))."
        )
    if getattr(optimizer, "_exclude_from_weight_decay", None) or getattr(
        optimizer, "_exclude_from_weight_decay_pattern", None
    ):
        raise ValueError(
            f"This {name} already excludes variables from weight decay. Wrap "
            "it first and call exclude_from_weight_decay on the result."
        )
    if optimizer.use_ema and optimizer.ema_overwrite_frequency:
        raise ValueError(
            "`ema_overwrite_frequency` overwrites every weight, also those "
            "outside the backward set, which must not move. Received: "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}. "
            "Leave it None: the averages are then put in place at the end of "
            "fit, inside the backward set."
        )


@functools.cache
def _powerprop_class(inner_class):
    """The class of `inner_class` with the Powerprop update.

    All of them are registered under one name; their config says which
    optimizer is inside.
    """
    derived = type(
        f"Powerprop{inner_class.__name__}",
        (PowerpropUpdate, inner_class),
        {
            "__module__": __name__,
            "inner_class": inner_class,
            "from_config": classmethod(_from_config),
        },
    )
    register = keras.saving.register_keras_serializable(
        package="keras_sparse_rl", name="Powerprop"
    )
    return register(derived)


def _from_config(cls, config, custom_objects=None):
    inner = keras.optimizers.deserialize(
        config["optimizer"], custom_objects=custom_objects
    )
    return Powerprop(inner)


# Registers the name at import, so that saved models load.
_powerprop_class(keras.optimizers.SGD)
