"""The optimizers of a model, and what they keep for a kernel."""

import keras

from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.optimizers.powerprop_update import PowerpropUpdate


def knows_kernels(optimizer):
    """Whether an optimizer leaves weights outside B alone.

    Args:
        optimizer: Keras optimizer, or None.
    """
    return isinstance(without_wrapper(optimizer), PowerpropUpdate)


def steps_taken(optimizer):
    """The train steps that an optimizer has made, as an int.

    Args:
        optimizer: Keras optimizer. The wrapper of mixed precision does not
            count in Keras 3.8; the one inside does.
    """
    # After every step: `ops.convert_to_numpy` takes nearly twice as long.
    return int(without_wrapper(optimizer).iterations.numpy())


def kernel_slots(optimizers, kernel):
    """The variables that optimizers keep for one kernel.

    Args:
        optimizers: list of Keras optimizers, of which one trains it.
        kernel: `Kernel`.

    Returns:
        Dict of name to variable; empty where none of them knows the kernel.
    """
    slots = {}
    for optimizer in optimizers:
        if knows_kernels(optimizer):
            inner = without_wrapper(optimizer)
            slots.update(inner.sparse_kernel_slots(kernel))
    return slots


def without_wrapper(optimizer):
    """The optimizer inside the wrapper of mixed precision, if there is one.

    Args:
        optimizer: Keras optimizer, or None.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def optimizers_inside(model):
    """Every optimizer that a model or a layer inside it holds.

    Args:
        model: Keras model.

    Returns:
        Dict of name to Keras optimizer, that of `compile` first, each once
        and without the wrapper of mixed precision.
    """
    found = {}
    for part in layers_inside(model):
        prefix = "" if part is model else f"{part.name}."
        for name, value in vars(part).items():
            if name.startswith("_"):
                continue  # what Keras and TensorFlow keep for themselves
            for key, optimizer in _optimizers(prefix + name, value):
                optimizer = without_wrapper(optimizer)
                if all(optimizer is not other for other in found.values()):
                    found[key] = optimizer
    first = ["optimizer"] if "optimizer" in found else []
    return {name: found[name] for name in dict.fromkeys([*first, *found])}


def _optimizers(name, value):
    if isinstance(value, keras.optimizers.Optimizer):
        return [(name, value)]
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return []
    return [
        (f"{name}[{key!r}]", inner)
        for key, inner in value.items()
        if isinstance(inner, keras.optimizers.Optimizer)
    ]
