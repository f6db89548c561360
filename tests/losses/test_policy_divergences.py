"""Divergences against SciPy, sampling-free integrals and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate
from scipy import stats

from keras_sparse_rl import losses
from keras_sparse_rl.losses import Gaussian


def categorical(seed, shape=(2, 3, 4)):
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=shape)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return logits, probabilities


def test_categorical_by_the_definitions():
    (p_logits, p), (q_logits, q) = categorical(0), categorical(1)
    kl = stats.entropy(p, q, axis=-1)
    entropy = stats.entropy(p, axis=-1)
    for found, expected in (
        (losses.policy_kl(p_logits, q_logits), kl),
        (losses.policy_entropy(p_logits), entropy),
        (losses.policy_cross_entropy(p_logits, q_logits), kl + entropy),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-10)
    action = np.array([[0, 1, 2], [3, 0, 1]])
    np.testing.assert_allclose(
        losses.policy_log_probability(p_logits, action),
        np.log(np.take_along_axis(p, action[..., None], -1)[..., 0]),
        rtol=1e-10,
    )


def test_gaussian_by_integration():
    p = Gaussian(np.full((1, 1, 1), 0.3), np.full((1, 1, 1), 0.7))
    q = Gaussian(np.full((1, 1, 1), -0.2), np.full((1, 1, 1), 1.4))
    density, other = stats.norm(0.3, 0.7), stats.norm(-0.2, 1.4)

    def mean(function):
        return integrate.quad(
            lambda x: density.pdf(x) * function(x), -8, 8, epsabs=1e-12
        )[0]

    for found, expected in (
        (
            losses.policy_kl(p, q),
            mean(lambda x: density.logpdf(x) - other.logpdf(x)),
        ),
        (losses.policy_cross_entropy(p, q), mean(lambda x: -other.logpdf(x))),
        (losses.policy_entropy(p), density.entropy()),
        (
            losses.policy_log_probability(p, np.full((1, 1, 1), 1.1)),
            density.logpdf(1.1),
        ),
    ):
        assert float(found[0, 0]) == pytest.approx(expected, rel=1e-9)


def test_components_and_nests_are_summed():
    (p, _), (q, _) = categorical(0, (2, 3, 5, 4)), categorical(1, (2, 3, 5, 4))
    each = sum(losses.policy_kl(p[:, :, i], q[:, :, i]) for i in range(5))
    np.testing.assert_allclose(losses.policy_kl(p, q), each, rtol=1e-10)
    normal = Gaussian(np.zeros((2, 3, 2)), np.ones((2, 3, 2)))
    moved = Gaussian(np.ones((2, 3, 2)), np.ones((2, 3, 2)))
    nested = losses.policy_kl({"a": p, "b": normal}, {"a": q, "b": moved})
    np.testing.assert_allclose(nested, each + 1.0, rtol=1e-10)
    fewer = losses.policy_steps({"a": p, "b": [normal]}, 0, -1)
    assert fewer["a"].shape == (2, 2, 5, 4)
    assert fewer["b"][0].scale.shape == (2, 2, 2)


def test_impossible_actions_count_nothing_and_have_finite_gradients():
    p = tf.constant([[[0.0, 0.0, -np.inf]]], tf.float64)
    q = tf.constant([[[1.0, 0.0, -np.inf]]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([p, q])
        kl = losses.policy_kl(p, q)
        total = kl + losses.policy_cross_entropy(p, q)
    sigmoid = 1 / (1 + np.exp(-1.0))
    expected = stats.entropy([0.5, 0.5], [sigmoid, 1 - sigmoid])
    assert float(kl[0, 0]) == pytest.approx(expected, rel=1e-10)
    assert all(np.isfinite(g).all() for g in tape.gradient(total, [p, q]))


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_extreme_logits_stay_finite(size):
    p = tf.constant([[[size, -size, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(p)
        total = losses.policy_kl(p, -p) + losses.policy_entropy(p)
    assert np.isfinite(total).all()
    assert np.isfinite(tape.gradient(total, p)).all()
