"""Exact predictors and log losses against closed forms and enumeration."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_sparse_rl import meta

lgamma = np.vectorize(math.lgamma)


def log_beta(a, b):
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def evidence_of_counts(counts, concentration):
    """Log probability of a sequence of symbols under a Dirichlet prior."""
    counts = np.asarray(counts, "float64")
    total = concentration * counts.shape[-1]
    return (
        lgamma(total)
        - lgamma(total + counts.sum(-1))
        + (lgamma(concentration + counts) - lgamma(concentration)).sum(-1)
    )


def bits(length):
    return np.array(list(itertools.product([0, 1], repeat=length)))


@pytest.mark.parametrize("alpha, beta", [(1, 1), (0.5, 0.5), (2.5, 0.7)])
def test_coins(alpha, beta):
    sequences = bits(6)
    found = meta.BetaBernoulli(alpha, beta).log_probability(sequences).sum(1)
    expected = [
        log_beta(alpha + heads, beta + 6 - heads) - log_beta(alpha, beta)
        for heads in sequences.sum(1)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "length, expected",
    [(20, 0.55736), (50, 0.53136), (100, 0.51900), (256, 0.50922)],
)
def test_log_loss_of_laplaces_rule(length, expected):
    # With a uniform prior every number of heads is equally probable.
    coin = meta.BetaBernoulli()
    loss = []
    for step in range(length):
        heads = np.arange(step + 1.0)
        logits = coin.outputs(np.stack([heads, step - heads], -1))
        p = 1 / (1 + np.exp(-logits[:, 0]))
        loss.append(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())
    assert np.mean(loss) == pytest.approx(expected, abs=6e-6)


def test_dice():
    sequences = np.array(list(itertools.product(range(3), repeat=5)))
    die = meta.DirichletCategorical(3, concentration=0.7)
    counts = (sequences[..., None] == np.arange(3)).sum(1)
    np.testing.assert_allclose(
        die.log_probability(sequences).sum(1),
        evidence_of_counts(counts, 0.7),
        rtol=1e-12,
    )


def test_markov_chains():
    sequences = np.random.default_rng(0).integers(3, size=(30, 12))
    found = meta.DirichletMarkov(3, 0.5).log_probability(sequences).sum(1)
    for sequence, value in zip(sequences, found):
        counts = np.zeros((3, 3))
        for before, after in zip(sequence, sequence[1:]):
            counts[before, after] += 1
        expected = evidence_of_counts(counts, 0.5).sum() - math.log(3)
        assert value == pytest.approx(expected, rel=1e-12)


def test_normal_numbers():
    x = np.random.default_rng(0).normal(size=(4, 7))
    predictor = meta.NormalMean(prior_mean=0.5, prior_std=2.0, noise_std=0.7)
    # Together they are normal, with what they share as covariance.
    covariance = 4.0 * np.ones((7, 7)) + 0.49 * np.eye(7)
    off = x - 0.5
    expected = -0.5 * (
        np.einsum("bi,ij,bj->b", off, np.linalg.inv(covariance), off)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    found = predictor.log_probability(x).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_waiting_times():
    x = np.random.default_rng(0).exponential(size=(4, 7))
    found = meta.GammaExponential(1.5, 0.8).log_probability(x).sum(1)
    expected = (
        math.lgamma(1.5 + 7)
        - math.lgamma(1.5)
        + 1.5 * math.log(0.8)
        - 8.5 * np.log(0.8 + x.sum(1))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("hazard", [0.0, 0.2])
def test_exchanged_coins(hazard):
    length, alpha, beta = 7, 1.5, 0.8
    sequences = bits(length)
    predictor = meta.PiecewiseBernoulli(length, hazard, alpha, beta)
    found = np.exp(predictor.log_probability(sequences).sum(1))
    expected = np.zeros(len(sequences))
    for exchanged in itertools.product([0, 1], repeat=length - 1):
        changes = sum(exchanged)
        chance = hazard**changes * (1 - hazard) ** (length - 1 - changes)
        starts = [0, *np.flatnonzero(exchanged) + 1, length]
        for start, end in itertools.pairwise(starts):
            heads = sequences[:, start:end].sum(1)
            chance = chance * np.exp(
                [
                    log_beta(alpha + h, beta + end - start - h)
                    - log_beta(alpha, beta)
                    for h in heads
                ]
            )
        expected += chance
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_best_arms():
    # On a fine grid of both arms' probabilities.
    grid = (np.arange(2000) + 0.5) / 2000
    history = [(0, 1), (0, 0), (1, 1), (0, 1), (1, 0), (1, 0)]
    likelihood = [np.ones_like(grid), np.ones_like(grid)]
    bandit = meta.BetaBandit(2, alpha=1, beta=2)
    state = bandit.initial_state(1)
    for arm, reward in history:
        likelihood[arm] *= grid if reward else 1 - grid
        joint = np.outer(likelihood[0] * (1 - grid), likelihood[1] * (1 - grid))
        ties = np.trace(joint) / 2
        first = (np.tril(joint).sum() - ties) / joint.sum()
        state = bandit.update(state, [[arm, reward, 1]])
        found = np.exp(bandit.outputs(state))[0]
        np.testing.assert_allclose(found, [first, 1 - first], atol=1e-6)


def integral(f, low, high, number=200_001):
    x = np.linspace(low, high, number)
    y = f(x)
    return ((y[1:] + y[:-1]) / 2).sum() * (x[1] - x[0])


def test_divergences_by_integration():
    generator = np.random.default_rng(0)
    normal, lomax = meta.NormalLogLoss(), meta.LomaxLogLoss()
    for _ in range(3):
        p, q = generator.normal(size=(2, 2)) / 2

        def product(x, loss=normal, p=p, q=q, stretch=1.0):
            own, other = (
                np.asarray(loss.log_probability(np.tile(o, (len(x), 1)), x))
                for o in (p, q)
            )
            return np.exp(own) * (own - other) * stretch

        expected = integral(product, -30, 30)
        assert float(normal.divergence(p, q)) == pytest.approx(expected, 1e-6)
        # Waiting times have a heavy tail: x = exp(u) - 1.
        p[0], q[0] = abs(p[0]) + 1, abs(q[0]) + 1
        expected = integral(
            lambda u: product(np.expm1(u), lomax, stretch=np.exp(u)), 0, 40
        )
        assert float(lomax.divergence(p, q)) == pytest.approx(expected, 1e-5)


def test_divergences_of_symbols():
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1])
    loss = meta.CategoricalLogLoss(3)
    expected = (p * np.log(p / q)).sum()
    assert float(loss.divergence(np.log(p), np.log(q))) == pytest.approx(
        expected, rel=1e-12
    )
    logits = [np.log([x / (1 - x)]) for x in (0.2, 0.6)]
    expected = 0.2 * np.log(0.2 / 0.6) + 0.8 * np.log(0.8 / 0.4)
    found = meta.BernoulliLogLoss().divergence(*logits)
    assert float(found) == pytest.approx(expected, rel=1e-12)


LOSSES = [
    (meta.BernoulliLogLoss(), [1, 0]),
    (meta.CategoricalLogLoss(3), [2, 0]),
    (meta.NormalLogLoss(), [0.3, -2.0]),
    (meta.LomaxLogLoss(), [0.3, 5.0]),
]


@pytest.mark.parametrize(
    "loss, observed", LOSSES, ids=[loss.name for loss, _ in LOSSES]
)
def test_losses_are_keras_losses(loss, observed):
    outputs = np.random.default_rng(0).normal(size=(1, 2, loss.num_outputs))
    log_probability = np.asarray(loss.log_probability(outputs, [observed]))
    assert log_probability.shape == (1, 2)
    assert log_probability.dtype == "float64"
    value = float(loss(np.array([observed]), outputs.astype("float32")))
    assert value == pytest.approx(-log_probability.mean(), rel=1e-5)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(loss)
    )
    assert type(again) is type(loss)
    assert again.num_outputs == loss.num_outputs
    same = loss.divergence(outputs, outputs)
    np.testing.assert_allclose(same, 0, atol=1e-12)
    extreme = np.full((1, 2, loss.num_outputs), 30.0, "float32")
    assert np.isfinite(float(loss(np.array([observed]), extreme)))


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: meta.BetaBernoulli(alpha=0), "alpha"),
        (lambda: meta.DirichletCategorical(1), "num_categories"),
        (lambda: meta.DirichletMarkov(3, concentration=-1), "concentration"),
        (lambda: meta.NormalMean(noise_std=0), "noise_std"),
        (lambda: meta.GammaExponential(rate=float("nan")), "rate"),
        (lambda: meta.PiecewiseBernoulli(5, hazard=1.0), "hazard"),
        (lambda: meta.BetaBandit(num_arms=1), "num_arms"),
        (lambda: meta.CategoricalLogLoss(0), "num_categories"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        make()


def test_no_room_for_more_coins():
    with pytest.raises(ValueError, match="length=3.*Received: 4 steps"):
        meta.PiecewiseBernoulli(3).log_probability(bits(4))
