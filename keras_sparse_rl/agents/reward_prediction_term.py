import tensorflow as tf
from tf_agents.specs import tensor_spec

from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.agents.loss_term import LossTerm
from keras_sparse_rl.meta import BernoulliLogLoss
from keras_sparse_rl.meta import LogLoss


class RewardPredictionTerm(LossTerm):
    """Predicts the reward of the action that was taken: a predictive head.

    Makes a memory keep what rewards depend on, which the gradient of returns
    alone hardly finds: meta-learned agents come nearer to Bayes-optimal play
    by it (the remedy of Kuo et al. 2025, https://arxiv.org/abs/2510.22039,
    who predict observations too). The model needs an output of that name, of
    `loss.num_outputs` units for each action; gradients flow through it into
    the memory. Rewards of other terms are not predicted.

    Args:
        action_spec: TF-Agents spec of one discrete action, the environment's.
        coefficient: float, or function of the train step.
        loss: `meta.LogLoss`: `BernoulliLogLoss()` for rewards 0 and 1,
            `NormalLogLoss()` for any.
        output: str, the model's output.
        name: str.
        gate: `gradients.GradientGate` or None, see `LossTerm`.

    Raises:
        ValueError: if there are several actions or continuous ones, or the
            loss is none; and, before the first step, if the model has no such
            output or one of another size.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> bandit = environments.BernoulliBandit(batch_size=2)
    >>> model = agents.build_model(
    ...     bandit.observation_spec(),
    ...     {"policy": keras.layers.Dense(2), "value": keras.layers.Dense(1),
    ...      "reward": keras.layers.Dense(2)})
    >>> agent = agents.ActorCriticAgent(
    ...     bandit.time_step_spec(), bandit.action_spec(), model,
    ...     keras.optimizers.Adam(),
    ...     loss_terms=[agents.RewardPredictionTerm(bandit.action_spec())])
    >>> agent.loss_terms[0].name
    'reward_prediction'
    """

    def __init__(
        self,
        action_spec,
        coefficient=1.0,
        loss=None,
        output="reward",
        name="reward_prediction",
        gate=None,
    ):
        super().__init__(coefficient, name, gate)
        spec = tensor_spec.from_spec(action_spec)
        if tf.nest.is_nested(spec) or spec.dtype.is_floating or spec.shape.rank:
            raise ValueError(
                "Rewards are predicted of one discrete action a step. "
                f"Received: action_spec={action_spec}."
            )
        self._choices = num_action_outputs(spec)
        self._loss = BernoulliLogLoss() if loss is None else loss
        if not isinstance(self._loss, LogLoss):
            raise ValueError(
                "`loss` must be a keras_sparse_rl.meta.LogLoss, such as "
                f"meta.BernoulliLogLoss(). Received: loss={loss!r}."
            )
        self._output = output

    def prepare(self, segment):
        # Before other terms add theirs.
        return segment.reward_t

    def loss(self, segment):
        shape = (self._choices, self._loss.num_outputs)
        outputs = segment.outputs.get(self._output)
        if outputs is None or outputs.shape[-1] != shape[0] * shape[1]:
            sizes = {
                name: tf.nest.map_structure(lambda x: x.shape[-1], x)
                for name, x in segment.outputs.items()
            }
            raise ValueError(
                f"The model needs an output {self._output!r} of "
                f"{shape[0] * shape[1]} units, {shape[1]} for each of "
                f"{shape[0]} actions. Received: outputs of sizes {sizes}. Add "
                "it to the `heads` of agents.build_model."
            )
        outputs = outputs[:, :-1]
        each = tf.reshape(
            outputs, tf.concat([tf.shape(outputs)[:2], shape], axis=0)
        )
        taken = tf.one_hot(segment.action, self._choices)
        predicted = tf.einsum("bta,btan->btn", taken, each)
        return -self._loss.log_probability(
            predicted, segment.prepared[self.name]
        )
