import tensorflow as tf

from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_kl import action_kl
from keras_sparse_rl.agents.loss_term import LossTerm


class KLToDefaultTerm(LossTerm):
    """Keeps a policy near a default policy, in the return and in the step.

    `-alpha KL_t` is a reward and `alpha KL_t` a loss of each step, so that the
    expected update is the gradient of `E sum_t (r_t - alpha KL_t)`; see
    `losses.kl_to_default`. (As everywhere in practice, states are not weighted
    by `gamma^t`: with a discount below 1 that is the gradient's usual
    approximation.) `KLRegularizedAgent` has this term and learns the default.

    Args:
        action_spec: nest of bounded TF-Agents specs, the environment's.
        alpha: float of at least 0, or a function of the train step.
        output: str, the output of the model with the default policy's head;
            no gradient reaches it. None for the uniform policy over discrete
            actions: the term is then entropy regularisation.
        squash: bool, as of the agent.
        name: str.
        gate: see `LossTerm`.

    Raises:
        ValueError: if `alpha` is negative.

    Example:

    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import KLToDefaultTerm
    >>> spec = BoundedTensorSpec((), "int32", 0, 3)
    >>> KLToDefaultTerm(spec, alpha=0.01, output=None).coefficient
    0.01
    """

    def __init__(
        self,
        action_spec,
        alpha=1e-3,
        output="default",
        squash=True,
        name="kl",
        gate=None,
    ):
        if not callable(alpha):
            check_non_negative("alpha", alpha)
        else:
            check_non_negative("alpha(0)", float(alpha(0)))
        super().__init__(alpha, name, gate)
        self._action_spec = action_spec
        self._output = output
        self._squash = squash

    def reward(self, segment):
        return -self.divergence(segment)

    def loss(self, segment):
        return self.divergence(segment)

    def divergence(self, segment, learn="policy"):
        """`KL(policy || default)` of each step, float `(batch, time)`."""
        default = None
        if self._output is not None:
            default = default_distribution(
                segment, self._output, self._action_spec, self._squash
            )
        return action_kl(segment.distribution, default, learn)


class DistilledDefault(LossTerm):
    """Fits the default's own output to the policy: `KL(policy || default)`.

    Args:
        action_spec: nest of bounded TF-Agents specs.
        squash: bool.
    """

    def __init__(self, action_spec, squash):
        super().__init__(1.0, "default")
        self._action_spec = action_spec
        self._squash = squash

    def loss(self, segment):
        default = default_distribution(
            segment, "default", self._action_spec, self._squash
        )
        return action_kl(segment.distribution, default, learn="default")


def default_distribution(segment, output, action_spec, squash):
    """The distributions of one of the model's heads, `(batch, time)`."""
    return action_distribution(
        tf.nest.map_structure(lambda x: x[:, :-1], segment.outputs[output]),
        action_spec,
        squash,
    )
