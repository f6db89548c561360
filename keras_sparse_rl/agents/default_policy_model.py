"""Models of default policies, and of a policy together with one."""

import keras
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.agents.action_distribution import check_action_outputs
from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.agents.actor_critic_checks import check_unscaled
from keras_sparse_rl.agents.build_model import build_model
from keras_sparse_rl.agents.build_model import head_stddev
from keras_sparse_rl.agents.build_model import policy_heads
from keras_sparse_rl.agents.keras_network import CONTRACT


def default_policy_model(observation_spec, action_spec, torso=None, core=None):
    """A default policy that sees the part of the observation it is given.

    A model of the network contract with the one output `"policy"`, as
    `KLRegularizedAgent` and the wrappers of TF-Agents' agents take it.

    Args:
        observation_spec: the part of the environment's observation that the
            default policy sees: a dict with some of its keys, of the same
            specs. An empty dict for nothing at all.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        torso: see `build_model`.
        core: see `build_model`.

    Returns:
        `keras.Model` of the network contract.

    Raises:
        ValueError: if an action has no bounds, or the core cannot serve.

    Example:

    >>> from keras_sparse_rl import agents, environments
    >>> rooms = environments.GoToTarget(size=7)
    >>> seen = {key: rooms.observation_spec()[key]
    ...         for key in ("walls", "previous_action")}
    >>> model = agents.default_policy_model(seen, rooms.action_spec())
    >>> sorted(model.input["observation"])
    ['previous_action', 'walls']
    """
    action_spec = tensor_spec.from_spec(action_spec)
    if isinstance(observation_spec, dict) and not observation_spec:
        return _blind(action_spec)
    stddev = head_stddev(None, reads_memory=core is not None)
    heads = {"policy": policy_heads(action_spec, stddev)}
    return build_model(observation_spec, heads, torso, core)


def join_default(observation_spec, model, default=None):
    """One container of a policy's model and its default's.

    Args:
        observation_spec: nest of TF-Agents specs, the environment's.
        model: `keras.Model` of the contract that sees all or a part of the
            observation, with outputs `"policy"`, `"value"` and any others.
        default: `keras.Model` of the contract with an output `"policy"`, or
            None.

    Returns:
        `keras.Model` of the contract on the whole observation; its outputs
        also hold `"default"`, if there is one.
    """
    observation = tf.nest.map_structure(
        lambda spec: keras.Input((None, *spec.shape), dtype=spec.dtype.name),
        tensor_spec.from_spec(observation_spec),
    )
    is_first = keras.Input((None,), dtype="bool", name="is_first")
    # Some versions of Keras refuse an input that nothing reads: what neither
    # part sees of the observation goes along with what both read.
    keep = keras.layers.Identity(autocast=False)
    seen, starts = keep((observation, is_first))
    parts = {"policy": model}
    if default is not None:
        parts["default"] = default
    states = {
        name: keras.tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype),
            part.input["state"],
        )
        for name, part in parts.items()
    }
    found = {
        name: part(
            {
                "observation": seen_part(seen, part),
                "is_first": starts,
                "state": states[name],
            }
        )
        for name, part in parts.items()
    }
    outputs = dict(found["policy"]["outputs"])
    if default is not None:
        outputs["default"] = found["default"]["outputs"]["policy"]
    remembers = [name for name in parts if keras.tree.flatten(states[name])]
    return keras.Model(
        {
            "observation": observation,
            "is_first": is_first,
            "state": {name: states[name] for name in remembers},
        },
        {
            "outputs": outputs,
            "state": {name: found[name]["state"] for name in remembers},
        },
    )


def seen_part(observation, model):
    """The part of a nest of observations that a model of the contract sees."""
    return _part(observation, model.input["observation"])


def check_default(default, observation_spec, action_spec):
    """Raises unless a default policy's model fits an environment.

    Args:
        default: `keras.Model`, or None for the uniform policy.
        observation_spec: nest of TF-Agents specs, the environment's.
        action_spec: nest of bounded specs, the environment's.
    """
    if default is None:
        if not all(map(tensor_spec.is_discrete, tf.nest.flatten(action_spec))):
            raise ValueError(
                "Without `default_model` the default is the uniform policy, "
                "which only discrete actions have. For continuous ones build "
                "one, agents.default_policy_model({}, action_spec) if it "
                f"shall see nothing. Received: action_spec={action_spec}."
            )
        return
    inputs = getattr(default, "input", None)
    outputs = getattr(default, "output", None)
    if (
        not isinstance(inputs, dict)
        or set(inputs) != CONTRACT
        or not isinstance(outputs, dict)
        or "policy" not in outputs["outputs"]
    ):
        raise ValueError(
            "`default_model` must be a model of the network contract with an "
            "output 'policy'. Build it by keras_sparse_rl.agents."
            f"default_policy_model(...). Received: {default!r}."
        )
    check_seen("default_model", default, observation_spec)
    seen = keras.tree.map_structure(
        lambda x: np.zeros((1, 1, *x.shape[2:]), x.dtype),
        inputs["observation"],
    )
    state = keras.tree.map_structure(
        lambda x: np.zeros((1, *x.shape[1:]), x.dtype), inputs["state"]
    )
    found = default(
        {
            "observation": seen,
            "is_first": np.ones((1, 1), bool),
            "state": state,
        }
    )["outputs"]["policy"]
    check_action_outputs(found, action_spec)
    for x in tf.nest.flatten(found):
        if not np.all(np.isfinite(x)):
            raise ValueError(
                "`default_model` returns outputs that are not finite for an "
                f"observation of zeros: {np.array(x).ravel()[:4]}. Look for "
                "weights that are not finite."
            )


def check_learner(default, optimizer, freeze):
    """Raises unless it is said once how a default policy is learned.

    Args:
        default: `keras.Model`, or None for the uniform policy.
        optimizer: `keras.optimizers.Optimizer`, or None.
        freeze: bool.
    """
    check_flag("freeze_default", freeze)
    if default is None:
        if optimizer is not None or freeze:
            raise ValueError(
                "There is no default to train or to freeze. Received: "
                f"default_model=None, default_optimizer={optimizer!r}, "
                f"freeze_default={freeze}. Give a `default_model` too, or "
                "leave them out."
            )
        return
    if (optimizer is not None) == freeze:
        raise ValueError(
            "A default policy is either learned or frozen. Received: "
            f"default_optimizer={optimizer!r}, freeze_default={freeze}. Give "
            "`default_optimizer` to learn it, or freeze_default=True to keep "
            "one that has been learned as it is."
        )
    if freeze:
        return
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`default_optimizer` must be one of Keras 3, such as "
            f"keras.optimizers.Adam(1e-3). Received: {optimizer!r}."
        )
    check_unscaled("default_optimizer", optimizer)
    if not default.trainable_variables:
        raise ValueError(
            "`default_optimizer` has nothing to do: no variable of "
            "`default_model` is trainable. Set default_model.trainable = "
            "True, or leave the optimizer out and give freeze_default=True."
        )


def check_seen(name, model, observation_spec):
    """Raises unless a model sees a part of the observation."""
    try:
        found = _part(observation_spec, model.input["observation"])
        pairs = zip(
            tf.nest.flatten(tensor_spec.from_spec(found)),
            tf.nest.flatten(model.input["observation"]),
            strict=True,
        )
        fits = all(tuple(a.shape) == tuple(b.shape[2:]) for a, b in pairs)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"`{name}` sees what the observation lacks, or of another shape. "
            f"It sees {_shapes(model.input['observation'], 2)}; the "
            f"observation is {_shapes(observation_spec, 0)}."
        )


def _part(observation, wanted):
    if isinstance(wanted, dict):
        return {key: _part(observation[key], wanted[key]) for key in wanted}
    return observation


def _shapes(nest, skip):
    return tf.nest.map_structure(lambda x: tuple(x.shape)[skip:], nest)


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class SameForAll(keras.layers.Layer):
    """The same trainable numbers at each step, whatever is observed.

    Args:
        units: int.
        **arguments: of `keras.layers.Layer`.
    """

    def __init__(self, units, **arguments):
        super().__init__(**arguments)
        self.units = units

    def build(self, input_shape):
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        steps = keras.ops.expand_dims(inputs, -1)
        zeros = keras.ops.zeros_like(steps, dtype=self.compute_dtype)
        return zeros + keras.ops.cast(self.bias, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def _blind(action_spec):
    """A policy that sees nothing: the number of steps alone decides shapes."""
    is_first = keras.Input((None,), dtype="bool", name="is_first")
    policy = tf.nest.map_structure(
        lambda size: SameForAll(size)(is_first), num_action_outputs(action_spec)
    )
    return keras.Model(
        {"observation": {}, "is_first": is_first, "state": {}},
        {"outputs": {"policy": policy}, "state": {}},
    )
