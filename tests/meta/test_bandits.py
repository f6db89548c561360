"""Optima of bandits: tables, brute force, and what is too large."""

import functools

import numpy as np
import pytest

from keras_sparse_rl import meta


@functools.cache
def optimum(horizon, num_arms=2):
    return meta.BanditOptimum(num_arms, horizon)


@pytest.mark.parametrize(
    "horizon, expected, regret",
    [(10, 6.0218, 0.645), (20, 12.4313, 0.902), (50, 31.9967, 1.337)],
)
def test_returns_of_the_best_play(horizon, expected, regret):
    bandit = optimum(horizon)
    assert bandit.optimal_return == pytest.approx(expected, abs=1e-4)
    assert bandit.optimal_regret == pytest.approx(regret, abs=1e-3)
    assert bandit.best_return == pytest.approx(horizon * 2 / 3, abs=1e-9)


@pytest.mark.parametrize(
    "policy, expected, margin",
    [
        # The first four are known from simulations, with this error.
        (lambda s, f: meta.gittins_policy(s, f, 0.95), 0.915, 0.012),
        (meta.greedy_policy, 0.966, 0.012),
        (meta.thompson_policy, 1.405, 0.012),
        (meta.ucb1_policy, 1.815, 0.012),
        (lambda s, f: np.full_like(s, 0.5), 20 / 6, 1e-9),
        (optimum(20).policy, optimum(20).optimal_regret, 1e-9),
    ],
    ids=["gittins", "greedy", "thompson", "ucb1", "random", "optimal"],
)
def test_regret_of_other_ways_to_play(policy, expected, margin):
    bandit = optimum(20)
    regret = bandit.best_return - bandit.return_of(policy)
    assert regret == pytest.approx(expected, abs=margin)


@pytest.mark.parametrize("arms, horizon", [(3, 5), (30, 2)])
def test_dynamic_programming_against_recursion(arms, horizon):
    """Another prior, one history after the other."""
    alpha, beta = 0.6, 1.7

    def value(counts, left):
        if not left:
            return 0.0
        worths = []
        for arm, (won, lost) in enumerate(counts):
            p = (alpha + won) / (alpha + beta + won + lost)
            after = [list(map(list, counts)) for _ in range(2)]
            after[0][arm][0] += 1
            after[1][arm][1] += 1
            worths.append(
                p * (1 + value(after[0], left - 1))
                + (1 - p) * value(after[1], left - 1)
            )
        return max(worths)

    bandit = meta.BanditOptimum(arms, horizon, alpha, beta)
    expected = value([[0, 0]] * arms, horizon)
    assert bandit.optimal_return == pytest.approx(expected, abs=1e-12)
    draws = np.random.default_rng(0).beta(alpha, beta, (50_000, arms))
    best = horizon * draws.max(1).mean()
    assert bandit.best_return == pytest.approx(best, abs=0.02)


def test_policy_of_any_shape():
    policy = optimum(10).policy
    successes = np.array([[[1, 0], [0, 0]], [[0, 2], [3, 3]]])
    failures = np.zeros_like(successes)
    found = policy(successes, failures)
    np.testing.assert_array_equal(
        found, [[[1, 0], [0.5, 0.5]], [[0, 1], [0.5, 0.5]]]
    )
    for wrong, words in (
        (([10, 0], [0, 0]), "horizon=10.*10 pulls"),
        (([1, 0, 0], [0, 0, 0]), "2 arms.*shape"),
        (([-1, 0], [0, 0]), "none negative"),
        (([1, 0], [0]), "one shape"),
    ):
        with pytest.raises(ValueError, match=words):
            policy(*wrong)


@pytest.mark.parametrize(
    "discount, expected",
    [
        (0.9, [0.7029, 0.8001, 0.5001, 0.6346]),
        (0.95, [0.7614, 0.8381, 0.5601, 0.6810]),
        (0.99, [0.8699, 0.9102, 0.7005, 0.7843]),
    ],
)
def test_gittins_indices(discount, expected):
    found = meta.gittins_index([1, 2, 1, 2], [1, 1, 2, 2], discount)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_gittins_index_is_the_value_at_which_one_is_indifferent():
    """One unknown arm beside a sure one, pulled for 60 steps, discounted."""
    discount, alpha, beta = 0.6, 1.3, 0.8
    index = float(meta.gittins_index(alpha, beta, discount))

    @functools.cache
    def unknown(won, lost):
        if won + lost == 60:
            return 0.0
        p = (alpha + won) / (alpha + beta + won + lost)
        return p * (1 + discount * best(won + 1, lost)) + (
            1 - p
        ) * discount * best(won, lost + 1)

    def best(won, lost):
        return max(unknown(won, lost), index / (1 - discount))

    assert unknown(0, 0) == pytest.approx(index / (1 - discount), abs=1e-4)


def test_thompson_probabilities_against_draws():
    successes, failures = np.array([[3, 0, 1.5], [0, 9, 40]]), np.ones((2, 3))
    found = meta.thompson_policy(successes, failures, 0.5, 2.0)
    draws = np.random.default_rng(0).beta(
        successes + 0.5, failures + 2.0, (100_000, 2, 3)
    )
    best = (draws.argmax(-1)[..., None] == np.arange(3)).mean(0)
    np.testing.assert_allclose(found, best, atol=6e-3)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)


def test_upper_confidence_bounds_by_hand():
    # 2/3 + sqrt(2 ln 4 / 3) = 1.63 and 0 + sqrt(2 ln 4 / 1) = 1.67.
    np.testing.assert_array_equal(meta.ucb1_policy([2, 0], [1, 1]), [0, 1])
    np.testing.assert_array_equal(meta.ucb1_policy([3, 0], [0, 1]), [1, 0])
    np.testing.assert_array_equal(meta.ucb1_policy([5, 0], [0, 0]), [0, 1])


def test_simulation_agrees_with_dynamic_programming():
    bandit = optimum(10)
    regret = meta.play_bandit(meta.ucb1_policy, 2, 10, 20_000, seed=1)
    expected = bandit.best_return - bandit.return_of(meta.ucb1_policy)
    deviation = regret.std() / np.sqrt(len(regret))
    assert abs(regret.mean() - expected) < 4 * deviation


@pytest.mark.parametrize(
    "arms, horizon, possible", [(2, 200, 122), (3, 60, 41)]
)
def test_too_large(arms, horizon, possible):
    words = f"num_arms={arms} and horizon={horizon}.*at most {possible}\\."
    with pytest.raises(ValueError, match=words):
        meta.BanditOptimum(arms, horizon)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: meta.BanditOptimum(num_arms=1), "`num_arms`"),
        (lambda: meta.BanditOptimum(horizon=0), "`horizon`"),
        (lambda: meta.BanditOptimum(alpha=0), "`alpha`"),
        (lambda: meta.gittins_index(1, 1, 1.0), "`discount`.*0.999"),
        (lambda: meta.gittins_index([1, 0], 1, 0.9), "`alpha` and `beta`"),
        (lambda: meta.thompson_policy(1, 2), "one shape"),
        (lambda: meta.greedy_policy([1, 2], [0, 0], alpha=0), "`alpha`"),
        (lambda: meta.play_bandit(meta.ucb1_policy, episodes=0), "`episodes`"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
