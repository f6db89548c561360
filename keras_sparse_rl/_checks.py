"""Argument checks: each error names the argument, the value and the remedy."""

import math
import numbers

import numpy as np


def check_alpha(alpha):
    """Returns `alpha` as a float, or says why it cannot be an exponent."""
    if not _is_number(alpha) or not math.isfinite(alpha) or alpha < 1:
        raise ValueError(
            "`alpha` is the exponent of Powerpropagation and must be a finite "
            f"number of at least 1 (1 is the ordinary layer). Received: "
            f"alpha={alpha!r}. Typical values are 2.0 to 4.0."
        )
    return float(alpha)


def check_density(name, value):
    """Returns `value` as a float in (0, 1], or says what a density is."""
    if not _is_number(value) or not 0 < value <= 1:
        raise ValueError(
            f"`{name}` is the share of weights that is kept and must lie in "
            f"(0, 1]. Received: {name}={value!r}. For 90 % sparsity write "
            f"{name}=0.1."
        )
    return float(value)


def check_integer(name, value, minimum=1):
    """Returns `value` as an int of at least `minimum`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or value < minimum
    ):
        raise ValueError(
            f"`{name}` must be a whole number of at least {minimum}. "
            f"Received: {name}={value!r}."
        )
    return int(value)


def check_finite(name, value):
    """Returns `value` as a finite float."""
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}."
        )
    return float(value)


def check_share(name, value):
    """Returns `value` as a float in [0, 1)."""
    if not _is_number(value) or not 0 <= value < 1:
        raise ValueError(
            f"`{name}` is a share and must lie in [0, 1). "
            f"Received: {name}={value!r}."
        )
    return float(value)


def check_unit(name, value):
    """Returns `value` as a float in [0, 1]."""
    value = check_finite(name, value)
    if not 0 <= value <= 1:
        raise ValueError(
            f"`{name}` must lie in [0, 1]. Received: {name}={value!r}."
        )
    return value


def check_flag(name, value):
    """Returns `value` if it is a bool."""
    if not isinstance(value, bool):
        raise ValueError(
            f"`{name}` must be True or False. Received: {name}={value!r}."
        )
    return value


def check_non_negative(name, value):
    """Returns `value` as a finite float of at least 0."""
    if not _is_number(value) or not math.isfinite(value) or value < 0:
        raise ValueError(
            f"`{name}` must be a finite number of at least 0. "
            f"Received: {name}={value!r}."
        )
    return float(value)


def check_positive(name, value):
    """Returns `value` as a finite float above 0."""
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise ValueError(
            f"`{name}` must be a finite number above 0. "
            f"Received: {name}={value!r}."
        )
    return float(value)


def check_choice(name, value, choices):
    """Returns `value` if it is one of `choices`."""
    if value not in choices:
        options = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"`{name}` must be one of {options}. Received: {name}={value!r}."
        )
    return value


def check_alphas(name, value, number=None):
    """Returns `value` if it can be shares that sum to 1, `number` of them.

    Of tensors and variables, whose numbers may be unknown yet, the shape alone
    is checked.
    """
    wanted = "" if number is None else f"{number} "
    shape = getattr(value, "shape", None)
    if isinstance(value, (list, tuple, np.ndarray)):
        shares = np.asarray(value, "float64")
        good = (
            np.all(shares >= 0)
            and shares.ndim
            and np.allclose(shares.sum(-1), 1, rtol=0, atol=1e-5)
        )
        shape = shares.shape if good else None
    if not shape or (number is not None and shape[-1] != number):
        raise ValueError(
            f"`{name}` must be {wanted}shares of policies, none negative and "
            f"1 in sum. Received: {name}={value!r}. For two policies write "
            f"{name}=[1 - alpha, alpha]."
        )
    return value


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def fits(shape, expected):
    """Whether two shapes can be the same where both are known."""
    return len(shape) == len(expected) and all(
        None in (found, wanted) or found == wanted
        for found, wanted in zip(shape, expected)
    )


def check_same_shape(tensors, axes):
    """Raises unless all tensors of a dict have one shape with these axes.

    Unknown lengths fit every length.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first = next(iter(shapes.values()))
    if not all(
        len(shape) == len(axes) and fits(shape, first)
        for shape in shapes.values()
    ):
        raise ValueError(
            f"All of {list(shapes)} must have one shape, ({', '.join(axes)}). "
            f"Received shapes: {shapes}."
        )


def check_per_step(tensors, lead):
    """Raises unless tensors of a dict have the shape of the inputs' steps.

    Args:
        tensors: dict of name to tensor, or None where there is none.
        lead: tuple of the inputs' first two lengths, `(batch, time)`.
    """
    batch, time = lead
    for name, tensor in tensors.items():
        if tensor is not None and not fits(tensor.shape, lead):
            raise ValueError(
                f"`{name}` must have the shape (batch, time) of the inputs = "
                f"({batch}, {time}). Received: {name} of shape "
                f"{tuple(tensor.shape)}."
            )
