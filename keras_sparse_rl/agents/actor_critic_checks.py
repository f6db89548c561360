"""What `ActorCriticAgent` refuses, and why."""

import keras
import tensorflow as tf

from keras_sparse_rl.agents.loss_term import LossTerm

# What a train step or an epoch reports besides the loss terms.
RESERVED = (
    "policy",
    "value",
    "entropy",
    "regularization",
    "loss",
    "gradient_norm",
    "finite",
    "return",
    "episodes",
    "return_sum",
    "lag",
)


def check_optimizer(optimizer):
    """Raises unless an optimizer is one of Keras 3, for losses unscaled."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            "`optimizer` must be one of Keras 3, such as "
            f"keras.optimizers.Adam(1e-3). Received: {optimizer!r} of type "
            f"{type(optimizer)}. (An optimizer of tf_keras, which is "
            "tf.keras.optimizers with TF_USE_LEGACY_KERAS=1, does not know "
            "the variables of a Keras 3 model.)"
        )
    check_unscaled("optimizer", optimizer)


def check_unscaled(name, optimizer):
    """Raises if an optimizer would divide gradients by a loss scale."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            f"`{name}` must not be a LossScaleOptimizer: an agent does not "
            "scale its loss, and gradients would be divided by the scale. "
            f"Received: {name}={optimizer!r}. Give its inner optimizer, "
            'and for half precision choose the policy "mixed_bfloat16".'
        )


def check_terms(loss_terms):
    """List of `LossTerm`s, whose names differ."""
    terms = list(loss_terms)
    names = list(RESERVED)
    for term in terms:
        if not isinstance(term, LossTerm):
            raise ValueError(
                "`loss_terms` must be a list of keras_sparse_rl.agents."
                f"LossTerm. Received: {term!r} of type {type(term)}."
            )
        if term.name in names:
            raise ValueError(
                "The names of `loss_terms` must differ from each other and "
                f"from {', '.join(map(repr, RESERVED))}. Received: "
                f"{term.name!r} again. Give the term another name=…."
            )
        names.append(term.name)
    return terms


def check_each_step(part, term, tensor, segment):
    """Raises unless a term's loss or reward has one number a step."""
    found = tf.convert_to_tensor(tensor).shape
    expected = segment.reward_t.shape
    if found.is_compatible_with(expected):
        return
    remedy = "Return one number for each step: the agent takes the mean."
    if found.rank == 3 and found[-1] == 1:
        remedy = "Drop the last axis: [..., 0]."
    elif found.rank == 2 and found.is_compatible_with(segment.value.shape):
        remedy = (
            "Leave out the last step, which only serves to value what is to "
            "come: [:, :-1]."
        )
    raise ValueError(
        f"The `{part}` of the loss term {term.name!r} must have the shape "
        f"(batch, time), here {expected}. Received: shape {found}. {remedy}"
    )


def check_weights(loss_terms, model):
    """Raises if a term has weights that the agent's optimizer misses."""
    known = {id(v) for v in model.variables}
    for term in loss_terms:
        for attribute, held in vars(term).items():
            for variable in _trainable(held):
                if id(variable) in known:
                    continue
                raise ValueError(
                    f"The loss term {term.name!r} holds weights that are no "
                    "part of the agent's model, so that no optimizer trains "
                    f"them. Received: {variable.path!r} in {attribute!r}. "
                    "Make it a head of the model, build_model(heads=...), and "
                    "read segment.outputs; or say that it learns nothing: "
                    "trainable=False."
                )


def _trainable(held):
    """Trainable variables of layers, also in a list or dict of them."""
    if isinstance(held, dict):
        held = held.values()
    elif not isinstance(held, (list, tuple)):
        held = [held]
    for each in held:
        if isinstance(each, keras.layers.Layer):
            yield from each.trainable_variables
        elif isinstance(each, keras.Variable) and each.trainable:
            yield each


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
