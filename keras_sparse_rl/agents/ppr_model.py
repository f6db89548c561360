import keras

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.agents.build_model import head_stddev
from keras_sparse_rl.agents.build_model import policy_heads
from keras_sparse_rl.agents.build_model import trunk
from keras_sparse_rl.layers import PPRCore


def ppr_model(
    observation_spec,
    action_spec,
    torso=None,
    core=None,
    shared_heads=True,
    heads=None,
    policy_head_stddev=None,
):
    """A model of the network contract with a policy for each of PPR's cores.

    As `actor_critic_model`, with the outputs `"policy"` and `"value"`, which
    read the reaction core, and the policies `"perception"` and `"prediction"`,
    which read the other two and never act.

    Args:
        observation_spec: nest of TF-Agents specs, as the environment's
            `observation_spec()`.
        action_spec: nest of bounded TF-Agents specs, as the environment's
            `action_spec()`.
        torso: see `build_model`; it may return a dict of features, so that
            the cores can see different ones.
        core: `layers.PPRCore(..., return_state=True)`. None for one of 64
            units with its defaults.
        shared_heads: bool, whether one layer makes all three policies, or
            each core has its own.
        heads: dict of Keras layers by name: further outputs, which read the
            reaction core, such as `"reward"` for a `RewardPredictionTerm`.
        policy_head_stddev: float, above 0, of the first weights of the
            policies' heads, see `actor_critic_model`. None for 0.3.

    Returns:
        `keras.Model` of the network contract.

    Raises:
        ValueError: if an action has no bounds, the core cannot serve, a head
            has the name of an output that is there, or `policy_head_stddev`
            is no number above 0.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import ppr_model
    >>> model = ppr_model(
    ...     tf.TensorSpec((3,), "float32"), BoundedTensorSpec((), "int32", 0, 4)
    ... )
    >>> sorted(model.output["outputs"])
    ['perception', 'policy', 'prediction', 'value']
    """
    check_flag("shared_heads", shared_heads)
    stddev = head_stddev(policy_head_stddev, reads_memory=True)
    core = PPRCore(64, return_state=True) if core is None else core
    if not isinstance(core, PPRCore):
        raise ValueError(
            "`core` must be a keras_sparse_rl.layers.PPRCore. Received: "
            f"core={core!r} of type {type(core)}. For other memories use "
            "actor_critic_model."
        )
    inputs, _, outputs, state = trunk(
        observation_spec, torso, core, return_cores=True
    )
    shared = policy_heads(action_spec, stddev)

    def policy(name):
        layers = shared
        if not shared_heads:
            layers = policy_heads(action_spec, stddev)
        return keras.tree.map_structure(
            lambda layer: layer(outputs[name]), layers
        )

    named = {
        "policy": policy("reaction"),
        "value": keras.layers.Dense(1)(outputs["reaction"]),
        "perception": policy("perception"),
        "prediction": policy("prediction"),
    }
    taken = sorted(set(named) & set(heads or {}))
    if taken:
        raise ValueError(
            f"`heads` must have other names than {sorted(named)}. Received: "
            f"{taken}."
        )
    for name, head in (heads or {}).items():
        named[name] = head(outputs["reaction"])
    return keras.Model(inputs, {"outputs": named, "state": state})
