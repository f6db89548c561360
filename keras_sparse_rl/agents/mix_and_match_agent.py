import tensorflow as tf

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.loss_term import LossTerm
from keras_sparse_rl.agents.policy_mixture import MixturePolicy
from keras_sparse_rl.agents.policy_mixture import PolicyMixture
from keras_sparse_rl.agents.policy_mixture import check_policies
from keras_sparse_rl.agents.policy_mixture import check_shares


class MixAndMatchAgent(ActorCriticAgent):
    """A curriculum over agents: simple policies lead to a complex one.

    See "Mix & Match - Agent Curricula for Reinforcement Learning" by
    Czarnecki et al. 2018 (https://arxiv.org/abs/1806.01780). What acts and
    learns by reward is the mixture `sum_i alphas[i] * pi_i` of policies from
    simple to complex. Complex policies follow the simpler ones by
    `losses.mix_and_match_loss`. `alphas` moves from the simplest policy to the
    last, and the matching fades with it: in the end the last policy learns
    alone, exactly as by an `ActorCriticAgent`. `policy`, which is evaluated,
    is always the last one alone; `collect_policy` is the mixture.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: one bounded TF-Agents spec, the environment's.
        model: `keras.Model` of the network contract with outputs `"policy"`
            (the last policy), `"value"` (of the mixture), and one for each
            simpler policy, as `mix_and_match_model` makes it.
        optimizer: `keras.optimizers.Optimizer`.
        policies: list of `SimplePolicy`, from the simplest on.
        alphas: shares of all policies, the last included: list of floats on
            the simplex, to be moved by `set_alphas`, or function of the train
            step such as `MixtureSchedule`.
        matching_coefficient: float, which becomes a variable, or function of
            the train step.
        stop_target_gradients: bool, whether only the complex policy of a
            matched pair moves. How the paper did is not known to us.
        **kwargs: further arguments of `ActorCriticAgent`.

    Attributes:
        alphas: variable `(policies,)`, the shares now. Reported while
            training: `alpha`, the share of the last policy, and `matching`.
        matching_coefficient: variable, or the function given.

    Raises:
        ValueError: if shares do not lie on the simplex, the policies have
            different actions without saying which, or actions are a nest.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> grid = environments.LargeActionGrid(batch_size=4)
    >>> core = [agents.SimplePolicy("core", actions=grid.core_actions)]
    >>> model = agents.mix_and_match_model(
    ...     grid.observation_spec(), grid.action_spec(), core)
    >>> agent = agents.MixAndMatchAgent(
    ...     grid.time_step_spec(), grid.action_spec(), model,
    ...     keras.optimizers.Adam(1e-2), core,
    ...     alphas=agents.MixtureSchedule(start=2, end=4))
    >>> history = agents.train(agent, grid, 1, 3, verbose=0)
    >>> agent.alphas.numpy()
    array([0.5, 0.5], dtype=float32)
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        policies,
        alphas,
        matching_coefficient=1.0,
        stop_target_gradients=True,
        loss_terms=(),
        squash=True,
        **kwargs,
    ):
        policies = list(policies)
        outputs = getattr(model, "output", None)
        if isinstance(outputs, dict) and "outputs" in outputs:
            check_policies(policies, action_spec, outputs["outputs"])
        number = len(policies) + 1
        self._schedule = alphas if callable(alphas) else None
        first = alphas(0) if callable(alphas) else alphas
        self.alphas = tf.Variable(
            check_shares(first, number), trainable=False, name="alphas"
        )
        if not callable(matching_coefficient):
            matching_coefficient = tf.Variable(
                check_non_negative(
                    "matching_coefficient", matching_coefficient
                ),
                trainable=False,
                dtype=tf.float32,
                name="matching_coefficient",
            )
        self.matching_coefficient = matching_coefficient
        self._mixture = PolicyMixture(
            policies, action_spec, self.alphas, squash
        )
        matching = _Matching(
            self._mixture,
            matching_coefficient,
            check_flag("stop_target_gradients", stop_target_gradients),
        )
        super().__init__(
            time_step_spec,
            action_spec,
            model,
            optimizer,
            loss_terms=[matching, *loss_terms],
            squash=squash,
            **kwargs,
        )

    @property
    def other_variables(self):
        moved = [self.alphas, self.matching_coefficient]
        return [*super().other_variables, *filter(tf.is_tensor, moved)]

    def set_alphas(self, alphas):
        """Moves the shares of the policies.

        Args:
            alphas: list of floats on the simplex.

        Raises:
            ValueError: if they do not lie on it, or move by a schedule.
        """
        if self._schedule is not None:
            raise ValueError(
                "`alphas` moves by the function given to the agent: "
                f"{self._schedule}. Give a list of floats there to set them."
            )
        self.alphas.assign(check_shares(alphas, self.alphas.shape[0]))

    def _make_policy(self, time_step_spec, action_spec, greedy, seed):
        if greedy:
            return super()._make_policy(
                time_step_spec, action_spec, greedy, seed
            )
        return MixturePolicy(
            time_step_spec,
            action_spec,
            self.model,
            self._mixture,
            self.alphas,
            seed,
        )

    def _acting_distribution(self, outputs):
        return self._mixture.acting(outputs)

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights=None):
        alpha = tf.identity(self.alphas[-1])
        info = super()._train(experience, weights)
        if self._schedule is not None:
            self.alphas.assign(self._schedule(self.train_step_counter))
        return info._replace(extra={**info.extra, "alpha": alpha})


class _Matching(LossTerm):
    def __init__(self, mixture, coefficient, stop_target_gradients):
        if isinstance(coefficient, tf.Variable):
            super().__init__(lambda step: coefficient, "matching")
        else:
            super().__init__(coefficient, "matching")
        self._mixture = mixture
        self._stop_target_gradients = stop_target_gradients

    def loss(self, segment):
        outputs = tf.nest.map_structure(lambda x: x[:, :-1], segment.outputs)
        return self._mixture.matching(outputs, self._stop_target_gradients)
