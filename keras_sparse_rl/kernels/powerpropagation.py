"""Powerpropagation's mathematics, as pure functions of tensors.

A weight is stored as `theta` and used as `w = theta * |theta|**(alpha - 1)`
(Schwarz et al. 2021, https://arxiv.org/abs/2110.00296, equation 1), so that
`dw/dtheta = alpha * |theta|**(alpha - 1)`: large weights learn faster and
small ones hardly move.
"""

import keras
from keras import ops

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.kernels.masks import BACKWARD
from keras_sparse_rl.kernels.masks import FORWARD
from keras_sparse_rl.kernels.on_tensorflow import IS_TENSORFLOW
from keras_sparse_rl.kernels.on_tensorflow import as_tensor
from keras_sparse_rl.kernels.on_tensorflow import fused

_HALF_PRECISION = ("float16", "bfloat16")


def effective_weight(theta, alpha):
    """The weight `theta * |theta|**(alpha - 1)` that the layer uses.

    See "Powerpropagation" by Schwarz et al. 2021, equation 1. Not meant to
    be differentiated: use `masked_weight` inside a layer.

    Args:
        theta: tensor of any shape, the trained parameters.
        alpha: float, the exponent, at least 1.

    Returns:
        Tensor of the same shape and dtype as `theta`.

    Example:

    >>> from keras_sparse_rl.sparsity import effective_weight
    >>> effective_weight([-3.0, 0.0, 0.5], alpha=2.0).numpy().tolist()
    [-9.0, 0.0, 0.25]
    """
    alpha, theta = check_alpha(alpha), as_tensor(theta)
    if alpha == 1:
        return theta
    return _in_float32(lambda x: x * _power(ops.absolute(x), alpha - 1), theta)


def theta_from_weight(weight, alpha):
    """The parameters whose effective weight is `weight`.

    The inverse of `effective_weight`: `sign(w) * |w|**(1 / alpha)`. Layers
    draw their initial weights from the usual initializer and store this, so
    that every `alpha` starts from the same network.

    Args:
        weight: tensor of any shape.
        alpha: float, the exponent, at least 1.

    Returns:
        Tensor of the same shape and dtype as `weight`.

    Example:

    >>> from keras_sparse_rl.sparsity import theta_from_weight
    >>> theta_from_weight([-9.0, 0.0, 0.25], alpha=2.0).numpy().tolist()
    [-3.0, 0.0, 0.5]
    """
    alpha, weight = check_alpha(alpha), as_tensor(weight)
    if alpha == 1:
        return weight
    if alpha == 2:
        return ops.sign(weight) * ops.sqrt(ops.absolute(weight))
    return _in_float32(
        lambda x: ops.sign(x) * ops.power(ops.absolute(x), 1 / alpha), weight
    )


def weight_gradient_factor(theta, alpha):
    """`dw/dtheta = alpha * |theta|**(alpha - 1)`, finite everywhere.

    Written out rather than left to automatic differentiation, which gives
    NaN at `theta = 0` for every `alpha` below 2.

    Args:
        theta: tensor of any shape.
        alpha: float, the exponent, at least 1.

    Returns:
        Tensor of the same shape and dtype as `theta`, at least 0.

    Example:

    >>> from keras_sparse_rl.sparsity import weight_gradient_factor
    >>> weight_gradient_factor([-3.0, 0.0, 0.5], alpha=2.0).numpy().tolist()
    [6.0, 0.0, 1.0]
    """
    alpha, theta = check_alpha(alpha), as_tensor(theta)
    if alpha == 1:
        return ops.ones_like(theta)
    return _in_float32(
        lambda x: alpha * _power(ops.absolute(x), alpha - 1), theta
    )


def masked_weight(theta, mask, alpha, dtype=None, fuse=False, observe=None):
    """The kernel a layer multiplies with: effective where the mask says so.

    Forward, the weights outside the forward set A are zero; backward, the
    gradient reaches `theta` in the backward set B alone (Top-KAST, Jayakumar
    et al. 2020, section 2), also where the forward value is zero.

    Args:
        theta: tensor of any shape.
        mask: uint8 tensor of the same shape, bits as in `sparsity.masks`.
        alpha: float, the exponent, at least 1.
        dtype: dtype of the result, by default that of `theta`. The power is
            taken in at least float32 and cast afterwards.
        fuse: whether large kernels may be computed in one XLA pass.
        observe: function, optional; called where the gradient is computed,
            with a function that gives the gradient of the result.

    Returns:
        Tensor of the shape of `theta`. Its gradient is exact and finite.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.sparsity import masked_weight
    >>> mask = np.array([3, 2, 0], "uint8")  # in A; in B only; in neither
    >>> masked_weight([-3.0, 2.0, 0.5], mask, alpha=2.0).numpy().tolist()
    [-9.0, 0.0, 0.0]
    """
    alpha, theta = check_alpha(alpha), as_tensor(theta)
    mask, dtype = as_tensor(mask), dtype or theta.dtype
    if not IS_TENSORFLOW:
        return _masked_by_stopped_gradients(theta, mask, alpha, dtype)

    def forward(theta, mask):
        weight = ops.cast(effective_weight(_widen(theta), alpha), dtype)
        return weight * ops.cast(has_bit(mask, FORWARD), dtype)

    def backward(upstream, theta, mask):
        wide = _widen(theta)
        gradient = ops.cast(upstream, wide.dtype)
        if alpha != 1:
            gradient = gradient * weight_gradient_factor(wide, alpha)
        gradient = gradient * ops.cast(has_bit(mask, BACKWARD), wide.dtype)
        return ops.cast(gradient, theta.dtype)

    if fuse:
        forward, backward = fused(forward, theta), fused(backward, theta)

    @ops.custom_gradient
    def masked(theta, mask):
        def gradient(upstream):
            if observe is not None:
                observe(lambda: upstream)
            return backward(upstream, theta, mask), None

        return forward(theta, mask), gradient

    return masked(theta, mask)


def _masked_by_stopped_gradients(theta, mask, alpha, dtype):
    """The same numbers and gradient where `custom_gradient` has another form.

    The second term is 0; its gradient is the factor in B. Differentiating the
    power itself would give NaN at 0.
    """
    wide = ops.stop_gradient(_widen(theta))
    used = ops.cast(has_bit(mask, FORWARD), wide.dtype)
    trained = ops.cast(has_bit(mask, BACKWARD), wide.dtype)
    value = ops.stop_gradient(effective_weight(wide, alpha) * used)
    slope = ops.stop_gradient(weight_gradient_factor(wide, alpha) * trained)
    return ops.cast(value + (_widen(theta) - wide) * slope, dtype)


def weight_gradient(theta_gradient, theta, alpha):
    """Turns the gradient of `theta` into that of the effective weight.

    Args:
        theta_gradient: tensor, `dL/dtheta`.
        theta: tensor of the same shape.
        alpha: float, the exponent, at least 1.

    Returns:
        Tensor `dL/dw`, and 0 where the factor `dw/dtheta` is 0.

    Example:

    >>> from keras_sparse_rl.sparsity import weight_gradient
    >>> weight_gradient([6.0, 0.0], [3.0, 0.0], alpha=2.0).numpy().tolist()
    [1.0, 0.0]
    """
    theta_gradient = as_tensor(theta_gradient)
    if check_alpha(alpha) == 1:
        return theta_gradient
    return ops.divide_no_nan(
        theta_gradient, weight_gradient_factor(theta, alpha)
    )


def has_bit(mask, bit):
    """Boolean tensor: where a `uint8` mask has `bit` set.

    Args:
        mask: uint8 tensor.
        bit: int, `FORWARD` or `BACKWARD`.
    """
    return ops.not_equal(ops.bitwise_and(mask, ops.cast(bit, "uint8")), 0)


def _power(magnitude, exponent):
    """`magnitude**exponent` for magnitudes >= 0, by products where it can.

    `pow` costs ten times a product, and the usual exponents need none.
    """
    whole = int(exponent)
    rest = exponent - whole
    if whole > 8 or rest not in (0.0, 0.5):
        return ops.power(magnitude, exponent)
    factors = [magnitude] * whole
    if rest:
        factors.append(ops.sqrt(magnitude))
    product = factors[0]
    for factor in factors[1:]:
        product = product * factor
    return product


def _widen(theta):
    if keras.backend.standardize_dtype(theta.dtype) in _HALF_PRECISION:
        return ops.cast(theta, "float32")
    return theta


def _in_float32(function, x):
    """Half precision underflows in powers: compute wide, return as given."""
    return ops.cast(function(_widen(x)), x.dtype)
