"""V-trace against its definition, step by step in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.losses import vtrace


def reference(batch, lambda_, clip_rho, clip_c, clip_advantage_rho):
    """Espeholt et al. 2018, equation 1, as a sum over later steps."""
    v_tm1, v_t, r, discount, rho, is_last = batch
    targets, advantages = np.zeros_like(v_tm1), np.zeros_like(v_tm1)
    rows, steps = v_tm1.shape
    for b in range(rows):
        for s in range(steps):
            target, weight = v_tm1[b, s], 1.0
            for t in range(s, steps):
                error = r[b, t] + discount[b, t] * v_t[b, t] - v_tm1[b, t]
                target += weight * min(clip_rho, rho[b, t]) * error
                weight *= discount[b, t] * lambda_ * min(clip_c, rho[b, t])
                if is_last[b, t]:
                    break
            targets[b, s] = target
    for b in range(rows):
        for s in range(steps):
            reached = v_t[b, s]
            if s + 1 < steps and not is_last[b, s]:
                # v_t[s] and v_tm1[s + 1] are the same value in an episode.
                reached = targets[b, s + 1] + v_t[b, s] - v_tm1[b, s + 1]
            advantages[b, s] = min(clip_advantage_rho, rho[b, s]) * (
                r[b, s] + discount[b, s] * reached - v_tm1[b, s]
            )
    return targets, advantages


def random_batch(generator):
    shape = generator.integers(1, 5), generator.integers(1, 12)
    v_tm1, v_t, r = generator.normal(size=(3, *shape))
    end = generator.random(shape)
    terminated, truncated = end < 0.15, end > 0.85
    is_last = terminated | truncated
    v_t[:, :-1] = np.where(is_last[:, :-1], v_t[:, :-1], v_tm1[:, 1:])
    discount = np.where(terminated, 0.0, generator.uniform(0.8, 1.0))
    on_policy = generator.random() < 0.3
    rho = np.exp((1 - on_policy) * generator.normal(size=shape))
    return v_tm1, v_t, r, discount, rho, is_last


def test_a_thousand_random_batches():
    generator = np.random.default_rng(0)
    for _ in range(1000):
        batch = random_batch(generator)
        settings = (generator.uniform(0.5, 1), *generator.uniform(0.5, 3, 3))
        found = vtrace(*batch, *settings)
        targets, advantages = reference(batch, *settings)
        np.testing.assert_allclose(found[0], targets, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found[1], advantages, rtol=1e-6, atol=1e-12)


def test_on_policy_targets_are_returns_by_hand():
    # Rewards 1, 2, 4; discount 1/2; the last observation is worth 8.
    v_tm1 = np.array([[3.0, 5.0, 7.0]])
    found = vtrace(
        v_tm1=v_tm1,
        v_t=np.array([[5.0, 7.0, 8.0]]),
        r_t=np.array([[1.0, 2.0, 4.0]]),
        discount_t=np.full((1, 3), 0.5),
        rho_tm1=np.ones((1, 3)),
    )
    returns = np.array([[1 + 0.5 * (2 + 0.5 * 8), 2 + 0.5 * 8, 4 + 0.5 * 8]])
    np.testing.assert_allclose(found.value_target_tm1, returns)
    np.testing.assert_allclose(found.advantage_tm1, returns - v_tm1)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_truncation_bootstraps_and_termination_does_not(step):
    v_tm1, v_t, r = np.random.default_rng(1).normal(size=(3, 1, 3))
    ones, is_last = np.ones((1, 3)), np.zeros((1, 3), bool)
    is_last[0, step] = True
    terminated = np.where(is_last, 0.0, ones)
    expected = r[0, : step + 1].sum()
    # Inner values cancel when the value reached is that left next.
    v_t[0, :step] = v_tm1[0, 1 : step + 1]
    at_end = vtrace(v_tm1, v_t, r, terminated, ones, is_last)
    cut_off = vtrace(v_tm1, v_t, r, ones, ones, is_last)
    np.testing.assert_allclose(at_end[0][0, 0], expected)
    np.testing.assert_allclose(cut_off[0][0, 0], expected + v_t[0, step])


def test_no_gradient_and_the_same_in_a_compiled_graph():
    batch = random_batch(np.random.default_rng(3))
    batch = [tf.constant(x) for x in batch]
    with tf.GradientTape() as tape:
        tape.watch(batch[0])
        tape.watch(batch[4])
        found = vtrace(*batch)
        loss = tf.add_n([tf.reduce_sum(x) for x in found])
    assert tape.gradient(loss, [batch[0], batch[4]]) == [None, None]
    compiled = tf.function(vtrace, jit_compile=True)(*batch)
    for a, b in zip(compiled, found):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_wrong_shapes():
    good, bad = np.ones((2, 3)), np.ones((2, 4))
    for position in range(6):
        arguments = [good] * 5 + [good > 0]
        arguments[position] = bad
        with pytest.raises(ValueError, match=r"one shape, \(batch, time\)"):
            vtrace(*arguments)
    with pytest.raises(ValueError, match="one shape"):
        vtrace(*[keras.ops.ones(3)] * 5)
