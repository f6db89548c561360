import collections

import keras
import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.meta.linear_probe import split

BATCH_SIZE = 256

StateMachineSimilarity = collections.namedtuple(
    "StateMachineSimilarity",
    [
        "agent_to_bayes_state",
        "agent_to_bayes_output",
        "bayes_to_agent_state",
        "bayes_to_agent_output",
    ],
)
StateMachineSimilarity.__doc__ = """What `state_machine_similarity` found.

Four floats, 0 where one machine simulates the other perfectly: by direction
(`agent_to_bayes`: the states of Bayes' machine are guessed from the agent's)
the mean squared error of states, 1 being that of guessing the mean, and the
divergence of outputs.

Example:

>>> from keras_sparse_rl.meta import StateMachineSimilarity
>>> StateMachineSimilarity(0.1, 0.2, 0.3, 0.4).bayes_to_agent_output
0.4
"""


def state_machine_similarity(
    states,
    bayes_states,
    head,
    bayes_head,
    divergence,
    units=64,
    epochs=30,
    held_out=0.2,
    seed=0,
):
    """Whether a memory and Bayes' sufficient statistics simulate each other.

    See "Meta-trained agents implement Bayes-optimal agents" by Mikulik et al.
    2020 (https://arxiv.org/abs/2010.11223), section 3. A network with two
    hidden layers learns to guess each machine's state from the other's, on
    the same sequences. Tested on sequences held out: how far the guess is from
    the state, and how far its output from the output of the true state. Both
    machines are equivalent if both directions are near 0; the agent lacks
    something if only `bayes_to_agent` is.

    Args:
        states: array `(batch, time, dim)` or `(batch, dim)`, of the agent's
            memory.
        bayes_states: the same of the exact predictor, as of
            `BayesPredictor.states`.
        head: function from `(steps, dim)` states of the agent to its outputs.
        bayes_head: function from states of the predictor to its outputs, as
            `BayesPredictor.outputs`.
        divergence: function from two arrays of outputs to `(steps,)`, as
            `LogLoss.divergence`.
        units: int, width of the hidden layers.
        epochs: int, of training the maps.
        held_out: float in (0, 1), share of sequences to test on.
        seed: int.

    Returns:
        `StateMachineSimilarity`.

    Raises:
        ValueError: if states do not fit, or an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> coin = meta.BetaBernoulli()
    >>> states = coin.states(np.random.default_rng(0).integers(2, size=(50, 5)))
    >>> found = meta.state_machine_similarity(
    ...     2 * states, states, lambda x: coin.outputs(x / 2), coin.outputs,
    ...     coin.loss.divergence, units=16, epochs=40)
    >>> found.agent_to_bayes_output < 0.1
    True
    """
    check_integer("units", units)
    check_integer("epochs", epochs)
    check_integer("seed", seed, minimum=0)
    agent, bayes = split(
        held_out, {"states": states, "bayes_states": bayes_states}
    )
    (x, mean, scale), (y, y_mean, y_scale) = map(_standardized, (agent, bayes))
    bayes_guess, agent_guess = _guesses(x, y, units, epochs, seed)

    def apart(outputs, state, guess):
        return float(np.mean(divergence(outputs(state), outputs(guess))))

    return StateMachineSimilarity(
        float(np.mean((bayes_guess - y[1]) ** 2)),
        apart(bayes_head, bayes[1], bayes_guess * y_scale + y_mean),
        float(np.mean((agent_guess - x[1]) ** 2)),
        apart(head, agent[1], agent_guess * scale + mean),
    )


def _guesses(agent, bayes, units, epochs, seed):
    """Guesses of Bayes' held-out states and of the agent's, float64."""
    steps = epochs * -(-len(agent[0]) // BATCH_SIZE)
    # Both maps in one model: they share nothing but the loop.
    sources = [keras.Input((part[0].shape[1],)) for part in (agent, bayes)]
    model = keras.Model(
        sources,
        [
            _network(units, target[0].shape[1], seed)(source)
            for source, target in zip(sources, (bayes, agent))
        ],
    )
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(schedule), ["mse", "mse"])
    order = np.random.default_rng(seed).permutation(len(agent[0]))
    model.fit(
        [agent[0][order], bayes[0][order]],
        [bayes[0][order], agent[0][order]],
        BATCH_SIZE,
        epochs,
        shuffle=False,
        verbose=0,
    )
    guesses = model.predict([agent[1], bayes[1]], batch_size=4096, verbose=0)
    return [guess.astype("float64") for guess in guesses]


def _network(units, outputs, seed):
    def dense(number, activation, layer):
        initializer = keras.initializers.GlorotUniform(seed + layer)
        return keras.layers.Dense(
            number, activation, kernel_initializer=initializer
        )

    return keras.Sequential(
        [
            dense(units, "gelu", 0),
            dense(units, "gelu", 1),
            dense(outputs, None, 2),
        ]
    )


def _standardized(parts):
    """Both parts with the first one's mean 0 and deviation 1; mean, scale."""
    mean, scale = parts[0].mean(0), parts[0].std(0)
    scale = np.where(scale > 1e-8, scale, 1.0)
    return [(part - mean) / scale for part in parts], mean, scale
