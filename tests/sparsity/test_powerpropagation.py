"""Values and gradients against NumPy in float64 and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_sparse_rl.sparsity import effective_weight
from keras_sparse_rl.sparsity import masked_weight
from keras_sparse_rl.sparsity import theta_from_weight
from keras_sparse_rl.sparsity import weight_gradient
from keras_sparse_rl.sparsity import weight_gradient_factor

ALPHAS = [1, 1.25, 1.375, 1.5, 2, 2.5, 3, 4, 5]

thetas = hnp.arrays(
    "float64", st.integers(1, 20), elements=st.floats(-10, 10, width=64)
)


def reference(theta, alpha):
    return np.sign(theta) * np.abs(theta) ** alpha


@pytest.mark.parametrize("alpha", ALPHAS)
@given(theta=thetas)
@settings(max_examples=25, deadline=None)
def test_effective_weight(alpha, theta):
    np.testing.assert_allclose(
        effective_weight(theta, alpha),
        reference(theta, alpha),
        rtol=1e-12,
        atol=1e-300,  # TensorFlow flushes subnormal numbers to 0.
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@given(theta=thetas)
@settings(max_examples=25, deadline=None)
def test_theta_from_weight_is_the_inverse(alpha, theta):
    weight = np.array(effective_weight(theta, alpha))
    # Squares of tiny numbers vanish: there nothing can be recovered.
    kept = np.abs(theta) > 1e-50
    np.testing.assert_allclose(
        np.array(theta_from_weight(weight, alpha))[kept],
        theta[kept],
        rtol=1e-10,
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_against_finite_differences(alpha):
    generator = np.random.default_rng(0)
    theta = generator.normal(size=200)
    theta = np.where(np.abs(theta) < 0.01, 0.5, theta)
    step = 1e-5 * np.abs(theta)
    # Fourth-order central differences of the reference, not of our code.
    difference = (
        8 * (reference(theta + step, alpha) - reference(theta - step, alpha))
        - reference(theta + 2 * step, alpha)
        + reference(theta - 2 * step, alpha)
    ) / (12 * step)
    mask = np.full(theta.shape, 3, "uint8")
    variable = tf.Variable(theta)
    with tf.GradientTape() as tape:
        weight = masked_weight(variable, mask, alpha)
        loss = tf.reduce_sum(weight)
    np.testing.assert_allclose(
        tape.gradient(loss, variable), difference, rtol=1e-6
    )
    np.testing.assert_allclose(
        weight_gradient_factor(theta, alpha), difference, rtol=1e-6
    )


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_gradient_is_finite_everywhere(alpha, dtype):
    values = [0.0, -0.0, 1e-45, -1e-45, 1e-30, -1e-30, 1e-8, 1.0, -2.0]
    theta = tf.Variable(tf.cast(tf.constant(values, "float64"), dtype))
    mask = np.full(len(values), 3, "uint8")
    for compute in ("float16", "bfloat16", dtype):
        with tf.GradientTape() as tape:
            weight = masked_weight(theta, mask, alpha, dtype=compute)
            loss = tf.reduce_sum(weight)
        gradient = tape.gradient(loss, theta)
        assert gradient.dtype == dtype
        assert np.isfinite(np.array(gradient, "float64")).all()
        assert np.isfinite(np.array(weight, "float64")).all()


def test_gradient_at_zero():
    for alpha, expected in ((1, 1.0), (1.5, 0.0), (2, 0.0), (3, 0.0)):
        theta = tf.Variable([0.0])
        with tf.GradientTape() as tape:
            loss = masked_weight(theta, np.array([3], "uint8"), alpha)
        assert tape.gradient(loss, theta).numpy() == [expected]


def test_half_precision_does_not_underflow():
    # In float16 itself 0.01**4 would be 0.
    theta = tf.constant([0.1], "float16")
    weight = masked_weight(theta, np.array([3], "uint8"), 5.0)
    np.testing.assert_allclose(np.array(weight, "float64"), [1e-5], rtol=1e-2)


def test_masks_forward_and_backward():
    theta = tf.Variable([2.0, 2.0, 2.0, 2.0])
    mask = np.array([0, 1, 2, 3], "uint8")
    with tf.GradientTape() as tape:
        weight = masked_weight(theta, mask, 3.0)
        loss = tf.reduce_sum(weight * [1.0, 10.0, 100.0, 1000.0])
    assert weight.numpy().tolist() == [0.0, 8.0, 0.0, 8.0]
    # 3 * theta**2 = 12, in B alone, whatever the forward value.
    assert tape.gradient(loss, theta).numpy().tolist() == [0, 0, 1200, 12000]


@pytest.mark.parametrize("alpha", [1, 1.5, 2, 3, 4])
def test_large_kernels_are_fused_to_the_same_numbers(alpha):
    generator = np.random.default_rng(0)
    theta = tf.Variable(generator.normal(size=(300, 300)).astype("float32"))
    mask = tf.constant(generator.integers(0, 4, (300, 300)).astype("uint8"))
    upstream = generator.normal(size=(300, 300)).astype("float32")

    @tf.function
    def value_and_gradient(fuse):
        with tf.GradientTape() as tape:
            weight = masked_weight(theta, mask, alpha, fuse=fuse)
            loss = tf.reduce_sum(weight * upstream)
        return weight, tape.gradient(loss, theta)

    weight, gradient = value_and_gradient(True)
    wide = theta.numpy().astype("float64")
    bits = mask.numpy()
    np.testing.assert_allclose(
        weight, reference(wide, alpha) * (bits & 1), rtol=1e-5
    )
    factor = alpha * np.abs(wide) ** (alpha - 1)
    np.testing.assert_allclose(
        gradient, upstream * factor * (bits >> 1), rtol=1e-5
    )


@pytest.mark.parametrize("alpha", ALPHAS)
def test_weight_gradient_undoes_the_factor(alpha):
    generator = np.random.default_rng(0)
    theta, gradient = generator.normal(size=(2, 50))
    factor = alpha * np.abs(theta) ** (alpha - 1)
    np.testing.assert_allclose(
        weight_gradient(gradient * factor, theta, alpha), gradient, rtol=1e-9
    )


def test_second_derivative():
    theta = tf.Variable([1.0, -2.0])
    mask = np.array([3, 3], "uint8")
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = tf.reduce_sum(masked_weight(theta, mask, 3.0))
        first = inner.gradient(loss, theta)
    # d/dtheta of 3 theta**2 is 6 theta.
    assert first.numpy().tolist() == [3.0, 12.0]
    assert outer.gradient(first, theta).numpy().tolist() == [6.0, -12.0]
