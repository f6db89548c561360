import keras
import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.evaluate import Evaluator
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.population_member import PopulationMember
from keras_sparse_rl.agents.reservoir_state import reservoir_kernels
from keras_sparse_rl.environments import InGraphEnvironment


class AgentMember(PopulationMember):
    """An agent in an in-graph environment as a member of a population.

    A round is `steps` train steps, its score the mean return of `agent.policy`
    over `evaluation_episodes` episodes, the same ones every time. Its state is
    all that its agent, optimizers, target copies and environment hold. No
    callbacks are called, so that masks stay as they are.

    Args:
        agent: `ActorCriticAgent`.
        environment: `environments.InGraphEnvironment`.
        evaluation_environment: another one.
        apply: function of the agent and the dict of hyperparameters, which
            sets them: variables of the agent (`agent.set_alphas`,
            `agent.matching_coefficient.assign`) or of its optimizer
            (`agent.model.optimizer.learning_rate = value`).
        steps: int, train steps of a round.
        segment_length: int, see `train`.
        evaluation_episodes: int.
        jit_compile: bool, see `train`.

    Raises:
        ValueError: if an environment is none in TensorFlow: a member could
            then not be continued from its state.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> maze = environments.TMaze(length=3, batch_size=4)
    >>> agent = agents.ActorCriticAgent(
    ...     maze.time_step_spec(), maze.action_spec(),
    ...     agents.actor_critic_model(
    ...         maze.observation_spec(), maze.action_spec()),
    ...     keras.optimizers.Adam(1e-3))
    >>> def apply(agent, hyperparameters):
    ...     agent.model.optimizer.learning_rate = hyperparameters["rate"]
    >>> member = agents.AgentMember(
    ...     agent, maze, environments.TMaze(length=3, batch_size=4), apply,
    ...     steps=2, segment_length=4, evaluation_episodes=4)
    >>> member.reset(seed=1)
    >>> score = member.train({"rate": 1e-2})
    >>> int(agent.train_step_counter)
    2
    """

    def __init__(
        self,
        agent,
        environment,
        evaluation_environment,
        apply,
        steps=100,
        segment_length=32,
        evaluation_episodes=100,
        jit_compile=False,
    ):
        if not isinstance(agent, ActorCriticAgent):
            raise ValueError(
                "`agent` must be a keras_sparse_rl.agents.ActorCriticAgent. "
                f"Received: {type(agent)}. For others subclass "
                "PopulationMember."
            )
        for name, found in (
            ("environment", environment),
            ("evaluation_environment", evaluation_environment),
        ):
            if not isinstance(found, InGraphEnvironment):
                raise ValueError(
                    f"`{name}` must be an environments.InGraphEnvironment, "
                    "whose state can be kept. Received: "
                    f"{type(found)}. For others subclass PopulationMember."
                )
        if environment is evaluation_environment:
            raise ValueError(
                "`evaluation_environment` must be another object than "
                "`environment`: evaluation resets it. Make a second one."
            )
        self._agent, self._apply = agent, apply
        self._steps = check_integer("steps", steps)
        check_integer("segment_length", segment_length)
        collector = InGraphCollector(
            agent.collect_policy, environment, segment_length, 0, jit_compile
        )
        self._counts = [environment.carry["count"], collector.count]
        self._evaluation_carry = tf.nest.map_structure(
            lambda x: x.numpy(), evaluation_environment.carry
        )
        self._evaluation_environment = evaluation_environment
        self._evaluator = Evaluator(
            agent.policy,
            evaluation_environment,
            evaluation_episodes,
            jit_compile=jit_compile,
        )
        self._step = collector.with_learning(
            lambda experience, figures: agent.train(experience).extra["finite"]
        )
        own = list(agent.model.variables)
        own += [v for each, _ in agent.optimizers for v in each.variables]
        own += [v for gate in agent.gates for v in gate.variables]
        self._kernels = reservoir_kernels(agent.model)
        found = [
            *(v.value for v in own),
            *agent.other_variables,
            *agent.variables,
            *collector.variables,
            *tf.nest.flatten(environment.carry),
        ]
        self._variables = list({id(v): v for v in found}.values())
        self._start = self.get_state()

    def reset(self, seed):
        self.set_state(self._start)
        keras.utils.set_random_seed(seed)
        model = self._agent.model
        fresh = keras.models.clone_model(model)
        kept = [(v, v.numpy()) for v in _frozen_variables(model)]
        model.set_weights(fresh.get_weights())
        for variable, value in kept:
            variable.assign(value)
        for kernel, new in zip(self._kernels, reservoir_kernels(fresh)):
            kernel.assign_resting(new.resting())
        self._agent.initialize()
        for count in self._counts:  # other episodes and actions
            count.assign(seed % 2000 * 1_000_000 + 1)

    def train(self, hyperparameters):
        self._apply(self._agent, hyperparameters)
        try:
            finite = all([bool(self._step()) for _ in range(self._steps)])
        except tf.errors.InvalidArgumentError:  # there are no such actions
            if all(map(_is_finite, self._agent.model.get_weights())):
                raise
            finite = False
        if not finite:
            raise FloatingPointError(
                "The agent's loss, gradient or weights are not finite."
            )
        self._evaluation_environment.assign(self._evaluation_carry)
        return float(self._evaluator().mean)

    def get_state(self):
        return [
            *(v.numpy() for v in self._variables),
            *(kernel.resting() for kernel in self._kernels),
        ]

    def set_state(self, state):
        number = len(self._variables)
        for variable, value in zip(
            self._variables, state[:number], strict=True
        ):
            variable.assign(value)
        for kernel, value in zip(self._kernels, state[number:], strict=True):
            kernel.assign_resting(value)


def _frozen_variables(model):
    """Variables of layers that learn nothing: another agent has taught them."""
    if not model.trainable:
        return model.variables
    if not isinstance(model, keras.Model):
        return []
    return [v for layer in model.layers for v in _frozen_variables(layer)]


def _is_finite(weights):
    return np.isfinite(weights).all()
