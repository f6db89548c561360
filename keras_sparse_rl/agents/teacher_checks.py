"""What `Teacher` refuses, and why."""

import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from keras_sparse_rl.agents.policy_parameters import map_parameters


def check_keys(keys, observation_spec):
    """Returns None, a name or a list of names of the observation."""
    if keys is None:
        return None
    names = [keys] if isinstance(keys, str) else list(keys)
    known = list(observation_spec) if isinstance(observation_spec, dict) else []
    for name in names:
        if name not in known:
            raise ValueError(
                f"`keys` must name entries of the observation. Received: "
                f"{name!r}; the observation has "
                f"{known or 'no names, for it is no dict'}."
            )
    return keys if isinstance(keys, str) else names


def check_same_actions(found, expected):
    """Raises unless two action specs allow the same actions."""

    def form(spec):
        return [
            (
                tuple(x.shape),
                x.dtype,
                np.asarray(x.minimum).tolist(),
                np.asarray(x.maximum).tolist(),
            )
            for x in tf.nest.flatten(tensor_spec.from_spec(spec))
        ]

    if form(found) != form(expected):
        raise ValueError(
            "Teacher and student must have the same action spec. Received: "
            f"the teacher's {found}; the student's {expected}."
        )


def check_answer(policy, value, observation):
    """Raises unless a teacher answered as it must, when it was tried out.

    Args:
        policy: as `policy_parameters` returns it.
        value: array, or None.
        observation: the two observations it was asked about.
    """
    finite = all(
        np.isfinite(x).all()
        for x in tf.nest.flatten(map_parameters(np.asarray, policy))
    )
    if not finite:
        raise ValueError(
            "The teacher's outputs must be finite (a choice that is never "
            "taken has a large negative logit, such as -1e9). Received: "
            f"{policy} for the observation {observation}."
        )
    if value is not None and value.size != 2:
        raise ValueError(
            "`value` must map observations (batch, ...) to (batch,) or "
            f"(batch, 1). Received: shape {value.shape} for a batch of 2."
        )
