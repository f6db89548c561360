import keras
import tensorflow as tf
from tf_agents.networks import network
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._tf_agents import LEGACY_KERAS
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_distribution import check_action_outputs
from keras_sparse_rl.agents.episodic_state import outlives_episodes
from keras_sparse_rl.agents.network_inputs import by_name

CONTRACT = {"observation", "is_first", "state"}

if LEGACY_KERAS:
    _Network = network.Network
else:

    class _Network(network.Network, tf.Module):
        """TF-Agents' policies find the variables of a `tf.Module` alone."""

        name = None  # Keras sets it, where a `tf.Module` would refuse


class KerasNetwork(_Network):
    """Any Keras 3 model as a network of TF-Agents.

    In both of TF-Agents' Keras modes (plain Keras 3, and
    `TF_USE_LEGACY_KERAS=1`) its variables are those of the model, for
    training, `policy.variables()`, `tf.train.Checkpoint` and `PolicySaver`.

    A model is either an ordinary one, from observations to outputs (of a dict
    of them, a functional model's inputs are found by their names), or a
    recurrent one that follows the network contract of this library:
    `model({"observation", "is_first", "state"}) -> {"outputs", "state"}` on
    sequences `(batch, time, ...)`; `build_model` makes such models. Its state
    becomes the network's `state_spec`, and it is reset wherever `step_type` is
    FIRST, also inside a sequence. What stands under `"episodic"` in the state
    (that of an `EpisodicLSTM`) outlives episodes, as `outlives_episodes` says;
    policies of TF-Agents that wipe the whole state at FIRST would wipe it too,
    `ActorCriticPolicy` does not.

    Args:
        model: a `keras.Model` or `keras.layers.Layer`.
        observation_spec: nest of TF-Agents specs, as the environment's
            `observation_spec()`.
        action_spec: nest of bounded TF-Agents specs. If given, the network
            returns distributions over actions (for PPO, REINFORCE and other
            policy networks). If None it returns the model's outputs (for
            value and Q networks); outputs `(..., 1)` lose their last axis.
        output: str, which of several outputs of the model is meant. None for
            all of them.
        state_spec: nest of TF-Agents specs without batch: the state of a
            subclassed model that follows the contract. Functional models say
            it themselves.
        squash: bool, whether continuous actions go through tanh; otherwise
            they are normal variables that the policy clips.
        name: str.

    Raises:
        ValueError: if the model does not accept the observations, has hidden
            recurrent state, or its outputs or state do not fit the specs.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl.agents import KerasNetwork
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> network = KerasNetwork(model, tf.TensorSpec((3,), "float32"))
    >>> outputs, state = network(tf.ones((1, 3)))
    >>> outputs.shape, len(network.trainable_variables)
    (TensorShape([1, 2]), 2)
    """

    def __init__(
        self,
        model,
        observation_spec,
        action_spec=None,
        output=None,
        state_spec=None,
        squash=True,
        name="KerasNetwork",
    ):
        if not isinstance(model, keras.layers.Layer):
            raise ValueError(
                "`model` must be a Keras 3 model or layer. Received: "
                f"model={model!r} of type {type(model)}."
            )
        found = _contract_state(model)
        self_made = state_spec is not None
        super().__init__(
            input_tensor_spec=observation_spec,
            state_spec=state_spec if self_made else (found or ()),
            name=name,
        )
        self._follows_contract = self_made or found is not None
        if not self._follows_contract:
            _refuse_hidden_state(model)
        self._action_spec = action_spec
        self._output = output
        self._squash = check_flag("squash", squash)
        self._model = model
        self._check_outputs()
        # In plain lists: what a `tf.Module` finds, and tf_keras leaves alone.
        self._tensors = [v.value for v in model.variables]
        self.create_variables()

    @property
    def model(self):
        """The Keras model."""
        return self._model

    @property
    def variables(self):
        return [v.value for v in self._model.variables]

    @property
    def trainable_variables(self):
        return [v.value for v in self._model.trainable_variables]

    @property
    def non_trainable_variables(self):
        return [v.value for v in self._model.non_trainable_variables]

    @property
    def outlives_episodes(self):
        """Nest of bools like `state_spec`: what an episode's start leaves."""
        return outlives_episodes(self.state_spec)

    weights = variables
    trainable_weights = trainable_variables
    non_trainable_weights = non_trainable_variables

    @property
    def losses(self):
        return self._model.losses

    @property
    def layers(self):
        return getattr(self._model, "layers", [self._model])

    def summary(self, line_length=None, positions=None, print_fn=None):
        """Prints the model's own summary."""
        self._model.summary(line_length, positions, print_fn)

    def outputs(self, observation, is_first, state, training=False):
        """All outputs of a model of the contract, on sequences.

        Args:
            observation: nest of tensors `(batch, time, ...)`.
            is_first: bool tensor `(batch, time)`.
            state: nest as `state_spec`, `(batch, ...)`.
            training: bool.

        Returns:
            Dict of tensors `(batch, time, ...)`, before they are
            distributions.
        """
        inputs = {"observation": observation, "is_first": is_first}
        return self._run({**inputs, "state": state}, training)["outputs"]

    def copy(self, **kwargs):
        """A network of the same form with variables of its own.

        Args:
            **kwargs: arguments of the constructor to change, such as `name`.

        Returns:
            `KerasNetwork`.
        """
        arguments = {
            "model": self._model,
            "observation_spec": self._input_tensor_spec,
            "action_spec": self._action_spec,
            "output": self._output,
            "state_spec": self._state_spec if self._follows_contract else None,
            "squash": self._squash,
            "name": self.name,
            **kwargs,
        }
        if "model" not in kwargs:
            arguments["model"] = _clone(self._model)
        return type(self)(**arguments)

    def call(
        self, observation, step_type=None, network_state=(), training=False
    ):
        """Runs the model on a batch `(batch, ...)` or sequence `(batch, time,
        ...)` of observations.
        """
        rank = nest_utils.get_outer_rank(observation, self._input_tensor_spec)
        if self._follows_contract:
            outputs, network_state = self._sequence(
                observation, step_type, network_state, training, rank
            )
        else:
            outputs = self._batch(observation, training, rank)
        if self._output is not None:
            outputs = outputs[self._output]
        if self._action_spec is not None:
            outputs = action_distribution(
                outputs, self._action_spec, self._squash
            )
        else:
            outputs = tf.nest.map_structure(_without_last_one, outputs)
        return outputs, network_state

    @tf.autograph.experimental.do_not_convert
    def _sequence(self, observation, step_type, state, training, rank):
        first = tf.nest.flatten(observation)[0]
        if not tf.nest.flatten(state):
            state = self.get_initial_state(batch_size=tf.shape(first)[0])
        if step_type is None:
            is_first = tf.zeros(tf.shape(first)[:rank], tf.bool)
        else:
            is_first = tf.equal(step_type, ts.StepType.FIRST)
        inputs = {"observation": observation, "is_first": is_first}
        if rank == 1:
            inputs = tf.nest.map_structure(
                lambda x: tf.expand_dims(x, 1), inputs
            )
        found = self._run({**inputs, "state": state}, training)
        outputs = found["outputs"]
        if rank == 1:
            outputs = tf.nest.map_structure(lambda x: x[:, 0], outputs)
        return outputs, tf.nest.pack_sequence_as(
            self._state_spec, tf.nest.flatten(found["state"])
        )

    @tf.autograph.experimental.do_not_convert
    def _batch(self, observation, training, rank):
        if rank == 1:
            return self._run(observation, training)
        lead = tf.shape(tf.nest.flatten(observation)[0])[:rank]
        merged = tf.nest.map_structure(
            lambda x: tf.reshape(x, (-1, *x.shape[rank:])), observation
        )
        outputs = self._run(merged, training)
        return tf.nest.map_structure(
            lambda x: tf.reshape(x, tf.concat([lead, x.shape[1:]], 0)),
            outputs,
        )

    def _run(self, inputs, training):
        if _is_functional(self._model):
            # TF-Agents' nests are of other types and orders than the model's.
            if self._follows_contract:
                inputs = tf.nest.pack_sequence_as(
                    self._model.input, tf.nest.flatten(inputs)
                )
            else:
                inputs = by_name(self._model.input, inputs)
        return self._model(inputs, training=training)

    def _check_outputs(self):
        """Builds the model on one observation and looks at what it says."""
        observation = tensor_spec.sample_spec_nest(
            self._input_tensor_spec, outer_dims=(1, 1)
        )
        first = tf.ones((1, 1), tf.bool)
        if self._follows_contract:
            state = self.get_initial_state(batch_size=1)
            inputs = {
                "observation": observation,
                "is_first": first,
                "state": state,
            }
        else:
            inputs = tf.nest.map_structure(lambda x: x[:, 0], observation)
        try:
            found = self._run(inputs, False)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(
                "`model` does not accept observations of `observation_spec`="
                f"{self._input_tensor_spec}: {error}"
            ) from error
        outputs = found
        if self._follows_contract:
            outputs = found["outputs"]
            _check_state(found["state"], state)
        if self._output is not None:
            if not isinstance(outputs, dict) or self._output not in outputs:
                names = list(outputs) if isinstance(outputs, dict) else None
                raise ValueError(
                    "`output` must name an output of the model. Received: "
                    f"output={self._output!r}; the model has {names}."
                )
            outputs = outputs[self._output]
        if self._action_spec is not None:
            check_action_outputs(outputs, self._action_spec)


def _contract_state(model):
    """The state spec of a functional model of the contract, or None."""
    inputs = getattr(model, "input", None) if _is_functional(model) else None
    if not isinstance(inputs, dict) or set(inputs) != CONTRACT:
        return None
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape[1:], x.dtype), inputs["state"]
    )


def _is_functional(model):
    """Whether `model.input` is the structure of its inputs."""
    return (
        isinstance(model, keras.Model)
        and not isinstance(model, keras.Sequential)
        and bool(getattr(model, "inputs", None))
    )


def _refuse_hidden_state(model):
    for layer in getattr(model, "layers", [model]):
        if isinstance(layer, keras.layers.RNN):
            raise ValueError(
                f"`model` contains the recurrent layer {layer.name!r}, whose "
                "state TF-Agents cannot see. Build the model by "
                "keras_sparse_rl.agents.build_model(..., core=keras.layers."
                "LSTM(64)), which passes the state in and out."
            )
        if isinstance(layer, keras.Model) and layer is not model:
            _refuse_hidden_state(layer)


def _check_state(found, expected):
    def shapes(nest):
        return [
            (tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
            for x in tf.nest.flatten(nest)
        ]

    if shapes(found) != shapes(expected):
        raise ValueError(
            "The state that `model` returns does not fit the one it takes "
            f"(`state_spec`). It takes {shapes(expected)} and returns "
            f"{shapes(found)} (shape and dtype of each tensor, batch of 1)."
        )


def _clone(model):
    if isinstance(model, keras.Sequential) or _is_functional(model):
        return keras.models.clone_model(model)
    return type(model).from_config(model.get_config())


def _without_last_one(x):
    return tf.squeeze(x, -1) if x.shape[-1] == 1 else x
