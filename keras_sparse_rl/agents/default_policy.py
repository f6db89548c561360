import keras
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_kl import action_kl
from keras_sparse_rl.agents.default_policy_model import check_default
from keras_sparse_rl.agents.default_policy_model import check_learner
from keras_sparse_rl.agents.default_policy_model import seen_part
from keras_sparse_rl.agents.target_copy import TargetCopy


class DefaultPolicy(tf.Module):
    """The default policy beside one of TF-Agents' own agents.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs.
        action_spec: nest of bounded TF-Agents specs.
        model: `keras.Model` of the default, or None for the uniform policy.
        optimizer: `keras.optimizers.Optimizer`, or None.
        alpha: float of at least 0, or a function of the train step.
        target_period: int.
        squash: bool.
        freeze: bool.
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        alpha,
        target_period,
        squash,
        freeze=False,
    ):
        super().__init__(name="default_policy")
        if not callable(alpha):
            check_non_negative("alpha", alpha)
        else:
            check_non_negative("alpha(0)", float(alpha(0)))
        check_integer("target_period", target_period)
        self._alpha = alpha
        self._time_step_spec = time_step_spec
        self._action_spec = action_spec
        self._squash = squash
        self._model = model
        self._optimizer = optimizer
        self._target = None
        self._steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        # In plain lists: what a `tf.Module` and checkpoints find.
        self._values, self._slots = [], []
        check_default(model, time_step_spec.observation, action_spec)
        check_learner(model, optimizer, freeze)
        if model is None:
            return
        self._values = [v.value for v in model.variables]
        if freeze:
            return
        optimizer.build(model.trainable_variables)
        self._slots = [v.value for v in optimizer.variables]
        self._target = TargetCopy(model, target_period)

    @property
    def alpha(self):
        """The coefficient at this train step."""
        if callable(self._alpha):
            return tf.cast(self._alpha(self._steps), tf.float32)
        return self._alpha

    @property
    def remembers(self):
        """Whether the default has a state."""
        return self._model is not None and bool(self._model.input["state"])

    def divergence(self, distribution, time_step, learn="policy"):
        """`KL(policy || default)` of each step, in nats.

        Args:
            distribution: nest of distributions, the policy's.
            time_step: TF-Agents `TimeStep` `(batch, ...)` or
                `(batch, time, ...)`; a default with memory starts it anew.
            learn: `"policy"`: towards the target copy of the default, no
                gradient reaches it. `"default"`: the default itself learns.

        Returns:
            Float tensor `(batch,)` or `(batch, time)`.
        """
        default = None
        if self._model is not None:
            model = self._model
            if self._target is not None and learn == "policy":
                model = self._target
            default = self._distribution(model, time_step)
        return action_kl(distribution, default, learn)

    def learn(self, distribution, time_step, weights):
        """One step of the default towards the policy.

        Args:
            distribution: nest of distributions, the policy's.
            time_step: TF-Agents `TimeStep`.
            weights: float tensor of the steps' weights.
        """
        if self._target is None:
            self._steps.assign_add(1)
            return
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            divergence = self.divergence(distribution, time_step, "default")
            loss = tf.reduce_sum(divergence * weights)
            loss /= tf.maximum(tf.reduce_sum(weights), 1e-6)
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        self._steps.assign_add(1)
        self._target.update(self._steps)

    def _distribution(self, model, time_step):
        observation = time_step.observation
        rank = nest_utils.get_outer_rank(
            observation, self._time_step_spec.observation
        )
        inputs = {
            "observation": seen_part(observation, self._model),
            "is_first": tf.equal(time_step.step_type, ts.StepType.FIRST),
        }
        if rank == 1:
            inputs = tf.nest.map_structure(lambda x: x[:, tf.newaxis], inputs)
        batch = tf.shape(time_step.step_type)[0]
        inputs["state"] = keras.tree.map_structure(
            lambda x: tf.zeros((batch, *x.shape[1:]), x.dtype),
            self._model.input["state"],
        )
        outputs = model(
            tf.nest.pack_sequence_as(self._model.input, tf.nest.flatten(inputs))
        )["outputs"]["policy"]
        if rank == 1:
            outputs = tf.nest.map_structure(lambda x: x[:, 0], outputs)
        return action_distribution(outputs, self._action_spec, self._squash)
