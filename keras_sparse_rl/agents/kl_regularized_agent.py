import keras
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.actor_critic_checks import check_heads
from keras_sparse_rl.agents.actor_critic_policy import ActorCriticPolicy
from keras_sparse_rl.agents.default_policy_model import check_default
from keras_sparse_rl.agents.default_policy_model import check_learner
from keras_sparse_rl.agents.default_policy_model import check_seen
from keras_sparse_rl.agents.default_policy_model import join_default
from keras_sparse_rl.agents.default_policy_model import seen_part
from keras_sparse_rl.agents.keras_network import KerasNetwork
from keras_sparse_rl.agents.kl_to_default_term import DistilledDefault
from keras_sparse_rl.agents.kl_to_default_term import KLToDefaultTerm
from keras_sparse_rl.agents.target_copy import TargetCopy

TARGET = "target_default"


class KLRegularizedAgent(ActorCriticAgent):
    """Actor-critic that stays near a default policy which knows less.

    See "Information asymmetry in KL-regularized RL" by Galashov et al. 2019
    (https://arxiv.org/abs/1905.01240). The policy maximizes
    `E sum_t gamma^t (r_t - alpha KL_t)`, where `KL_t` is its divergence from
    the default policy; the default minimizes the same divergence by an
    optimizer of its own (distillation). Which observations each of the two
    sees is said by its model: what the default does not see is what may
    become habit. `alpha` and `KL_t` of this agent's figures are in nats and
    units of reward.

    The policy is drawn to a target copy of the default, as in the authors'
    Acme (agent `svg0_prior`: alpha 1e-3, copied each 100 steps). A default with
    memory is run, for the copy too, from the state it had when acting.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        model: `keras.Model` of the policy and value, as `actor_critic_model`
            makes it, from the whole observation or a dict of some of its keys.
        optimizer: `keras.optimizers.Optimizer` of policy and value.
        default_model: `keras.Model` of the default policy, as
            `default_policy_model` makes it. None for the uniform policy over
            discrete actions, which is entropy regularisation.
        default_optimizer: `keras.optimizers.Optimizer` of the default.
        alpha: float of at least 0, or a function of the train step, such as a
            `keras.optimizers.schedules` schedule.
        target_period: int, train steps from one target copy to the next.
        freeze_default: bool. True, instead of a `default_optimizer`, keeps the
            default as it is, as for transfer of one that another agent has
            learned: the agent has a copy of it that is not trainable.
        loss_terms: list of further `LossTerm` objects.
        squash: see `ActorCriticAgent`.
        entropy_coefficient: float, 0 by default: a bonus at each step draws
            to the uniform policy, which the divergence is there to replace.
        **arguments: the other arguments of `ActorCriticAgent`.

    Attributes:
        model: container of all networks, with `optimizer` set.
        default_model: the default's model, to be given to another agent.
        default_policy: TF-Agents policy that acts by the default alone.

    Raises:
        TypeError: if an optimizer is none of Keras 3.
        ValueError: if a default is neither learned nor frozen, or both,
            `alpha` is negative, a model sees keys that the observation lacks,
            does not fit the actions or is not finite.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> rooms = environments.GoToTarget(size=7, batch_size=4)
    >>> observation, action = rooms.observation_spec(), rooms.action_spec()
    >>> agent = agents.KLRegularizedAgent(
    ...     rooms.time_step_spec(), action,
    ...     agents.actor_critic_model(observation, action),
    ...     keras.optimizers.Adam(1e-3),
    ...     agents.default_policy_model(
    ...         {"walls": observation["walls"]}, action),
    ...     keras.optimizers.Adam(1e-3), alpha=0.01)
    >>> history = agents.train(agent, rooms, epochs=1, steps_per_epoch=2,
    ...                        verbose=0)
    >>> {"kl", "default"} <= set(history.history)
    True
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        default_model=None,
        default_optimizer=None,
        alpha=1e-3,
        target_period=100,
        freeze_default=False,
        loss_terms=(),
        squash=True,
        entropy_coefficient=0.0,
        **arguments,
    ):
        check_integer("target_period", target_period)
        check_heads(model)
        observation_spec = time_step_spec.observation
        check_seen("model", model, observation_spec)
        self._default_optimizer = default_optimizer
        self._target = None
        output = None
        terms = []
        check_default(default_model, observation_spec, action_spec)
        check_learner(default_model, default_optimizer, freeze_default)
        if freeze_default:
            default_model = _frozen_copy(default_model)
        self.default_model = default_model
        if default_model is None:
            container = join_default(observation_spec, model)
        else:
            container = join_default(observation_spec, model, default_model)
            output = "default"
        if default_optimizer is not None:
            _check_two(default_optimizer, optimizer)
            output = TARGET
            self._target = TargetCopy(default_model, target_period)
            terms.append(DistilledDefault(action_spec, squash))
        terms.insert(0, KLToDefaultTerm(action_spec, alpha, output, squash))
        super().__init__(
            time_step_spec,
            action_spec,
            container,
            optimizer,
            loss_terms=[*terms, *loss_terms],
            squash=squash,
            entropy_coefficient=entropy_coefficient,
            **arguments,
        )
        self.default_policy = None
        if default_model is not None:
            self.default_policy = ActorCriticPolicy(
                time_step_spec,
                action_spec,
                KerasNetwork(
                    container,
                    observation_spec,
                    action_spec,
                    output="default",
                    squash=squash,
                ),
            )

    @property
    def optimizers(self):
        variables = self.model.trainable_variables
        if self._default_optimizer is None:
            return [(self.model.optimizer, variables)]
        own = self.default_model.trainable_variables
        taken = set(map(id, own))
        others = [v for v in variables if id(v) not in taken]
        return [(self.model.optimizer, others), (self._default_optimizer, own)]

    @property
    def other_variables(self):
        return [] if self._target is None else self._target.values

    def _initialize(self):
        if self._target is not None:
            self._target.copy()

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights=None):
        info = super()._train(experience, weights)
        if self._target is not None:
            self._target.update(self.train_step_counter)
        return info

    def _segment(self, experience, training):
        segment = super()._segment(experience, training)
        if self._target is None:
            return segment
        default = self.default_model
        state = tf.nest.map_structure(
            lambda x: x[:, 0], experience.policy_info["state"]
        )
        state = self.collect_policy.network_state(state)
        inputs = {
            "observation": seen_part(segment.observation, default),
            "is_first": tf.equal(experience.step_type, ts.StepType.FIRST),
            "state": state["default"] if default.input["state"] else {},
        }
        found = self._target(
            tf.nest.pack_sequence_as(default.input, tf.nest.flatten(inputs))
        )
        target = tf.nest.map_structure(
            lambda x: tf.cast(x, tf.float32), found["outputs"]["policy"]
        )
        return segment._replace(outputs={**segment.outputs, TARGET: target})


def _frozen_copy(model):
    """The model of a user stays as trainable as it is."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.trainable = False
    return copy


def _check_two(default_optimizer, optimizer):
    if default_optimizer is optimizer:
        raise ValueError(
            "`default_optimizer` and `optimizer` must be two objects: each "
            "trains variables of its own. Make a second one."
        )
