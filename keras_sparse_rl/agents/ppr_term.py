import tensorflow as tf

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.loss_term import LossTerm
from keras_sparse_rl.losses import ppr_loss
from keras_sparse_rl.losses.ppr_loss import PAIRS
from keras_sparse_rl.losses.ppr_loss import check_pairs

# Output of `ppr_model` that holds each core's policy.
HEADS = {
    "reaction": "policy",
    "perception": "perception",
    "prediction": "prediction",
}


class PPRTerm(LossTerm):
    """Regularizes the policies of PPR's three cores against each other.

    `losses.ppr_loss` as a loss term, for models of `ppr_model`.

    Args:
        action_spec: nest of bounded TF-Agents specs, the environment's.
        coefficient: float, or function of the train step.
        pairs: see `losses.ppr_loss`.
        stop_gradient: see `losses.ppr_loss`.
        squash: bool, as of the agent.
        name: str.
        gate: `gradients.GradientGate` or None, see `LossTerm`.

    Raises:
        ValueError: if pairs or coefficient cannot be.

    Example:

    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import PPRTerm
    >>> PPRTerm(BoundedTensorSpec((), "int32", 0, 3), 0.1).name
    'ppr'
    """

    def __init__(
        self,
        action_spec,
        coefficient=0.01,
        pairs=PAIRS,
        stop_gradient=None,
        squash=True,
        name="ppr",
        gate=None,
    ):
        super().__init__(coefficient, name, gate)
        self._action_spec = action_spec
        self._pairs = check_pairs(pairs, HEADS)
        self._stop_gradient = check_choice(
            "stop_gradient", stop_gradient, (None, "first", "second")
        )
        self._squash = squash

    def loss(self, segment):
        return ppr_loss(
            {
                core: tf.nest.map_structure(
                    lambda x: x[:, :-1], segment.outputs[head]
                )
                for core, head in HEADS.items()
            },
            self._pairs,
            self._stop_gradient,
            lambda x: action_distribution(x, self._action_spec, self._squash),
        )
