"""Mixtures and their matching loss against float64 written from equations."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_sparse_rl.losses import MixAndMatch
from keras_sparse_rl.losses import mix_and_match_loss
from keras_sparse_rl.losses import mixture_log_prob


def tables(seed=0, lead=(2, 3), policies=3, actions=5):
    """Log-probabilities `(*lead, policies, actions)` and shares."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (*lead, policies, actions))
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return log_p, generator.dirichlet(np.ones(policies))


def divergences(log_p, alphas):
    total = 0.0
    policies = log_p.shape[-2]
    for j in range(policies):
        for i in range(j):
            p, q = np.exp(log_p[..., i, :]), np.exp(log_p[..., j, :])
            ratio = np.where(p > 0, p, 1) / np.where(p > 0, q, 1)
            each = p * np.log(ratio)
            total = total + alphas[i] * each.sum(-1)
    return total


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 6))
def test_values_equal_the_equations(seed, policies, actions):
    log_p, alphas = tables(seed, (2,), policies, actions)
    chosen = log_p[..., 0]
    np.testing.assert_allclose(
        mixture_log_prob(chosen, list(alphas)),
        np.log((alphas * np.exp(chosen)).sum(-1)),
        rtol=1e-12,
        atol=1e-14,
    )
    np.testing.assert_allclose(
        mix_and_match_loss(log_p, list(alphas)),
        divergences(log_p, alphas) + np.zeros(2),
        rtol=1e-12,
        atol=1e-14,
    )


def test_by_hand():
    log_p = np.log([[0.5, 0.5], [0.25, 0.75]])
    found = float(mixture_log_prob(log_p[:, 0], [0.25, 0.75]))
    assert found == pytest.approx(np.log(0.3125))
    kl = 0.5 * np.log(2) + 0.5 * np.log(2 / 3)
    for alpha in (0.0, 0.25, 1.0):
        found = float(mix_and_match_loss(log_p, [1 - alpha, alpha]))
        assert found == pytest.approx((1 - alpha) * kl)


@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.3, 1.0])
def test_gradients_are_the_responsibilities(alpha):
    log_p, _ = tables(policies=2)
    chosen = tf.constant(log_p[..., 0])
    alphas = tf.constant([1 - alpha, alpha], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch([chosen, alphas])
        total = tf.reduce_sum(mixture_log_prob(chosen, alphas))
    found, by_alpha = tape.gradient(total, [chosen, alphas])
    p = np.exp(log_p[..., 0])
    mixed = (alphas.numpy() * p).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, alphas * p / mixed, rtol=1e-12)
    np.testing.assert_allclose(by_alpha, (p / mixed).sum((0, 1)), rtol=1e-12)


def test_the_mixtures_gradient_equals_finite_differences():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(3, 4))
    alphas = [0.2, 0.3, 0.5]

    def value(x):
        x = x - np.log(np.exp(x).sum(-1, keepdims=True))
        mixed = np.log(alphas @ np.exp(x))
        return mixed[1] + divergences(x, alphas)

    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_p = tf.nn.log_softmax(x)
        total = mixture_log_prob(log_p[:, 1], alphas)
        total += mix_and_match_loss(log_p, alphas, stop_target_gradients=False)
    found = tape.gradient(total, x).numpy()
    for place in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[place] = 1e-6
        expected = (value(logits + step) - value(logits - step)) / 2e-6
        assert found[place] == pytest.approx(expected, abs=1e-8)


def test_a_target_has_no_gradient_unless_it_is_asked_for():
    for stopped in (True, False):
        x = tf.constant(tables(policies=2)[0])
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = mix_and_match_loss(x, [0.5, 0.5], stopped)
        simple = tape.gradient(loss, x).numpy()[..., 0, :]
        assert (np.abs(simple).max() == 0) == stopped


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_finite_for_impossible_actions(dtype, jit_compile):
    logits = tf.constant(
        [[1.0, 0.0, -np.inf, -np.inf], [0.0, 1.0, 2.0, -np.inf]], dtype
    )

    @tf.function(jit_compile=jit_compile)
    def run(alphas):
        with tf.GradientTape() as tape:
            tape.watch([logits, alphas])
            log_p = tf.nn.log_softmax(logits)
            each = mixture_log_prob(tf.transpose(log_p), alphas)
            matching = mix_and_match_loss(log_p, alphas)
            total = tf.reduce_sum(each) + matching
        return each, matching, tape.gradient(total, [logits, alphas])

    p = tf.nn.softmax(logits).numpy()
    kl = (p[0, :2] * np.log(p[0, :2] / p[1, :2])).sum()
    for alpha in (0.0, 0.5, 1.0):
        shares = tf.constant([1 - alpha, alpha], dtype)
        each, matching, gradients = run(shares)
        expected = (1 - alpha) * p[0] + alpha * p[1]
        np.testing.assert_allclose(np.exp(each), expected, rtol=1e-5)
        assert np.isfinite(each).all() and float(each[3]) < -1e6
        assert float(matching) == pytest.approx((1 - alpha) * kl, rel=1e-5)
        for gradient in gradients:
            assert np.isfinite(gradient).all()


def test_a_share_of_one_gives_that_policys_bits():
    generator = np.random.default_rng(0)
    log_p = generator.normal(-1, 1, (1000, 2)).astype("float32")
    for alphas, policy in (([1.0, 0.0], 0), ([0.0, 1.0], 1)):
        x = tf.constant(log_p)
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = mixture_log_prob(x, alphas)
        np.testing.assert_array_equal(found, log_p[:, policy])
        gradient = tape.gradient(found, x).numpy()
        np.testing.assert_array_equal(gradient[:, policy], 1)
        np.testing.assert_array_equal(gradient[:, 1 - policy], 0)


@pytest.mark.parametrize("shape", [(6,), (6, 4)])
def test_fit_equals_the_functions(shape):
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(*shape, 2, 5)).astype("float32")
    action = generator.integers(0, 5, shape)
    model = keras.Sequential([keras.Input(logits.shape[1:])])
    model.compile("sgd", MixAndMatch([0.4, 0.6], matching_coefficient=0.7))
    log_p = logits.astype("float64")
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    chosen = np.take_along_axis(log_p, action[..., None, None], -1)[..., 0]
    mixed = np.log((np.exp(chosen) * [0.4, 0.6]).sum(-1))
    expected = 0.7 * divergences(log_p, [0.4, 0.6]) - mixed
    found = model.evaluate(logits, action, verbose=0)
    assert found == pytest.approx(expected.mean(), rel=1e-5)
    weights = generator.random(shape)
    found = model.evaluate(logits, action, sample_weight=weights, verbose=0)
    assert found == pytest.approx((expected * weights).mean(), rel=1e-4)


def test_shares_move_while_fit_runs_and_the_loss_is_saved(tmp_path):
    shares = keras.Variable([1.0, 0.0], trainable=False)
    model = keras.Sequential([keras.Input((2, 3)), keras.layers.Rescaling(1.0)])
    model.compile("sgd", MixAndMatch(shares, matching_coefficient=0.0))
    logits = np.array([[[5.0, 0, 0], [0, 0, 5.0]]] * 4, "float32")
    move = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: shares.assign([1 - epoch, epoch])
    )
    found = model.fit(
        logits, np.zeros(4), epochs=2, verbose=0, callbacks=[move]
    ).history["loss"]
    normalizer = np.log(np.exp(5) + 2)
    np.testing.assert_allclose(found, [normalizer - 5, normalizer], rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config()["alphas"] == [0.0, 1.0]


def test_bad_arguments():
    log_p, _ = tables(policies=2)
    for alphas in ([0.5, 0.6], [1.5, -0.5], [1.0], [0.2] * 5, 0.5, [np.nan, 1]):
        for function, x in (
            (mixture_log_prob, log_p[..., 0]),
            (mix_and_match_loss, log_p),
        ):
            with pytest.raises(ValueError, match="`alphas` must be 2 shares"):
                function(x, alphas)
    with pytest.raises(ValueError, match="`alphas`"):
        MixAndMatch([0.5, 0.6])
    with pytest.raises(ValueError, match="`matching_coefficient`"):
        MixAndMatch([0.5, 0.5], matching_coefficient=-1)
