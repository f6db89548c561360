from tf_agents.specs import tensor_spec

from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.ppr_term import HEADS
from keras_sparse_rl.agents.ppr_term import PPRTerm
from keras_sparse_rl.losses.ppr_loss import PAIRS


class PPRAgent(ActorCriticAgent):
    """Perception-Prediction-Reaction: actor-critic with a slow memory.

    See "Perception-Prediction-Reaction Agents for Deep Reinforcement
    Learning" by Stooke et al. 2020 (https://arxiv.org/abs/2006.15223). An
    `ActorCriticAgent` on a model of `ppr_model`, with a `PPRTerm`: the policy
    shall be expressible from recent observations as well as from long-term
    memory. Only the reaction core's policy acts and learns from reward;
    acting does not compute the prediction core.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        model: `keras.Model`, as `ppr_model` makes it.
        optimizer: `keras.optimizers.Optimizer`, also `optimizers.Powerprop`.
        coefficient: float, weight of `losses.ppr_loss`, or a function of the
            train step. The paper's is not known here; with 0.1 a policy
            that needs its memory acts less firmly (`benchmarks/README.md`).
        pairs: see `losses.ppr_loss`.
        stop_gradient: see `losses.ppr_loss`.
        loss_terms: list of further `LossTerm` objects.
        squash: bool, see `ActorCriticAgent`.
        **arguments: further arguments of `ActorCriticAgent`.

    Raises:
        TypeError: if the optimizer is none of Keras 3.
        ValueError: if model and specs do not fit, or a number is out of range.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments, layers
    >>> environment = environments.TMaze(length=5, batch_size=4)
    >>> model = agents.ppr_model(
    ...     environment.observation_spec(), environment.action_spec(),
    ...     core=layers.PPRCore(8, slow_period=4, return_state=True))
    >>> agent = agents.PPRAgent(
    ...     environment.time_step_spec(), environment.action_spec(), model,
    ...     keras.optimizers.Adam(1e-3), coefficient=0.01)
    >>> agent.policy.action(environment.reset(),
    ...     agent.policy.get_initial_state(4)).action.shape
    TensorShape([4])
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        coefficient=0.01,
        pairs=PAIRS,
        stop_gradient=None,
        loss_terms=(),
        squash=True,
        **arguments,
    ):
        if not callable(coefficient):
            check_non_negative("coefficient", coefficient)
        _check_heads(model)
        term = PPRTerm(
            tensor_spec.from_spec(action_spec),
            coefficient,
            pairs,
            stop_gradient,
            squash,
        )
        super().__init__(
            time_step_spec,
            action_spec,
            model,
            optimizer,
            loss_terms=[term, *loss_terms],
            squash=squash,
            **arguments,
        )


def _check_heads(model):
    outputs = getattr(model, "output", None)
    heads = outputs.get("outputs") if isinstance(outputs, dict) else None
    if not isinstance(heads, dict) or not set(HEADS.values()) <= set(heads):
        raise ValueError(
            "`model` must have a policy for each core, outputs "
            f"{sorted(HEADS.values())}. Build it by keras_sparse_rl.agents."
            f"ppr_model(...). Received: model={model!r}."
        )
