"""What `ActorCriticAgent` refuses, and why."""

import keras
import tensorflow as tf

from keras_sparse_rl.agents.loss_term import LossTerm


def check_optimizer(optimizer):
    """Raises unless an optimizer is one of Keras 3."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be one of Keras 3, such as "
            f"keras.optimizers.Adam(1e-3). Received: {optimizer!r} of type "
            f"{type(optimizer)}. (An optimizer of tf_keras, which is "
            "tf.keras.optimizers with TF_USE_LEGACY_KERAS=1, does not know "
            "the variables of a Keras 3 model.)"
        )


def check_terms(loss_terms):
    """List of `LossTerm`s, whose names differ."""
    terms = list(loss_terms)
    names = ["policy", "value", "entropy"]
    for term in terms:
        if not isinstance(term, LossTerm):
            raise ValueError(
                "`loss_terms` must be a list of keras_sparse_rl.agents."
                f"LossTerm. Received: {term!r} of type {type(term)}."
            )
        if term.name in names:
            raise ValueError(
                "The names of `loss_terms` must differ from each other and "
                f"from 'policy', 'value', 'entropy'. Received: {term.name!r} "
                "again. Give the term another name=…."
            )
        names.append(term.name)
    return terms


def check_start(state, state_spec):
    """Raises unless sequences come with all that they started from."""
    if len(tf.nest.flatten(state)) != len(tf.nest.flatten(state_spec)):
        raise ValueError(
            "The trajectories do not hold the episodic memory that their "
            "sequences started with: a policy leaves it out of every step's "
            "`policy_info`. Collect by keras_sparse_rl.agents.train, which "
            "keeps it once a sequence. Received: policy_info['state'] = "
            f"{tf.nest.map_structure(lambda x: x.shape, state)}."
        )


def check_auxiliary(name, main, auxiliary):
    """Raises if a gate has nothing to do."""
    if auxiliary is None or all(g is None for g in auxiliary):
        raise ValueError(
            f"The loss term {name!r} has a gate, and no loss with a gradient "
            "that could be gated. Rewards are not gated: leave the gate out."
        )
    if all(a is None or b is None for a, b in zip(main, auxiliary)):
        raise ValueError(
            f"The loss term {name!r} has a gate, and shares no trainable "
            "variable with the losses that have none: it would do nothing."
        )


def check_heads(model):
    """Raises unless a model has what `ActorCriticAgent` needs."""
    outputs = getattr(model, "output", None)
    heads = outputs.get("outputs") if isinstance(outputs, dict) else None
    if not isinstance(heads, dict) or not {"policy", "value"} <= set(heads):
        raise ValueError(
            "`model` must follow the network contract, model({'observation', "
            "'is_first', 'state'}) -> {'outputs', 'state'}, with outputs "
            "'policy' and 'value'. Build it by keras_sparse_rl.agents."
            f"actor_critic_model(...). Received: model={model!r}."
        )
    if heads["value"].shape[-1] != 1:
        raise ValueError(
            "The model's output 'value' must have one unit. Received: shape "
            f"{heads['value'].shape}."
        )
