import inspect

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tf_agents.specs import tensor_spec

from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers import ResettableRNN


def build_model(observation_spec, heads, torso=None, core=None):
    """A model of the network contract from torso, core and heads.

    `model({"observation", "is_first", "state"}) -> {"outputs", "state"}`, on
    sequences `(batch, time, ...)`: the torso sees every observation by itself,
    the core is the memory, each head reads the core. It is an ordinary
    functional model: it can be saved, made sparse and inspected as such.

    Args:
        observation_spec: nest of TF-Agents specs, as the environment's
            `observation_spec()`.
        heads: dict of Keras layers by name: the outputs. A head may be a nest
            of layers, for nests of actions. Where they read a core, a policy's
            first weights should not be as small as is usual without one, see
            `actor_critic_model`.
        torso: Keras layer or model from one observation (the nest, without
            time) to features `(batch, dim)`. None: whole numbers with bounds
            become one-hot, bytes (uint8) are divided by their bound, 255 for
            pictures, all is flattened and joined, and a dense layer of 64
            ReLU units follows. A torso of your own gets bytes as they are:
            let it begin with `keras.layers.Rescaling(1 / 255)`.
            A dict with `"features"` instead gives the core further call
            arguments by their names (an embedded `"context"`).
        core: None for no memory, or a layer with `initial_state` that is called
            as `core(inputs, state=…, is_first=…) -> (outputs, state)`, such as
            `GTrXL` and `ResettableRNN` with `return_state=True`, or a
            recurrent Keras layer such as `keras.layers.LSTM(64)`. Where an
            observation has the name of a further call argument of the core
            (`context` and `is_task_start` of an `EpisodicLSTM`), the core
            gets it, at whatever depth of a dict it stands.

    Returns:
        `keras.Model`. Its state is a dict; empty without a core.

    Raises:
        ValueError: if the core or a head cannot serve.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl.agents import build_model
    >>> model = build_model(
    ...     tf.TensorSpec((3,), "float32"),
    ...     heads={"value": keras.layers.Dense(1)},
    ...     core=keras.layers.GRU(8),
    ... )
    >>> model.output["outputs"]["value"].shape
    (None, None, 1)
    """
    if not isinstance(heads, dict) or not heads:
        raise ValueError(
            "`heads` must be a dict of Keras layers by name, such as "
            f'{{"policy": keras.layers.Dense(4)}}. Received: heads={heads!r}.'
        )
    inputs, _, outputs, new_state = trunk(observation_spec, torso, core)
    named = {
        name: keras.tree.map_structure(lambda layer: layer(outputs), head)
        for name, head in heads.items()
    }
    return keras.Model(inputs, {"outputs": named, "state": new_state})


def trunk(observation_spec, torso=None, core=None, **arguments):
    """What all heads of `build_model` share.

    Args:
        observation_spec: see `build_model`.
        torso: see `build_model`.
        core: see `build_model`.
        **arguments: further arguments of the core's call.

    Returns:
        Tuple of the model's inputs, the torso's features, the core's outputs
        (the features without a core), and the core's new state.
    """
    observation_spec = tensor_spec.from_spec(observation_spec)
    observation = tf.nest.map_structure(
        lambda spec: keras.Input((None, *spec.shape), dtype=spec.dtype.name),
        observation_spec,
    )
    if not tf.nest.is_nested(observation_spec):
        observation = keras.Input(
            observation.shape[1:], dtype=observation.dtype, name="observation"
        )
    is_first = keras.Input((None,), dtype="bool", name="is_first")
    if torso is None:
        features = keras.layers.Dense(64, "relu", name="torso")(
            _flat(observation, observation_spec)
        )
    else:
        features = OverTime(torso, name="torso")(observation)
    if isinstance(features, dict) and "features" in features:
        arguments.update(
            {name: x for name, x in features.items() if name != "features"}
        )
        features = features["features"]
    if core is None:
        # Some versions of Keras refuse an input that nothing reads.
        keep = keras.layers.Identity(autocast=False)
        features, _ = keep([features, is_first])
    state, outputs, new_state = {}, features, {}
    if core is not None:
        core = _as_core(core)
        arguments = {**_asked_for(core, observation), **arguments}
        state = keras.tree.map_structure(
            lambda x: keras.Input(x.shape[1:], dtype=x.dtype.name),
            _initial_state(core, features),
        )
        outputs, new_state = core(
            features, state=state, is_first=is_first, **arguments
        )
    inputs = {"observation": observation, "is_first": is_first, "state": state}
    return inputs, features, outputs, new_state


def actor_critic_model(
    observation_spec,
    action_spec,
    torso=None,
    core=None,
    policy_head_stddev=None,
):
    """`build_model` with the heads of `ActorCriticAgent`.

    A `"policy"` head of the size that the actions need, whose probabilities
    start nearly equal, and a `"value"` head of one unit.

    Args:
        observation_spec: nest of TF-Agents specs, as the environment's
            `observation_spec()`.
        action_spec: nest of bounded TF-Agents specs, as the environment's
            `action_spec()`.
        torso: see `build_model`.
        core: see `build_model`.
        policy_head_stddev: float, above 0, of the first weights of the
            policy's head (not of actions). None: 0.01 without a core, as
            on-policy agents usually have it, and 0.3 with one. What the policy
            alone needs reaches a memory through this head, and through 0.01 it
            is learned late (`benchmarks/README.md`). With 1 memories of 64
            units are quicker still; the first policy is then far from even,
            most of all with wider ones and with GTrXL.

    Returns:
        `keras.Model` of the network contract.

    Raises:
        ValueError: if an action has no bounds, the core cannot serve, or
            `policy_head_stddev` is no number above 0.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import actor_critic_model
    >>> model = actor_critic_model(
    ...     tf.TensorSpec((3,), "float32"), BoundedTensorSpec((), "int32", 0, 4)
    ... )
    >>> model.output["outputs"]["policy"].shape
    (None, None, 5)
    """
    stddev = head_stddev(policy_head_stddev, core is not None)
    heads = {
        "policy": policy_heads(action_spec, stddev),
        "value": keras.layers.Dense(1),
    }
    return build_model(observation_spec, heads, torso, core)


def head_stddev(policy_head_stddev, reads_memory):
    """That argument, or for None what suits a head with a memory, or none.

    Args:
        policy_head_stddev: float or None.
        reads_memory: bool, whether the head reads a core.
    """
    if policy_head_stddev is None:
        return 0.3 if reads_memory else 0.01
    return check_positive("policy_head_stddev", policy_head_stddev)


def policy_heads(action_spec, stddev):
    """A head for each action of a spec, see `policy_head`."""
    sizes = num_action_outputs(tensor_spec.from_spec(action_spec))
    return tf.nest.map_structure(lambda size: policy_head(size, stddev), sizes)


def policy_head(size, stddev):
    """A head whose probabilities start the more equal the less `stddev`."""
    return keras.layers.Dense(
        size, kernel_initializer=keras.initializers.RandomNormal(stddev=stddev)
    )


def _as_core(core):
    if isinstance(core, keras.layers.RNN):
        return ResettableRNN(core, return_state=True)
    if not hasattr(core, "initial_state"):
        raise ValueError(
            "`core` must be a layer with `initial_state(batch_size)` that "
            "passes its state in and out (GTrXL, ResettableRNN), or a "
            f"recurrent Keras layer. Received: core={core!r}."
        )
    if not getattr(core, "return_state", True):
        raise ValueError(
            "`core` must return its state: give it return_state=True. "
            f"Received: core={core!r}."
        )
    return core


def _asked_for(core, observation):
    """Observations that are call arguments of the core, by their names."""
    names = set(inspect.signature(core.call).parameters)
    names -= {"inputs", "state", "is_first", "mask"}
    found = {}
    if isinstance(observation, dict):
        for name, x in observation.items():
            found.update(_asked_for(core, x))
            if name in names and not isinstance(x, dict):
                found[name] = x
    return found


def _initial_state(core, features):
    if not core.built:
        core.build(keras.tree.map_structure(lambda x: x.shape, features))
    return core.initial_state(1)


def _flat(observation, observation_spec):
    """All observations as one vector a step."""
    parts = []
    for x, spec in zip(
        tf.nest.flatten(observation), tf.nest.flatten(observation_spec)
    ):
        size = int(np.prod(spec.shape, dtype=int))
        if spec.dtype == tf.uint8:
            high = int(np.max(getattr(spec, "maximum", 255)))
            x = ops.cast(x, "float32") / max(high, 1)
        elif tensor_spec.is_discrete(spec) and hasattr(spec, "minimum"):
            low, high = int(np.min(spec.minimum)), int(np.max(spec.maximum))
            if high - low < 1024:
                x = ops.one_hot(ops.cast(x, "int32") - low, high - low + 1)
                size *= high - low + 1
        parts.append(keras.layers.Reshape((-1, size))(ops.cast(x, "float32")))
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
