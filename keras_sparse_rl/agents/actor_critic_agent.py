import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_distribution import action_entropy
from keras_sparse_rl.agents.action_distribution import action_log_probability
from keras_sparse_rl.agents.actor_critic_checks import check_each_step
from keras_sparse_rl.agents.actor_critic_checks import check_heads
from keras_sparse_rl.agents.actor_critic_checks import check_optimizer
from keras_sparse_rl.agents.actor_critic_checks import check_start
from keras_sparse_rl.agents.actor_critic_checks import check_terms
from keras_sparse_rl.agents.actor_critic_checks import check_weights
from keras_sparse_rl.agents.actor_critic_policy import ActorCriticPolicy
from keras_sparse_rl.agents.finite_step import all_finite
from keras_sparse_rl.agents.finite_step import apply_if
from keras_sparse_rl.agents.gated_terms import GatedTerms
from keras_sparse_rl.agents.keras_network import KerasNetwork
from keras_sparse_rl.agents.segment import Segment
from keras_sparse_rl.losses import vtrace


class ActorCriticAgent(tf_agent.TFAgent):
    """Actor-critic with V-trace, feed-forward or with any memory.

    See "IMPALA" by Espeholt et al. 2018 (https://arxiv.org/abs/1802.01561).
    A `TFAgent` whose `train` takes trajectories `(batch, time + 1, ...)` of
    its `collect_policy`, of which the last step only serves to value what is
    to come. Episodes may start and end anywhere in them; where one is
    truncated, the value of its last observation stands for the rest. Sequences
    start from the memory that the acting policy had, taken from
    `policy_info["state"]`. An episodic memory is there once a sequence, not at
    every step, and is wound forward through the sequence again; `train`
    collects that way.

    Everything that is learned besides policy and value is a `LossTerm`, whose
    gradient may be gated. Regularizers of the model, and what its layers give
    to `add_loss`, are added as in `fit` and reported as `regularization`. To
    clip gradients give the optimizer `global_clipnorm`.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        model: `keras.Model` of the network contract with outputs `"policy"`
            and `"value"`, as `actor_critic_model` makes it.
        optimizer: `keras.optimizers.Optimizer`, also `optimizers.Powerprop`.
            Losses are not scaled: for half precision take mixed_bfloat16.
        loss_terms: list of `LossTerm`.
        discount: float in [0, 1], for rewards one step later.
        trace_decay: float in [0, 1], how far corrections of values reach back:
            1 for whole returns; 0 for value targets of one step, and
            advantages of two, which are taken from the next step's target.
        value_coefficient: float, weight of the value's loss.
        entropy_coefficient: float, weight of the policy's entropy.
        squash: bool, whether continuous actions go through tanh; otherwise
            they are normal variables, clipped when acting.
        seed: int, of the actions.

    Attributes:
        model: the model, with `optimizer` set, for Keras callbacks.

    Raises:
        TypeError: if the optimizer is none of Keras 3.
        ValueError: if model and specs do not fit, a number is out of range, or
            a loss term has weights that are not the model's.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> environment = environments.TMaze(length=5, batch_size=4)
    >>> model = agents.actor_critic_model(
    ...     environment.observation_spec(), environment.action_spec(),
    ...     core=keras.layers.LSTM(8))
    >>> agent = agents.ActorCriticAgent(
    ...     environment.time_step_spec(), environment.action_spec(), model,
    ...     keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
    >>> agent.policy.action(environment.reset(),
    ...     agent.policy.get_initial_state(4)).action.shape
    TensorShape([4])
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        loss_terms=(),
        discount=0.99,
        trace_decay=1.0,
        value_coefficient=0.5,
        entropy_coefficient=0.01,
        squash=True,
        seed=0,
    ):
        check_optimizer(optimizer)
        self._loss_terms = check_terms(loss_terms)
        self._discount = check_unit("discount", discount)
        self._trace_decay = check_unit("trace_decay", trace_decay)
        self._value_coefficient = check_non_negative(
            "value_coefficient", value_coefficient
        )
        self._entropy_coefficient = check_finite(
            "entropy_coefficient", entropy_coefficient
        )
        seed = check_integer("seed", seed, minimum=0)
        self._squash = squash
        check_heads(model)
        check_weights(self._loss_terms, model)
        network = KerasNetwork(
            model,
            time_step_spec.observation,
            action_spec,
            output="policy",
            squash=squash,
        )
        self._network = network
        self.model = model
        # Nothing here would scale the loss.
        model.compile(optimizer=optimizer, auto_scale_loss=False)
        for each, variables in self.optimizers:
            each.build(variables)
        self._gated_terms = GatedTerms(
            self._loss_terms, model.trainable_variables
        )
        policies = [
            self._make_policy(time_step_spec, action_spec, greedy, seed)
            for greedy in (True, False)
        ]
        for term in self._loss_terms:
            policies[1] = term.collect_policy(policies[1])
        super().__init__(
            time_step_spec,
            action_spec,
            *policies,
            train_sequence_length=None,
            train_step_counter=tf.Variable(0, False, dtype=tf.int64),
        )

    @property
    def loss_terms(self):
        """The `LossTerm` objects besides policy, value and entropy."""
        return self._loss_terms

    @property
    def optimizers(self):
        """Pairs of an optimizer and the list of variables it changes.

        Here: `model.optimizer` and all trainable variables. Agents that train
        a part of their model by another optimizer override it.
        """
        return [(self.model.optimizer, self.model.trainable_variables)]

    @property
    def other_variables(self):
        """What a checkpoint needs besides model, optimizers and gates.

        Here: nothing. Agents with target copies override it.
        """
        return []

    @property
    def gates(self):
        """The different `GradientGate` objects of the loss terms."""
        return self._gated_terms.gates

    def combine_gradients(self, per_term_gradients):
        """Makes one gradient of those of all losses.

        Here: the sum, where the terms with a gate are gated by the sum of the
        others. Other methods that weigh losses by their gradients override it,
        and get those of each loss; here the losses without a gate come summed,
        as `"policy"`.

        Args:
            per_term_gradients: dict of name (`"policy"`, `"value"`,
                `"entropy"`, `"regularization"` if there is any, and the loss
                terms' names) to the list of gradients of
                `model.trainable_variables`, None where there is none.

        Returns:
            Tuple of a list of gradients and a dict of numbers to report.
        """
        return self._gated_terms.combine(
            per_term_gradients, len(self.model.trainable_variables)
        )

    def non_finite_terms(self, experience):
        """Names of the losses that are, or whose gradients are, not finite.

        Args:
            experience: trajectories as for `train`.

        Returns:
            List of str.
        """
        with tf.GradientTape(persistent=True) as tape:
            losses, _ = self._losses(experience, None, training=True)
        bad = []
        for name, loss in losses.items():
            gradients = tape.gradient(loss, self.model.trainable_variables)
            if not all_finite([loss, *gradients]):
                bad.append(name)
        return bad

    def _make_policy(self, time_step_spec, action_spec, greedy, seed):
        """The greedy policy that counts, or the one that collects.

        An agent that acts by something else than the model's "policy"
        overrides it, and `_acting_distribution`.
        """
        return ActorCriticPolicy(
            time_step_spec, action_spec, self._network, greedy, not greedy, seed
        )

    def _acting_distribution(self, outputs):
        """Nest of distributions that collected, from the model's outputs."""
        return action_distribution(
            outputs["policy"], self.action_spec, self._squash
        )

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights=None):
        variables = self.model.trainable_variables
        overridden = (
            type(self).combine_gradients
            is not ActorCriticAgent.combine_gradients
        )
        separate = overridden or bool(self.gates)
        with tf.GradientTape(persistent=separate) as tape:
            losses, rewards = self._losses(experience, weights, training=True)
            total = tf.add_n(list(losses.values()))
            parts = losses
            if not overridden:
                parts = self._gated_terms.parts(losses)
        if separate:
            gradients, figures = self.combine_gradients(
                {
                    name: tape.gradient(loss, variables)
                    for name, loss in parts.items()
                }
            )
        else:
            gradients, figures = tape.gradient(total, variables), {}
        finite = all_finite([*losses.values(), *gradients])
        # A step that is not finite changes nothing; `train` reports it.
        apply_if(finite, self.optimizers, gradients, variables)
        self.train_step_counter.assign_add(1)
        return tf_agent.LossInfo(
            total,
            {
                **losses,
                **rewards,
                **figures,
                "gradient_norm": tf.linalg.global_norm(
                    [g for g in gradients if g is not None]
                ),
                "finite": finite,
            },
        )

    @tf.autograph.experimental.do_not_convert
    def _loss(self, experience, weights=None, training=False):
        losses, rewards = self._losses(experience, weights, training)
        total = tf.add_n(list(losses.values()))
        return tf_agent.LossInfo(total, {**losses, **rewards})

    def _losses(self, experience, weights, training):
        """Dicts of each term's share of the loss and of rewards, numbers."""
        segment = self._segment(experience, training)
        added = self.model.losses  # before a term may run the model again
        prepared = {t.name: t.prepare(segment) for t in self._loss_terms}
        segment = segment._replace(prepared=prepared)
        reward_t, rewards = self._environment_reward(segment), {}
        for term in self._loss_terms:
            extra = term.reward(segment)
            if extra is not None:
                check_each_step("reward", term, extra, segment)
                extra = self._coefficient(term) * tf.stop_gradient(extra)
                reward_t += extra * segment.is_valid
                rewards[f"reward_{term.name}"] = extra
        segment = segment._replace(reward_t=reward_t)
        segment = segment._replace(vtrace=self._vtrace(segment))
        losses = self._actor_critic_losses(segment, rewards)
        for term in self._loss_terms:
            loss = term.loss(segment)
            if loss is not None:
                check_each_step("loss", term, loss, segment)
                losses[term.name] = self._coefficient(term) * loss
        check_weights(self._loss_terms, self.model)  # also those just made
        counted = segment.is_valid
        if weights is not None:
            weights = tf.convert_to_tensor(weights, counted.dtype)
            counted *= tf.reshape(weights, (-1, 1))
        number = tf.maximum(tf.reduce_sum(segment.is_valid), 1.0)

        def means(tensors):
            return {
                name: tf.reduce_sum(tensor * counted) / number
                for name, tensor in tensors.items()
            }

        losses = means(losses)
        if added:
            losses["regularization"] = tf.add_n(
                [tf.reduce_sum(tf.cast(x, tf.float32)) for x in added]
            )
        return losses, means(rewards)

    def _environment_reward(self, segment):
        """What of the environment's reward counts, `(batch, time)`."""
        return segment.reward_t

    def _vtrace(self, segment):
        value = segment.value
        ratio = tf.exp(
            segment.log_probability - segment.behaviour_log_probability
        )
        return vtrace(
            v_tm1=value[:, :-1],
            v_t=value[:, 1:],
            r_t=segment.reward_t,
            discount_t=segment.discount_t,
            rho_tm1=ratio,
            is_last_t=segment.is_last_t,
            lambda_=self._trace_decay,
        )

    def _actor_critic_losses(self, segment, rewards):
        """Dict of losses `(batch, time)` besides those of the terms.

        `rewards`: dict of what the terms pay.
        """
        error = segment.vtrace.value_target_tm1 - segment.value[:, :-1]
        return {
            "policy": -segment.vtrace.advantage_tm1 * segment.log_probability,
            "value": 0.5 * self._value_coefficient * error**2,
            "entropy": -self._entropy_coefficient
            * action_entropy(segment.distribution),
        }

    def _segment(self, experience, training):
        state = tf.nest.map_structure(
            lambda x: x[:, 0], experience.policy_info["state"]
        )
        network_state = self.collect_policy.network_state(state)
        check_start(network_state, self._network.state_spec)
        is_first = tf.equal(experience.step_type, ts.StepType.FIRST)
        outputs = self._network.outputs(
            experience.observation,
            is_first,
            network_state,
            training,
        )
        outputs = tf.nest.map_structure(
            lambda x: tf.cast(x, tf.float32), outputs
        )
        action = tf.nest.map_structure(lambda x: x[:, :-1], experience.action)
        policy, distribution = (
            self._acting_distribution(heads)
            for heads in (
                outputs,
                tf.nest.map_structure(lambda x: x[:, :-1], outputs),
            )
        )
        is_last = tf.equal(experience.step_type, ts.StepType.LAST)
        behaviour = experience.policy_info["log_probability"][:, :-1]
        return Segment(
            observation=experience.observation,
            is_first=is_first,
            action=action,
            reward_t=experience.reward[:, :-1],
            discount_t=self._discount * experience.discount[:, :-1],
            is_valid=1.0 - tf.cast(is_last[:, :-1], tf.float32),
            is_last_t=tf.equal(
                experience.next_step_type[:, :-1], ts.StepType.LAST
            ),
            outputs=outputs,
            policy=policy,
            distribution=distribution,
            log_probability=action_log_probability(distribution, action),
            behaviour_log_probability=behaviour,
            value=tf.squeeze(outputs["value"], -1),
            vtrace=None,
            memories=self.collect_policy.memories(state),
            prepared=None,
        )

    def _coefficient(self, term):
        if callable(term.coefficient):
            return tf.cast(
                term.coefficient(self.train_step_counter), tf.float32
            )
        return term.coefficient
