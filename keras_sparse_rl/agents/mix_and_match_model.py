import keras
import numpy as np
from keras import ops
from tf_agents.specs import tensor_spec

from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.agents.build_model import head_stddev
from keras_sparse_rl.agents.build_model import policy_head
from keras_sparse_rl.agents.build_model import trunk


def mix_and_match_model(
    observation_spec,
    action_spec,
    policies,
    torso=None,
    core=None,
    policy_head_stddev=None,
):
    """`actor_critic_model` with the simpler policies of `MixAndMatchAgent`.

    All policies share the torso, and those with a memory the core. Any other
    model of the network contract with these outputs serves as well.

    Args:
        observation_spec: nest of TF-Agents specs, as the environment's
            `observation_spec()`.
        action_spec: bounded TF-Agents spec, the environment's.
        policies: list of `SimplePolicy`, from the simplest on.
        torso: see `build_model`.
        core: see `build_model`.
        policy_head_stddev: float, above 0, of the first weights of the
            policies' heads, see `actor_critic_model`. None: 0.3 for those that
            read the core, 0.01 for others.

    Returns:
        `keras.Model` of the network contract with outputs `"policy"`,
        `"value"`, and one for each simpler policy.

    Raises:
        ValueError: if a policy shall do without a memory that is not there,
            its task is no whole number with bounds in the observation, or
            `policy_head_stddev` is no number above 0.

    Example:

    >>> from keras_sparse_rl import agents, environments
    >>> grid = environments.LargeActionGrid()
    >>> model = agents.mix_and_match_model(
    ...     grid.observation_spec(), grid.action_spec(),
    ...     [agents.SimplePolicy("core", actions=grid.core_actions)])
    >>> model.output["outputs"]["core"].shape
    (None, None, 9)
    """
    observation_spec = tensor_spec.from_spec(observation_spec)
    size = num_action_outputs(tensor_spec.from_spec(action_spec))
    stddevs = {
        memory: head_stddev(policy_head_stddev, memory and core is not None)
        for memory in (True, False)
    }
    inputs, features, remembered, new_state = trunk(
        observation_spec, torso, core
    )
    outputs = {
        "policy": policy_head(size, stddevs[True])(remembered),
        "value": keras.layers.Dense(1)(remembered),
    }
    for policy in policies:
        if core is None and not policy.memory:
            raise ValueError(
                "A simpler policy with memory=False needs a model that has "
                f"one: give `core`. Received: core=None and {policy}."
            )
        read = remembered if policy.memory else features
        number = size if policy.actions is None else len(policy.actions)
        stddev = stddevs[policy.memory]
        if policy.task is None:
            outputs[policy.name] = policy_head(number, stddev)(read)
            continue
        tasks = _num_tasks(policy, observation_spec)
        each = keras.layers.Reshape((-1, tasks, number))(
            policy_head(tasks * number, stddev)(read)
        )
        task = ops.one_hot(inputs["observation"][policy.task], tasks)
        outputs[policy.name] = ops.sum(
            each * ops.expand_dims(ops.cast(task, each.dtype), -1), axis=-2
        )
    return keras.Model(inputs, {"outputs": outputs, "state": new_state})


def _num_tasks(policy, observation_spec):
    spec = None
    if isinstance(observation_spec, dict):
        spec = observation_spec.get(policy.task)
    if (
        spec is None
        or not hasattr(spec, "minimum")
        or not tensor_spec.is_discrete(spec)
        or spec.shape.rank != 0
        or np.min(spec.minimum) != 0
    ):
        raise ValueError(
            "`task` of a simpler policy must be the key of a whole number "
            "from 0 on in the observation, a BoundedTensorSpec((), int32, 0, "
            f"tasks - 1). Received: task={policy.task!r} for the observations "
            f"{observation_spec}."
        )
    return int(np.max(spec.maximum)) + 1
