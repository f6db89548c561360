"""Mix&Match on a grid with 756 actions, of which 9 suffice.

    python -m benchmarks.mix_and_match [--modes direct ...] [--seeds 10]

As in "Mix & Match" by Czarnecki et al. 2018: the last policy chooses from 756
actions, the simple one from 9 of them. Every mode is the same agent, compiled
once, and differs only in how the shares and the matching loss move. Policies
and values are tables, so that nothing is shared between cells. The return is
that of the last policy alone, computed exactly every ten iterations. Prints
a table and plots the curves.
"""

import keras
import matplotlib
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector

matplotlib.use("Agg")

NAME = "mix_and_match"
COPIES, SEGMENT, ITERATIONS, EVERY = 16, 16, 1200, 10
RATE, CLIP, ENTROPY = 10.0, 0.01, 0.003


class Variable(agents.LossTerm):
    """The entropy bonus with a coefficient that is a variable."""

    def __init__(self):
        self.rate = tf.Variable(0.0, trainable=False)
        super().__init__(lambda step: self.rate, "entropy_bonus")

    def loss(self, segment):
        return -agents.action_entropy(segment.distribution)


def _one_hot():
    return keras.layers.Embedding(81, 81, "identity", trainable=False)


class Trainer:
    """Compiled once, started anew for each mode and seed."""

    def __init__(self, copies=COPIES, segment=SEGMENT, jit_compile=False):
        self._environment = environments.LargeActionGrid(batch_size=copies)
        environment = self._environment
        specs = environment.observation_spec(), environment.action_spec()
        core = [agents.SimplePolicy("core", actions=environment.core_actions)]
        self._new_model = lambda: agents.mix_and_match_model(
            *specs, core, torso=_one_hot()
        )
        self._model = self._new_model()
        self._optimizer = keras.optimizers.SGD(RATE, global_clipnorm=CLIP)
        self.entropy = Variable()
        self.agent = agents.MixAndMatchAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            self._model,
            self._optimizer,
            core,
            alphas=[1.0, 0.0],
            loss_terms=[self.entropy],
            trace_decay=0.95,
            entropy_coefficient=0.0,
        )
        collector = InGraphCollector(
            self.agent.collect_policy, environment, segment, 0, jit_compile
        )
        self._state = [
            *tf.nest.flatten(environment.carry),
            *collector.variables,
            self.agent.train_step_counter,
        ]
        self._start = [v.numpy() for v in self._state]
        self._step = collector.with_learning(
            lambda experience, figures: self.agent.train(experience).loss
        )
        self._logits = tf.function(
            lambda name: self._model(
                {
                    "observation": tf.range(81)[tf.newaxis],
                    "is_first": tf.ones((1, 81), tf.bool),
                    "state": {},
                }
            )["outputs"][name][0]
        )

    def reset(self, seed, rate=RATE, entropy=ENTROPY):
        keras.utils.set_random_seed(seed)
        self._model.set_weights(self._new_model().get_weights())
        for variable in self._optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        for variable, start in zip(self._state, self._start):
            variable.assign(start)
        self._environment.carry["count"].assign(10**6 * seed)
        self._optimizer.learning_rate = rate
        self.entropy.rate.assign(entropy)

    def evaluate(self, name="policy"):
        logits = self._logits(name)
        if name == "core":
            logits = tf.pad(logits, [[0, 0], [0, 747]], constant_values=-1e9)
        probabilities = tf.nn.softmax(logits).numpy().astype("float64")
        return self._environment.expected_return(probabilities)

    def run(self, shares, iterations=ITERATIONS, name="policy"):
        """Curve of the last policy's return.

        Args:
            shares: function from the iteration to the share of the last
                policy and the matching coefficient.
        """
        curve = []
        for iteration in range(iterations):
            alpha, matching = shares(iteration)
            self.agent.set_alphas([1 - alpha, alpha])
            self.agent.matching_coefficient.assign(matching)
            self._step()
            if (iteration + 1) % EVERY == 0:
                curve.append(self.evaluate(name))
        return curve
