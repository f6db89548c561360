"""Divergences against NumPy, who gets a gradient, and the gradient field."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate
from scipy import stats

from keras_sparse_rl.losses import KLToDefault
from keras_sparse_rl.losses import kl_to_default
from keras_sparse_rl.losses import marginal_policy


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum(-1)


@pytest.mark.parametrize("seed", range(3))
def test_categorical_by_the_definition(seed):
    logits, others = np.random.default_rng(seed).normal(size=(2, 4, 3, 5))
    p, q = softmax(logits), softmax(others)
    found = kl_to_default(logits, others, alpha=0.3)
    np.testing.assert_allclose(found, 0.3 * divergence(p, q), rtol=1e-12)
    found = kl_to_default(logits, others, reverse=True)
    np.testing.assert_allclose(found, divergence(q, p), rtol=1e-12)
    entropy = -(p * np.log(p)).sum(-1)
    found = kl_to_default(logits)
    np.testing.assert_allclose(found, np.log(5) - entropy, rtol=1e-10)


def test_normal_by_integration():
    mean, scale, mean0, scale0 = 0.3, 0.7, -0.4, 1.9
    p, q = stats.norm(mean, scale), stats.norm(mean0, scale0)
    expected, _ = integrate.quad(
        lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -12, 12
    )
    one = np.ones((1, 2))  # two independent components
    found = kl_to_default(
        (mean * one, scale * one), (mean0 * one, scale0 * one)
    )
    np.testing.assert_allclose(found, [2 * expected], rtol=1e-8)
    back = kl_to_default(
        (mean0 * one, scale0 * one), (mean * one, scale * one), reverse=True
    )
    np.testing.assert_allclose(back, found, rtol=1e-12)


def test_extreme_logits_and_excluded_actions():
    first, second, third = np.array(
        [[[0.0, -np.inf]], [[0.0, 0.0]], [[800.0, 0.0]]]
    )
    np.testing.assert_allclose(kl_to_default(first, second), [np.log(2)])
    np.testing.assert_array_equal(kl_to_default(third, third), [0])
    np.testing.assert_array_equal(kl_to_default(third[:, ::-1], third), [800.0])


@pytest.mark.parametrize("learn", ["both", "policy", "default"])
@pytest.mark.parametrize("form", ["categorical", "normal"])
def test_who_gets_a_gradient(learn, form):
    generator = np.random.default_rng(0)
    policy, default = (
        [tf.constant(generator.uniform(0.5, 1, (2, 3))) for _ in range(2)]
        for _ in range(2)
    )
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([*policy, *default])
        if form == "categorical":
            loss = kl_to_default(policy[0], default[0], learn=learn)
        else:
            loss = kl_to_default(tuple(policy), tuple(default), learn=learn)
    gradients = [tape.gradient(loss, x) for x in (policy[0], default[0])]
    for name, found in zip(("policy", "default"), gradients):
        assert (found is not None) == (learn in ("both", name))
    if form == "categorical" and learn == "default":
        p, q = softmax(policy[0].numpy()), softmax(default[0].numpy())
        np.testing.assert_allclose(gradients[1], q - p, atol=1e-12)


def asymmetry(in_return, in_step, reverse, seed, discount):
    """Of the Jacobian of the expected update, on a random MDP."""
    generator = np.random.default_rng(seed)
    states, actions, alpha = 5, 3, 0.7
    # 5 % of the steps end the episode.
    step = 0.95 * generator.dirichlet(np.ones(states), (states, actions))
    reward = generator.normal(size=(states, actions))
    start = generator.dirichlet(np.ones(states))
    default = tf.constant(generator.normal(size=(states, actions)))
    logits = tf.constant(generator.normal(size=(states, actions)))
    eye = tf.eye(states, dtype=tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(logits)
        learned = tf.identity(logits)
        # Visits (weighted by discount^t) and values by linear solves.
        policy = tf.nn.softmax(logits)
        moves = discount * tf.einsum("sa,sax->sx", policy, step)
        visits = tf.linalg.solve(tf.transpose(eye - moves), start[:, None])
        paid = tf.constant(reward)
        if in_return:
            paid -= kl_to_default(logits, default, alpha, reverse=reverse)[
                :, None
            ]
        value = tf.linalg.solve(
            eye - moves, tf.reduce_sum(policy * paid, 1, keepdims=True)
        )
        quality = paid + discount * tf.einsum("sax,x->sa", step, value[:, 0])
        with tf.GradientTape() as inner:
            inner.watch(learned)
            loss = -tf.reduce_sum(
                visits * policy * quality * tf.nn.log_softmax(learned)
            )
            if in_step:
                loss += tf.reduce_sum(
                    visits[:, 0]
                    * kl_to_default(
                        learned, default, alpha, "policy", reverse=reverse
                    )
                )
        field = tf.reshape(inner.gradient(loss, learned), [-1])
    jacobian = outer.jacobian(field, logits)
    jacobian = jacobian.numpy().reshape(states * actions, -1)
    return np.linalg.norm(jacobian - jacobian.T) / np.linalg.norm(
        jacobian + jacobian.T
    )


@pytest.mark.parametrize(
    "seed, reverse, discount", [(0, False, 1.0), (1, False, 0.9), (2, True, 1)]
)
def test_in_return_and_step_it_is_a_gradient(seed, reverse, discount):
    assert asymmetry(True, True, reverse, seed, discount) < 1e-12
    assert asymmetry(False, True, reverse, seed, discount) > 1e-2
    assert asymmetry(True, False, reverse, seed, discount) > 1e-2


def test_marginal_policy_by_the_definition():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 50)
    information = generator.integers(0, 6, 50) * 2  # odd ones are never seen
    weight = generator.uniform(size=50)
    found = marginal_policy(probabilities, information, weight)
    for value, row in enumerate(found):
        chosen = information == value
        if not chosen.any():
            np.testing.assert_array_equal(row, 0.25)
            continue
        expected = np.average(probabilities[chosen], 0, weight[chosen])
        np.testing.assert_allclose(row, expected, rtol=1e-12)

    def total(default):
        each = divergence(probabilities, default[information])
        return (weight * each).sum()

    best = total(found)
    for _ in range(20):
        other = softmax(np.log(found) + 0.1 * generator.normal(size=(11, 4)))
        assert total(other) > best


def test_fitting_logged_policies_gives_the_marginal():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(64, 3)).astype("float32")
    information = generator.integers(0, 4, 64)
    default = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, use_bias=False)]
    )
    default.compile(keras.optimizers.Adam(0.1), KLToDefault())
    x = np.eye(4, dtype="float32")[information]
    steps = [np.tile(data, (150, 1)) for data in (x, logits)]
    default.fit(*steps, batch_size=64, shuffle=False, verbose=0)
    found = softmax(default.predict(np.eye(4), verbose=0))
    expected = marginal_policy(softmax(logits), information)
    assert 0.5 * np.abs(found - expected).sum(-1).max() < 1e-3


def test_loss_of_normal_heads():
    heads, others = np.random.default_rng(0).normal(size=(2, 5, 4))

    def parts(x):
        return x[:, :2], np.log1p(np.exp(x[:, 2:] + 0.5413)) + 1e-4

    loss = KLToDefault("normal")
    expected = np.mean(kl_to_default(parts(heads), parts(others)))
    assert float(loss(heads, others)) == pytest.approx(expected, rel=1e-6)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert float(again(heads, others)) == float(loss(heads, others))


def test_mistakes():
    logits, normal = np.zeros((2, 3)), (np.zeros((2, 3)), np.ones((2, 3)))
    for arguments, words in (
        ((logits, logits, -1.0), "`alpha`"),
        ((logits, logits, np.nan), "`alpha`"),
        ((logits, logits, 1.0, "prior"), "`learn`"),
        ((logits, logits, 1.0, "both", 1), "`reverse`"),
        ((logits, np.zeros((2, 4))), "one form"),
        ((logits, normal), "one form"),
        ((normal, None), "uniform"),
    ):
        with pytest.raises(ValueError, match=words):
            kl_to_default(*arguments)
    with pytest.raises(ValueError, match="`distribution`"):
        KLToDefault("gaussian")
    for arguments, words in (
        (([[0.5, 0.6]], [0]), "`probabilities`"),
        (([[0.5, 0.5]], [0, 1]), "`information`"),
        (([[0.5, 0.5]], [0.5]), "whole numbers"),
        (([[0.5, 0.5]], [0], [-1.0]), "`weight`"),
    ):
        with pytest.raises(ValueError, match=words):
            marginal_policy(*arguments)
