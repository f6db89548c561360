"""What an optimizer keeps for a kernel, whichever optimizer it is."""

import keras

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


def kernel_slots(optimizer, kernel):
    """The optimizer's variables of one kernel.

    Args:
        optimizer: Keras optimizer, or None.
        kernel: `Kernel`.

    Returns:
        Dict of name to variable; empty where the optimizer knows no kernels.
    """
    optimizer = without_wrapper(optimizer)
    if not isinstance(optimizer, PowerpropUpdate):
        return {}
    return optimizer.sparse_kernel_slots(kernel)


def without_wrapper(optimizer):
    """The optimizer inside the wrapper of mixed precision, if there is one.

    Args:
        optimizer: Keras optimizer, or None.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer
