"""Divergences between cores' policies, against NumPy and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_sparse_rl.losses import ppr_loss

NAMES = ("reaction", "perception", "prediction")


def logits(seed=0, scale=1.0, shape=(2, 3, 4)):
    generator = np.random.default_rng(seed)
    return {name: scale * generator.normal(size=shape) for name in NAMES}


def kl(p, q):
    p = np.exp(p - np.logaddexp.reduce(p, -1, keepdims=True))
    q = np.exp(q - np.logaddexp.reduce(q, -1, keepdims=True))
    return (p * np.log(p / q)).sum(-1)


def test_by_hand():
    policies = {
        "reaction": np.log([[[0.5, 0.5]]]),
        "perception": np.log([[[0.25, 0.75]]]),
    }
    pair = ("reaction", "perception")
    expected = 0.5 * np.log(2.0) + 0.5 * np.log(2.0 / 3.0)
    found = ppr_loss(policies, pairs=[pair])
    np.testing.assert_allclose(found, [[expected]], atol=1e-12)
    np.testing.assert_allclose(
        ppr_loss(policies, pairs={pair: 3.0}), [[3 * expected]], atol=1e-12
    )
    backwards = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(
        ppr_loss(policies, pairs=[pair[::-1]]), [[backwards]], atol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 20.0))
def test_equals_the_sum_over_pairs(seed, scale):
    policies = logits(seed, scale)
    expected = sum(
        kl(policies[a], policies[b])
        for a, b in (NAMES[:2], NAMES[::2], NAMES[1:])
    )
    found = ppr_loss(policies)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)
    assert (np.array(found) >= -1e-12).all()
    same = dict.fromkeys(NAMES, policies["reaction"])
    np.testing.assert_allclose(ppr_loss(same), 0, atol=1e-12)


@pytest.mark.parametrize("stop", [None, "first", "second"])
def test_gradients_stop_where_they_are_told_to(stop):
    first, second = (
        tf.constant(x) for x in list(logits(shape=(1, 2, 3)).values())[:2]
    )

    def loss(first, second):
        return tf.reduce_sum(
            ppr_loss({"a": first, "b": second}, [("a", "b")], stop)
        )

    with tf.GradientTape() as tape:
        tape.watch([first, second])
        total = loss(first, second)
    found = tape.gradient(total, [first, second])
    assert (found[0] is None) == (stop == "first")
    assert (found[1] is None) == (stop == "second")
    # Of KL(p || q) in the logits of q: q - p.
    p, q = tf.nn.softmax(first), tf.nn.softmax(second)
    if stop != "second":
        np.testing.assert_allclose(found[1], q - p, atol=1e-12)
    if stop != "first":
        ratio = tf.math.log(p / q)
        mean = tf.reduce_sum(p * ratio, -1, keepdims=True)
        np.testing.assert_allclose(found[0], p * (ratio - mean), atol=1e-12)


def test_impossible_actions_and_extreme_logits_stay_finite():
    a = tf.constant([[[-np.inf, 0.0, 1.0], [500.0, -500.0, 0.0]]])
    b = tf.constant([[[-np.inf, 1.0, 0.0], [-500.0, 500.0, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        loss = ppr_loss({"a": a, "b": b}, [("a", "b")])
    for x in (loss, *tape.gradient(loss, [a, b])):
        assert np.isfinite(x).all()
    np.testing.assert_allclose(loss[0, 1], 1000.0, rtol=1e-6)
    expected = kl(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(loss[0, 0], expected, rtol=1e-6)


def test_nests_of_other_distributions():
    generator = np.random.default_rng(0)
    outputs = {
        name: {
            key: generator.normal(size=(2, 3, 2)).astype("float32")
            for key in ("arm", "leg")
        }
        for name in NAMES
    }

    def normal(outputs):
        return keras.tree.map_structure(
            lambda x: tfp.distributions.Normal(x[..., 0], np.exp(x[..., 1])),
            outputs,
        )

    found = ppr_loss(outputs, [NAMES[:2]], None, normal)
    expected = 0.0
    for key in ("arm", "leg"):
        (m, s), (n, t) = (
            (outputs[k][key][..., 0], np.exp(outputs[k][key][..., 1]))
            for k in NAMES[:2]
        )
        expected += np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_bad_arguments():
    for arguments, words in (
        ({"pairs": []}, "at least one"),
        ({"pairs": [("reaction", "memory")]}, "memory"),
        ({"pairs": [("reaction", "reaction")]}, "different"),
        ({"pairs": ["reaction"]}, "tuples"),
        ({"pairs": {NAMES[:2]: -1.0}}, "at least 0"),
        ({"stop_gradient": "both"}, "`stop_gradient`"),
    ):
        with pytest.raises(ValueError, match=words):
            ppr_loss(logits(), **arguments)
