import re
import types

import keras
from keras import ops

from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.kernels.on_tensorflow import as_tensor
from keras_sparse_rl.kernels.on_tensorflow import fused
from keras_sparse_rl.kernels.powerpropagation import has_bit
from keras_sparse_rl.kernels.powerpropagation import weight_gradient
from keras_sparse_rl.kernels.powerpropagation import weight_gradient_factor


class PowerpropUpdate:
    """The update that `Powerprop` mixes into an optimizer's class.

    Everything that Keras does around a step (clipping, accumulation, loss
    scaling, replicas, averages, constraints) stays Keras' own.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.optimizers import Powerprop, PowerpropUpdate
    >>> optimizer = Powerprop(keras.optimizers.Adam(1e-3))
    >>> isinstance(optimizer, PowerpropUpdate)
    True
    """

    inner_class = None
    penalties = None  # until it is built
    _rates = types.MappingProxyType({})  # of penalties, set before that

    def get_config(self):
        inner = self.inner_class.from_config(super().get_config())
        return {"optimizer": keras.optimizers.serialize(inner)}

    def __reduce__(self):
        # The class is made at run time, so pickle cannot look it up by name.
        restore = keras.optimizers.deserialize
        return restore, (keras.optimizers.serialize(self),)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        super().exclude_from_weight_decay(var_list, var_names)
        self._decay_exclusions = _Hidden(
            variables=list(var_list or []), names=list(var_names or [])
        )

    def build(self, variables):
        if self.built:
            return
        variables = list(variables)
        kernels = [kernel_of(variable) for variable in variables]
        present = [kernel for kernel in kernels if kernel is not None]
        excluded = getattr(
            self, "_decay_exclusions", _Hidden(variables=[], names=[])
        )
        self._kernels = _Hidden(
            at=kernels,
            rows={id(kernel): row for row, kernel in enumerate(present)},
            decayed={
                id(kernel): not _is_excluded(kernel.theta, excluded)
                for kernel in present
            },
            slots={id(kernel): {} for kernel in present},
            variables=variables,
        )
        # Keras would decay weights outside B too: their decay is ours.
        super().exclude_from_weight_decay(
            excluded.variables + [kernel.theta for kernel in present],
            excluded.names,
        )
        super().build(variables)
        # Top-KAST's penalty in A and in B \ A; TopKAST sets it.
        rates = [self._rates.get(id(k), (0.0, 0.0)) for k in present]
        self.penalties = self.add_variable(
            shape=(max(1, len(present)), 2),
            initializer=lambda shape, dtype: ops.convert_to_tensor(
                rates or [(0.0, 0.0)], dtype=dtype
            ),
            name="penalties",
        )

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ):
        slot = super().add_variable_from_reference(
            reference_variable, name=name, initializer=initializer
        )
        kernel = kernel_of(reference_variable)
        if kernel is not None:
            self._kernels.slots[id(kernel)][name] = slot
        return slot

    def sparse_kernel_slots(self, kernel):
        """The optimizer's variables of one kernel: dict of name to variable.

        Args:
            kernel: `SparseKernel`; one that this optimizer does not train
                has none.
        """
        if not self.built:
            return {}
        return dict(self._kernels.slots.get(id(kernel), {}))

    def trains(self, kernel):
        """Whether this optimizer was built with a kernel's `theta`.

        Args:
            kernel: `Kernel`.
        """
        return self.built and id(kernel) in self._kernels.rows

    def set_penalty(self, kernel, forward, backward):
        """Sets the decoupled decay rates of one kernel's `theta`.

        Args:
            kernel: `Kernel` that this optimizer was built with, or, before
                it is built, may be.
            forward: float, the rate in the forward set A.
            backward: float, the rate in B without A.
        """
        if not self.built:
            self._rates = {**self._rates, id(kernel): (forward, backward)}
            return
        if not self.trains(kernel):
            raise ValueError(
                f"This optimizer was built without layer "
                f"'{kernel.layer.name}' (frozen then, or missing from the "
                "variables given to build). Compile the model with a new one."
            )
        rates = ops.convert_to_numpy(self.penalties).copy()
        rates[self._kernels.rows[id(kernel)]] = forward, backward
        self.penalties.assign(rates)

    def save_own_variables(self, store):
        """Saves all but the penalties, which belong to a run of TopKAST."""
        for position, variable in enumerate(self.variables):
            value = ops.convert_to_numpy(variable)
            store[str(position)] = (
                0 * value if variable is self.penalties else value
            )

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        if trainable_variables is None and self.built:
            trainable_variables = self._kernels.variables
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            grads = [
                _effective_gradient(gradient, variable)
                for gradient, variable in zip(grads, trainable_variables)
            ]
        iterations = super().apply(grads, trainable_variables)
        if self.use_ema:
            self._hold_averages()
        return iterations

    def _hold_averages(self):
        """An average over a weight that rests is that weight, to the last bit.

        Taken step by step it would be off by rounding, and `SwapEMAWeights`
        would move what must rest.
        """
        for kernel in filter(None, self._kernels.at):
            average = self._kernels.slots[id(kernel)]["average"]
            trained = has_bit(as_tensor(kernel.mask), BACKWARD)
            theta = ops.cast(as_tensor(kernel.theta), average.dtype)
            average.assign(ops.where(trained, as_tensor(average), theta))

    def update_step(self, gradient, variable, learning_rate):
        kernel = self._kernels.at[self._get_variable_index(variable)]
        if kernel is None:
            super().update_step(gradient, variable, learning_rate)
            return
        inner_step = super().update_step
        row = self._kernels.rows[id(kernel)]
        decay = self.weight_decay or 0.0
        decay = decay if self._kernels.decayed[id(kernel)] else 0.0

        def update(gradient, learning_rate):
            theta = ops.copy(as_tensor(variable))
            inner_step(gradient, variable, learning_rate)
            new = _scaled_update(
                theta,
                variable - theta,
                as_tensor(kernel.mask),
                kernel.alpha,
                learning_rate,
                decay + ops.cast(self.penalties[row], theta.dtype),
            )
            self.assign(variable, new)

        if self.inner_class.__module__.startswith("keras."):
            update = fused(update, variable)
        rate = ops.cast(learning_rate, variable.dtype)
        update(gradient, as_tensor(rate))

    def finalize_variable_values(self, var_list):
        """Puts averages in place at the end of `fit`, inside B alone."""
        if not self.use_ema:
            return
        var_list = list(var_list)
        before = [
            ops.convert_to_numpy(variable) if kernel_of(variable) else None
            for variable in var_list
        ]
        super().finalize_variable_values(var_list)
        for variable, old in zip(var_list, before):
            if old is not None:
                mask = ops.convert_to_numpy(kernel_of(variable).mask)
                trained = (mask & BACKWARD) != 0
                variable.assign(ops.where(trained, variable, old))


class _Hidden:
    """Holds what Keras must not track, or it would save it as its own."""

    def __init__(self, **values):
        self.__dict__.update(values)


def _scaled_update(theta, step, mask, alpha, learning_rate, decay):
    """`(1 - lr * decay) * theta + factor * step` in B, `theta` elsewhere.

    Args:
        theta: tensor, before the step.
        step: tensor, what the inner rule would add to the effective weight.
        mask: uint8 tensor.
        alpha: float, the exponent.
        learning_rate: scalar tensor.
        decay: tensor of two rates, in A and in B without A.
    """
    if alpha != 1:
        step = step * weight_gradient_factor(theta, alpha)
    rate = ops.where(has_bit(mask, FORWARD), decay[0], decay[1])
    new = theta - learning_rate * rate * theta + step
    return ops.where(has_bit(mask, BACKWARD), new, theta)


def _effective_gradient(gradient, variable):
    """`dL/dw` from `dL/dtheta`, where the variable is a kernel's theta."""
    kernel = kernel_of(variable)
    if gradient is None or kernel is None or kernel.alpha == 1:
        return gradient
    gradient = as_tensor(gradient)

    def convert(gradient, theta):
        return weight_gradient(gradient, theta, kernel.alpha)

    theta = as_tensor(kernel.theta)
    return fused(convert, variable)(gradient, theta)


def _is_excluded(variable, excluded):
    """Whether the user excluded a variable from weight decay, as in Keras."""
    if any(variable is other for other in excluded.variables):
        return True
    return any(re.search(name, variable.name) for name in excluded.names)
