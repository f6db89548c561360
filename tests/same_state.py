"""Bit-for-bit equality of two compiled models."""

import numpy as np


def assert_same_state(model, other):
    """All weights, masks and optimizer variables have the same bits."""
    for a, b in zip(
        model.weights + model.optimizer.variables,
        other.weights + other.optimizer.variables,
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
