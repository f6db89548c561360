import keras
import numpy as np
import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.advice import Advice
from keras_sparse_rl.agents.episodic_state import outlives_episodes
from keras_sparse_rl.agents.keras_network import KerasNetwork
from keras_sparse_rl.agents.policy_parameters import map_parameters
from keras_sparse_rl.agents.policy_parameters import policy_parameters
from keras_sparse_rl.agents.policy_parameters import squashes
from keras_sparse_rl.agents.teacher_checks import check_answer
from keras_sparse_rl.agents.teacher_checks import check_keys
from keras_sparse_rl.agents.teacher_checks import check_same_actions


class Teacher:
    """A policy to learn from: of TF-Agents, of Keras, or any function.

    Args:
        source: one of
            a TF-Agents `TFPolicy`, also with a state;
            a `keras.Model` of this library's network contract with an output
            `"policy"` (and `"value"`), as `actor_critic_model` makes it;
            any `keras.Model`, or function, from a batch of observations to
            what a policy head gives: logits, or locations and scales (see
            `num_action_outputs`).
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        keys: what the teacher sees of the environment's observation, a dict:
            list of str for a dict of these, or one str for that entry itself.
            None for all of it.
        value: `keras.Model` or function from a batch of observations (the same
            keys) to values `(batch,)` or `(batch, 1)`. None for the output
            `"value"` of a model of the contract, or none.
        squash: bool, for models and functions: whether their continuous
            actions go through tanh.

    Attributes:
        state_spec: nest of specs of the teacher's memory, empty without.
        has_value: bool.

    Raises:
        ValueError: if the observation lacks a key, the teacher's action spec
            is another one, its outputs do not fit, or are not finite.

    Example:

    >>> import tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> world = environments.RandomGridWorld(size=5)
    >>> always_up = agents.Teacher(
    ...     lambda cell: tf.tile([[9.0, 0, 0, 0]], [tf.shape(cell)[0], 1]),
    ...     world.time_step_spec(), world.action_spec())
    >>> always_up.has_value
    False
    """

    def __init__(
        self,
        source,
        time_step_spec,
        action_spec,
        keys=None,
        value=None,
        squash=True,
    ):
        # Those of an environment in Python have types of NumPy.
        observation_spec = tensor_spec.from_spec(time_step_spec.observation)
        action_spec = tensor_spec.from_spec(action_spec)
        self._keys = check_keys(keys, observation_spec)
        self._action_spec = action_spec
        self._squash = check_flag("squash", squash)
        self._value = value
        self.source = source
        self.state_spec = ()
        self._network = None
        seen = self._seen(observation_spec)
        if isinstance(source, tf_policy.TFPolicy):
            check_same_actions(source.action_spec, action_spec)
            self.state_spec = source.policy_state_spec
        elif isinstance(source, keras.layers.Layer):
            if _is_contract(source):
                self._network = KerasNetwork(source, seen, squash=squash)
                self.state_spec = self._network.state_spec
                names = self._network.model.output["outputs"]
                if "policy" not in names:
                    raise ValueError(
                        "A teacher of the network contract must have an output"
                        f" 'policy'. Received outputs {list(names)}."
                    )
        elif not callable(source):
            raise ValueError(
                "`source` of a teacher must be a TF-Agents policy, a Keras "
                "model or a function of observations. Received: "
                f"{source!r} of type {type(source)}."
            )
        self.has_value = value is not None or (
            self._network is not None and "value" in names
        )
        self.squashes = self._try_out(seen)

    @property
    def outlives_episodes(self):
        """Nest of bools like `state_spec`: what an episode's start keeps."""
        return outlives_episodes(self.state_spec)

    def check_variant(self, variant):
        """Raises if a `DistillationVariant` needs a value and there is none."""
        if variant.needs_teacher_value and not self.has_value:
            raise ValueError(
                "`variant` needs the teacher's value, and the teacher has "
                f"none. Received: {variant}. Give agents.Teacher(..., "
                "value=function of observations), or a teacher model with an "
                "output 'value'."
            )

    def check_student(self, distribution):
        """Raises unless a student's actions go through tanh where ours do."""
        if squashes(distribution) != self.squashes:
            raise ValueError(
                "Continuous actions must go through tanh in both teacher and "
                "student, or in neither. Received (by action): teacher "
                f"{self.squashes}, student {squashes(distribution)}. Set "
                "`squash` of the agent or of the teacher."
            )

    def check_other(self, variables):
        """Raises if the teacher is the student.

        Args:
            variables: list of the student's variables.
        """
        if isinstance(self.source, tf_policy.TFPolicy):
            own = [v for v in self.source.variables() if v.trainable]
        elif isinstance(self.source, keras.layers.Layer):
            own = self.source.trainable_variables
        else:  # of a function nobody knows
            return
        own, students = (
            {id(_tf_variable(v)) for v in part} for part in (own, variables)
        )
        if own and own <= students:
            raise ValueError(
                "The teacher is the student, whose `model` it shares: it "
                "would be compared with itself and learn nothing. Give the "
                "student a model of its own, for example "
                "keras.models.clone_model(teacher). Received: teacher "
                f"{self.source!r}."
            )

    def initial_state(self, batch_size):
        """The teacher's memory before an episode, `(batch, ...)`."""
        if isinstance(self.source, tf_policy.TFPolicy):
            return self.source.get_initial_state(batch_size)
        return tf.nest.map_structure(
            lambda s: tf.zeros((batch_size, *s.shape), s.dtype), self.state_spec
        )

    def distribution(self, time_step, state):
        """Distributions over actions at one step.

        Policies and models forget by themselves where `step_type` is FIRST,
        each what it does not carry over to the next episode.

        Args:
            time_step: TF-Agents `TimeStep` `(batch, ...)`.
            state: nest as `state_spec`, `(batch, ...)`.

        Returns:
            Tuple of a nest of distributions and the next state.
        """
        time_step = time_step._replace(
            observation=self._seen(time_step.observation)
        )
        if isinstance(self.source, tf_policy.TFPolicy):
            step = self.source.distribution(time_step, state)
            return step.action, step.state
        if self._network is None:
            outputs = self.source(time_step.observation)
        else:
            outputs, state = self._network(
                time_step.observation,
                step_type=time_step.step_type,
                network_state=state,
            )
            outputs = outputs["policy"]
        return action_distribution(
            outputs, self._action_spec, self._squash
        ), state

    def advise(self, observation, is_first, state=()):
        """What the teacher would do at every step of sequences.

        Args:
            observation: nest of tensors `(batch, time, ...)`, the
                environment's.
            is_first: bool tensor `(batch, time)`, where episodes start.
            state: nest as `state_spec`, `(batch, ...)`, before the first step.

        Returns:
            `Advice`.
        """
        seen = self._seen(observation)
        if self._network is not None:
            outputs = self._network.outputs(seen, is_first, state)
            policy = policy_parameters(
                action_distribution(
                    outputs["policy"], self._action_spec, self._squash
                )
            )
            value = outputs.get("value")
        elif tf.nest.flatten(self.state_spec):
            policy, value = self._step_by_step(observation, is_first, state)
        else:
            flat = tf.nest.map_structure(
                lambda x: tf.reshape(x, (-1, *x.shape[2:])), observation
            )
            first = tf.reshape(is_first, [-1])
            distribution, _ = self.distribution(_time_step(flat, first), ())
            policy = map_parameters(
                lambda x: _unflattened(x, is_first),
                policy_parameters(distribution),
            )
            value = None
        if self._value is not None:
            flat = tf.nest.map_structure(
                lambda x: tf.reshape(x, (-1, *x.shape[2:])), seen
            )
            value = tf.convert_to_tensor(self._value(flat))
            value = _unflattened(tf.reshape(value, [-1]), is_first)
        elif value is not None:
            value = tf.squeeze(value, -1)
        policy = map_parameters(tf.stop_gradient, policy)
        return Advice(
            policy, value if value is None else tf.stop_gradient(value)
        )

    def _step_by_step(self, observation, is_first, state):
        policies = []
        for t in range(is_first.shape[1]):
            time_step = _time_step(
                tf.nest.map_structure(lambda x, t=t: x[:, t], observation),
                is_first[:, t],
            )
            distribution, state = self.distribution(time_step, state)
            policies.append(policy_parameters(distribution))
        policy = map_parameters(
            lambda *steps: tf.stack(steps, axis=1), *policies
        )
        return policy, None

    def _seen(self, observation):
        if self._keys is None:
            return observation
        if isinstance(self._keys, str):
            return observation[self._keys]
        return {key: observation[key] for key in self._keys}

    def _try_out(self, seen):
        """Asks once, and returns which actions go through tanh."""
        observation = tf.nest.map_structure(_middle, seen)
        whole = self._keys
        self._keys = None
        try:
            distribution, _ = self.distribution(
                _time_step(observation, tf.constant([True, True])),
                self.initial_state(2),
            )
            value = None
            if self._value is not None:
                value = np.asarray(self._value(observation))
        finally:
            self._keys = whole
        check_answer(policy_parameters(distribution), value, observation)
        return squashes(distribution)


def _tf_variable(variable):
    return variable.value if isinstance(variable, keras.Variable) else variable


def _is_contract(model):
    output = getattr(model, "output", None) if model.built else None
    return isinstance(output, dict) and set(output) == {"outputs", "state"}


def _time_step(observation, is_first):
    kinds = tf.where(is_first, ts.StepType.FIRST, ts.StepType.MID)
    one = tf.ones(tf.shape(kinds))
    return ts.TimeStep(kinds, tf.zeros_like(one), one, observation)


def _unflattened(x, is_first):
    shape = tf.concat([tf.shape(is_first), tf.shape(x)[1:]], axis=0)
    x = tf.reshape(x, shape)
    return tf.ensure_shape(x, (*is_first.shape, *x.shape[2:]))


def _middle(spec):
    """Two observations of a spec, 0 as far as it allows that."""
    zero = np.zeros((2, *spec.shape), spec.dtype.as_numpy_dtype)
    if hasattr(spec, "minimum"):
        zero = np.clip(zero, spec.minimum, spec.maximum)
    return tf.constant(zero.astype(spec.dtype.as_numpy_dtype))
