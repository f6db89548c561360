import re

import keras
from keras import ops

from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropEinsumDense(PowerpropLayer):
    """`keras.layers.EinsumDense` with weights `theta * |theta|**(alpha - 1)`.

    See "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1, and `PowerpropDense`.
    With `alpha=1` this is `keras.layers.EinsumDense` exactly.

    Args:
        equation, output_shape, activation, bias_axes, kernel_initializer,
            bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint: as in
            `keras.layers.EinsumDense`; what is said of the kernel acts on
            the effective kernel.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor shaped as the first term of `equation`.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as the second term of `equation`.
        kernel: tensor of that shape, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor shaped as the output term of `equation`.

    Raises:
        ValueError: if `equation` is not of the form `"ab,bc->ac"` (an
            ellipsis may lead or end the first and the last term), does not
            fit `output_shape` or `bias_axes`, or `alpha` is below 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropEinsumDense
    >>> layer = PowerpropEinsumDense("abc,cd->abd", (None, 5), alpha=2.0)
    >>> layer(keras.ops.ones((2, 3, 4))).shape
    TensorShape([2, 3, 5])
    """

    def __init__(
        self,
        equation,
        output_shape,
        activation=None,
        bias_axes=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        alpha=2.0,
        **kwargs,
    ):
        super().__init__(
            alpha=alpha,
            activation=activation,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            **kwargs,
        )
        self.equation = equation
        if isinstance(output_shape, int):
            output_shape = (output_shape,)
        self.partial_output_shape = tuple(output_shape)
        self.bias_axes = bias_axes
        self._terms = _split(equation)

    def build(self, input_shape):
        output = self.compute_output_shape(input_shape)
        inputs_term, kernel_term, output_term = self._terms
        lengths = {
            **_lengths(inputs_term, input_shape),
            **_lengths(output_term, output),
        }
        missing = set(kernel_term) - set(lengths)
        if missing:
            raise ValueError(
                f"Kernel axes {sorted(missing)} stand in neither the inputs "
                f"nor the output of equation={self.equation!r}."
            )
        kernel_shape = tuple(lengths[axis] for axis in kernel_term)
        self.build_weights(kernel_shape, self._bias_shape(output, lengths))

    def call(self, inputs, training=False):
        kernel = self.kernel_for_call(training)
        return self.finish(ops.einsum(self.equation, inputs, kernel))

    def compute_output_shape(self, input_shape):
        inputs_term, _, output_term = self._terms
        known = _lengths(inputs_term, input_shape)
        named = output_term.replace("...", "")
        elided = len(input_shape) - len(inputs_term.replace("...", ""))
        # The batch axis is not part of `output_shape`, as in Keras.
        start = 0 if output_term.startswith("...") else 1
        axes = named[start:]
        if len(self.partial_output_shape) != len(axes):
            raise ValueError(
                f"`output_shape` must give the length of each axis of "
                f"{output_term!r} but the batch (None where it follows from "
                f"the inputs). Received: "
                f"output_shape={self.partial_output_shape}."
            )
        given = dict(zip(axes, self.partial_output_shape))
        for axis, length in given.items():
            if length is not None and known.get(axis) not in (None, length):
                raise ValueError(
                    f"Axis {axis!r} of equation={self.equation!r} has length "
                    f"{known[axis]} in the inputs and {length} in "
                    f"output_shape={self.partial_output_shape}."
                )
        lengths = tuple(
            given[axis] if given.get(axis) is not None else known.get(axis)
            for axis in named
        )
        if output_term.startswith("..."):
            return (*input_shape[:elided], *lengths)
        if output_term.endswith("..."):
            return (*lengths, *input_shape[len(input_shape) - elided :])
        return lengths

    def _bias_shape(self, output_shape, lengths):
        """Ones but for the bias axes, from the first of them to the end."""
        if not self.bias_axes:
            return None
        output_term = self._terms[2]
        named = output_term.replace("...", "")
        unknown = set(self.bias_axes) - set(named)
        if unknown:
            raise ValueError(
                f"`bias_axes` must stand in the output {output_term!r}. "
                f"Received: bias_axes={self.bias_axes!r}."
            )
        first = min(named.index(axis) for axis in self.bias_axes)
        shape = tuple(
            lengths[axis] if axis in self.bias_axes else 1
            for axis in named[first:]
        )
        if output_term.endswith("..."):
            shape += (1,) * (len(output_shape) - len(named))
        return shape

    def get_config(self):
        config = super().get_config()
        del config["use_bias"]
        config.update(
            {
                "equation": self.equation,
                "output_shape": self.partial_output_shape,
                "bias_axes": self.bias_axes,
            }
        )
        return config


def _split(equation):
    """The three terms of an equation, which must have one kernel."""
    match = re.fullmatch(
        r"((?:\.\.\.)?[a-zA-Z]+|[a-zA-Z]+\.\.\.),([a-zA-Z]+)"
        r"->((?:\.\.\.)?[a-zA-Z]+|[a-zA-Z]+\.\.\.)",
        equation.replace(" ", ""),
    )
    if match is None:
        raise ValueError(
            "`equation` must have the form 'ab,bc->ac', with an ellipsis at "
            "most at the start or the end of the first and the last term. "
            f"Received: equation={equation!r}."
        )
    return match.groups()


def _lengths(term, shape):
    """Length of each named axis of `term`."""
    named = term.replace("...", "")
    if "..." not in term and len(named) != len(shape):
        raise ValueError(
            f"The term {term!r} has {len(named)} axes, the tensor "
            f"{len(shape)}: {tuple(shape)}."
        )
    part = shape[-len(named) :] if term.startswith("...") else shape
    return dict(zip(named, part))
