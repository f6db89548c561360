"""Tasks draw what their predictors expect, and feed `fit`."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_sparse_rl import meta
from keras_sparse_rl.callbacks import BayesRegret
from keras_sparse_rl.meta import tasks

TASKS = {
    "bernoulli": tasks.Bernoulli,
    "dirichlet": tasks.Dirichlet,
    "gaussian": tasks.Gaussian,
    "exponential": tasks.Exponential,
    "piecewise": tasks.Piecewise,
    "markov": tasks.Markov,
    "bandit": tasks.BanditExpert,
}
each_task = pytest.mark.parametrize("name", TASKS)


@pytest.mark.parametrize(
    "task, symbols",
    [
        (tasks.Bernoulli(0.5, 2.0, length=4), 2),
        (tasks.Dirichlet(3, 0.6, length=3), 3),
        (tasks.Piecewise(0.4, 0.7, 1.5, length=4), 2),
        (tasks.Markov(2, 0.6, length=4), 2),
    ],
    ids=["bernoulli", "dirichlet", "piecewise", "markov"],
)
def test_sequences_are_as_frequent_as_they_are_probable(task, symbols):
    """The draws never use the predictor, so this tests one by the other."""
    every = np.array(
        list(itertools.product(range(symbols), repeat=task.length))
    )
    expected = np.exp(task.predictor.log_probability(every).sum(1))
    assert expected.sum() == pytest.approx(1, abs=1e-9)
    number = 40_000
    drawn = task.held_out(number)
    place = drawn @ symbols ** np.arange(task.length)[::-1]
    found = np.bincount(place, minlength=len(every)) / number
    deviation = np.sqrt(expected * (1 - expected) / number)
    assert (abs(found - expected) < 4.5 * deviation).all()


def ranks(task, cumulative):
    """Where each observation lies in its predicted distribution."""
    observations = task.held_out(20_000)
    outputs = task.predictor.outputs(task.predictor.states(observations))
    return cumulative(outputs, observations)


def test_numbers_and_times_are_distributed_as_predicted():
    erf = np.vectorize(math.erf)

    def normal(outputs, x):
        score = (x - outputs[..., 0]) / np.exp(outputs[..., 1])
        return (1 + erf(score / np.sqrt(2))) / 2

    def lomax(outputs, x):
        shape, scale = np.moveaxis(np.exp(outputs), -1, 0)
        return 1 - (1 + x / scale) ** -shape

    for found in (
        ranks(tasks.Gaussian(0.3, 1.5, 0.5, length=4), normal),
        ranks(tasks.Exponential(1.5, 0.7, length=4), lomax),
    ):
        # Uniform at each step, and independent of the steps before.
        deciles = (np.histogram(x, 10, (0, 1))[0] for x in found.T)
        for counts in deciles:
            assert ((counts - 2000) ** 2 / 2000).sum() < 30
        correlation = np.corrcoef(found.T) - np.eye(4)
        assert abs(correlation).max() < 0.03


def test_the_expert_of_a_bandit():
    task = tasks.BanditExpert(3, 1.5, 0.7, length=6)
    observations = task.held_out(30_000)
    arm, reward, best = np.moveaxis(observations, -1, 0)
    assert (best == best[:, :1]).all()
    # Predicted and true shares of the last step's best arm, by bins.
    states = task.predictor.states(observations)[:, -1]
    first = np.exp(task.predictor.outputs(states))[:, 0]
    bins = np.digitize(first, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    for which in range(7):
        chosen = bins == which
        share, deviation = first[chosen].mean(), 0.5 / np.sqrt(chosen.sum())
        assert abs((best[chosen, 0] == 0).mean() - share) < 4 * deviation
    # All numbers of pulls of an arm are equally common (with three arms: the
    # probability falls linearly).
    pulls = np.bincount((arm == 0).sum(1), minlength=7) / len(arm)
    expected = np.arange(7, 0, -1) / 28
    np.testing.assert_allclose(pulls, expected, atol=0.012)


@each_task
def test_inputs_are_what_came_before(name):
    task = TASKS[name](length=5, batch_size=3, seed=1)
    x, y = task[2]
    observations = task.held_out(4)
    inputs = task.inputs(observations)
    assert x.dtype == inputs.dtype == "float32"
    assert x.shape[:2] == y.shape == (3, 5)
    assert inputs.shape[2] == x.shape[2]
    np.testing.assert_array_equal(inputs[:, 0], 0)
    np.testing.assert_array_equal(
        inputs[:, 1:], task.features(observations)[:, :-1]
    )
    changed = np.copy(observations)
    changed[:, 3:] = observations[::-1, 3:]
    np.testing.assert_array_equal(task.inputs(changed)[:, :4], inputs[:, :4])


@each_task
def test_seeds_and_epochs_decide(name):
    first, again, other = (TASKS[name](seed=seed) for seed in (1, 1, 2))
    x = first[3][0]
    np.testing.assert_array_equal(again[3][0], x)
    for different in (other[3][0], first[4][0]):
        assert (different != x).any()
    first.on_epoch_end()
    assert (first[3][0] != x).any()
    again.epoch = 1
    np.testing.assert_array_equal(again[3][0], first[3][0])
    np.testing.assert_array_equal(again.held_out(5), first.held_out(5))


def test_fit_sees_new_batches_in_each_epoch():
    seen = []

    class Watched(tasks.Gaussian):
        def __getitem__(self, index):
            seen.append((self.epoch, index))
            return super().__getitem__(index)

    task = Watched(length=3, batch_size=2, steps_per_epoch=3)
    model = keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(2)])
    model.compile("sgd", task.loss)
    model.fit(task, epochs=2, shuffle=False, verbose=0)
    # Keras may have taken batches of an epoch of its own to build the model.
    last = seen[-1][0]
    expected = [(e, index) for e in (last - 1, last) for index in range(3)]
    assert seen[-6:] == expected


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: tasks.Bernoulli(length=0), "length"),
        (lambda: tasks.Dirichlet(batch_size=0), "batch_size"),
        (lambda: tasks.Gaussian(steps_per_epoch=1.5), "steps_per_epoch"),
        (lambda: tasks.Markov(seed=-1), "seed"),
        (lambda: tasks.Exponential(shape=0), "shape"),
        (lambda: tasks.Piecewise(hazard=2), "hazard"),
        (lambda: tasks.BanditExpert(num_arms=1), "num_arms"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received"):
        make()


def test_probe_and_similarity():
    """Of machines that are the same but for a linear map, and of noise."""
    generator = np.random.default_rng(0)
    coin = meta.BetaBernoulli()
    states = coin.states(tasks.Bernoulli(length=8).held_out(800))
    turn = np.array([[1.0, 1.0], [1.0, -1.0]])
    noise = generator.normal(size=states.shape)
    assert meta.linear_probe(states @ turn, states) == pytest.approx(1)
    assert abs(meta.linear_probe(noise, states)) < 0.05
    # What cannot be read off linearly.
    assert meta.linear_probe(noise, noise.prod(-1)) < 0.05

    def similarity(x, head, **arguments):
        return meta.state_machine_similarity(
            x, states, head, coin.outputs, coin.loss.divergence, **arguments
        )

    same = similarity(
        states @ turn, lambda x: coin.outputs(x @ turn / 2), epochs=15
    )
    assert max(same) < 2e-3
    unlike = similarity(noise, lambda x: x[:, :1], epochs=1)
    assert unlike.agent_to_bayes_state > 0.9
    assert unlike.agent_to_bayes_output > 0.05


def test_what_cannot_be_compared():
    with pytest.raises(ValueError, match="same leading axes.*Received"):
        meta.linear_probe(np.zeros((5, 3)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="held_out=1.0 of 5"):
        meta.linear_probe(np.zeros((5, 3)), np.zeros((5, 3)), held_out=1.0)


def test_a_model_plays():
    """One that knows nothing pulls at random; one that repeats, repeats."""
    inputs = keras.Input((None, 3))
    outputs = keras.layers.Dense(2)(inputs)
    model = keras.Model(inputs, outputs)
    model.layers[1].set_weights([np.zeros((3, 2)), np.zeros(2)])
    regret = meta.play_bandit(model, horizon=3, episodes=4000)
    assert regret.mean() == pytest.approx(0.5, abs=0.03)
    # A first pull of the second arm, and then always the last arm again.
    kernel = np.array([[99.0, 0.0], [0.0, 99.0], [0.0, 0.0]])
    model.layers[1].set_weights([kernel, np.array([-9.0, 9.0])])
    regret = meta.play_bandit(model, horizon=3, episodes=4000)
    better = meta.play_bandit(model, horizon=1, episodes=4000)
    np.testing.assert_allclose(regret, 3 * better, rtol=1e-12)


@pytest.mark.slow
def test_an_episodic_memory_predicts():
    from examples import meta_learning

    task = tasks.Piecewise(length=3, batch_size=2, steps_per_epoch=1)
    model = meta_learning.sequence_model(task, "episodic", units=4)
    model.compile("adam", task.loss)
    regret = BayesRegret(task, num_sequences=2)
    history = model.fit(task, callbacks=[regret], verbose=0).history
    assert 0 < history["bayes_excess"][0] < 1


@pytest.mark.slow
def test_meta_learned_predictor_reaches_bayes():
    from examples import meta_learning

    arguments = meta_learning.parse(["--steps", "4000", "--verbose", "0"])
    found = meta_learning.train_predictor("bernoulli", arguments, 0)
    assert np.mean(found["excess"]) < 1e-4
    assert max(found["excess"]) < 5e-4
    assert found["probe"] > 0.99
    similarity = found["similarity"]
    assert similarity["agent_to_bayes_output"] < 1e-3
    assert similarity["bayes_to_agent_output"] < 1e-3
