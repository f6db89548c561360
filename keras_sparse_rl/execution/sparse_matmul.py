"""Products with a sparse matrix and their gradients."""

import tensorflow as tf

from keras_sparse_rl.execution.sparse_ops import load_sparse_ops
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.kernels.powerpropagation import has_bit

_TRANSPOSE = "KerasSparseRlTranspose"


def sparse_matmul(x, values, layout, bias=None, observe=None):
    """`W^T x + b` for feature-major activations, on the non-zeros alone.

    The gradient of `values` is taken at the backward set, that of `x` flows
    through the forward set. Sums are float32.

    Args:
        x: float32 or bfloat16 tensor `(inputs, batch)`.
        values: float32 tensor `(capacity,)`, the entries of the matrix.
        layout: `SparseLayout` of tensors.
        bias: float32 tensor `(outputs,)`, or None.
        observe: function, optional; called where gradients are computed, with
            a function that gives that of the dense matrix.

    Returns:
        Tensor `(outputs, batch)` of the dtype of `x`.
    """
    ops = load_sparse_ops()
    begin, middle, end = tf.unstack(layout.bounds)
    no_order = tf.zeros([0], "int32")
    no_bias = tf.zeros([0])

    @tf.custom_gradient
    def product(x, values, added):
        y = ops.keras_sparse_rl_matmul(
            values, no_order, layout.inputs, begin, middle, added, x
        )

        def gradient(upstream):
            if observe is not None:
                observe(lambda: tf.matmul(x, upstream, transpose_b=True))
            # What no one asks for is cut out of the graph.
            by_input = tf.unstack(layout.bounds_by_input)
            return (
                ops.keras_sparse_rl_matmul(
                    values,
                    layout.entries_by_input,
                    layout.outputs_by_input,
                    *by_input,
                    no_bias,
                    upstream,
                ),
                ops.keras_sparse_rl_sampled_matmul(
                    layout.mask, layout.inputs, begin, end, upstream, x
                ),
                None
                if bias is None
                else tf.reduce_sum(tf.cast(upstream, "float32"), axis=1),
            )

        return y, gradient

    return product(x, values, no_bias if bias is None else bias)


def transpose(x):
    """The transpose of a matrix; that of a transpose is what it came from.

    So a chain of sparse layers, each of which transposes what comes in and
    what goes out, does so at its ends alone: what lies between is asked for
    by no one and is cut out of the graph.

    Args:
        x: float32, bfloat16 or float16 tensor of two axes.

    Returns:
        Tensor of the same dtype.
    """
    ops = load_sparse_ops()
    if tf.is_symbolic_tensor(x) and x.op.type == _TRANSPOSE:
        source = x.op.inputs[0]

        @tf.custom_gradient
        def cancelled(x):
            # The result hangs on `x`, so that one may ask for its gradient.
            return tf.identity(source), transpose

        return cancelled(x)
    return ops.keras_sparse_rl_transpose(x)


@tf.RegisterGradient(_TRANSPOSE)
def _transpose_gradient(op, upstream):
    return transpose(upstream)


def masked_matmul(x, values, layout, num_inputs, observe=None):
    """The same with dense products of batch-major activations.

    Args:
        x: tensor `(batch, inputs)` of any float dtype.
        values: tensor `(capacity,)`.
        layout: `SparseLayout` of tensors.
        num_inputs: int.
        observe: as in `sparse_matmul`.

    Returns:
        Tensor `(batch, outputs)` of the dtype of `x`.
    """
    values = tf.cast(values, x.dtype)

    @tf.custom_gradient
    def product(x, values):
        weight = scatter(values, layout, num_inputs)

        def gradient(upstream):
            dense = tf.matmul(x, upstream, transpose_a=True)
            if observe is not None:
                observe(lambda: dense)
            entries = tf.gather_nd(dense, _coordinates(layout))
            is_trained = tf.cast(has_bit(layout.mask, BACKWARD), dense.dtype)
            return (
                tf.matmul(upstream, weight, transpose_b=True),
                entries * is_trained,
            )

        return tf.matmul(x, weight), gradient

    return product(x, values)


def scatter(values, layout, num_inputs):
    """The dense matrix `(inputs, outputs)` of the entries in A."""
    is_used = tf.cast(has_bit(layout.mask, FORWARD), values.dtype)
    num_outputs = tf.shape(layout.bounds)[1]
    # Room left over adds zeros to some weight.
    return tf.scatter_nd(
        _coordinates(layout), values * is_used, [num_inputs, num_outputs]
    )


def _coordinates(layout):
    """`(input, output)` of each entry, int32 `(capacity, 2)`."""
    entries = tf.range(tf.size(layout.inputs))
    outputs = tf.searchsorted(layout.bounds[2], entries, side="right")
    last = tf.shape(layout.bounds)[1] - 1
    return tf.stack([layout.inputs, tf.minimum(outputs, last)], axis=1)
