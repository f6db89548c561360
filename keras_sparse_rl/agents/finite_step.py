"""A step of optimizers that changes nothing unless all is finite."""

import tensorflow as tf


def all_finite(tensors):
    """Whether all numbers are finite, of a list of tensors or None."""
    # One number that is not finite makes its sum so: no tensor of flags.
    return tf.reduce_all(
        [
            tf.math.is_finite(tf.reduce_sum(tf.convert_to_tensor(x)))
            for x in tensors
            if x is not None
        ]
    )


def apply_if(finite, optimizers, gradients, variables):
    """Applies gradients if all is finite.

    Args:
        finite: boolean scalar tensor.
        optimizers: list of pairs of a Keras optimizer and the list of
            variables it changes.
        gradients: list of tensors, None where no loss needs the variable.
        variables: list of variables, in the gradients' order.
    """

    def apply():
        # Optimizers want tensors of one graph, that of this branch.
        inside = {
            id(variable): tf.identity(gradient)
            for gradient, variable in zip(gradients, variables)
            if gradient is not None
        }
        for optimizer, own in optimizers:
            known = [v for v in own if id(v) in inside]
            if known:
                optimizer.apply([inside[id(v)] for v in known], known)
        return tf.constant(True)

    tf.cond(finite, apply, lambda: tf.constant(False))
