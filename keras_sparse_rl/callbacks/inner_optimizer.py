from keras_sparse_rl.optimizers.kernel_slots import without_wrapper


def inner_optimizer(model):
    """The model's optimizer without the wrapper of mixed precision.

    It is what counts the steps: in Keras 3.8 the wrapper's own `iterations`
    stay 0.
    """
    return without_wrapper(model.optimizer)


def steps_taken(model):
    """The train steps that the model's weights have made, as an int."""
    # After every step: `ops.convert_to_numpy` takes nearly twice as long.
    return int(inner_optimizer(model).iterations.numpy())
