from keras_sparse_rl._checks import check_finite
from keras_sparse_rl.gradients import GradientGate


class LossTerm:
    """A part of what an agent learns: a loss, a reward, or both.

    The hook for everything that is added to an actor-critic: subclass it,
    write `loss` or `reward` or both, and give it to `ActorCriticAgent` as one
    of `loss_terms`. What is learned belongs to the agent's model: a network of
    the term's own is a head of `build_model(heads=...)`, whose outputs are in
    the segment. Keras layers and variables in a term's attributes must not be
    trainable; what learns by an optimizer of its own, or gives advice as a
    `Teacher` does, is held by an object of its own.

    Args:
        coefficient: float that multiplies loss and reward, or a function of
            the train step, such as a `keras.optimizers.schedules` schedule.
        name: str under which the term is reported. None for the name of the
            class.
        gate: `gradients.GradientGate` or None. With a gate the loss is an
            auxiliary one: its gradient counts only as far as it points the
            way of the gradient of all losses without a gate, regularizers
            among them. Terms may share
            a gate. A loss may be anything whose gradient is a direction, such
            as one of distillation or REINFORCE; rewards are not gated.

    Raises:
        ValueError: if the coefficient is neither finite nor a function, or
            the gate is none.

    Example:

    >>> import tensorflow as tf
    >>> from keras_sparse_rl.agents import LossTerm
    >>> class SmallLogits(LossTerm):
    ...     def loss(self, segment):
    ...         logits = segment.outputs["policy"][:, :-1]
    ...         return tf.reduce_mean(logits**2, axis=-1)
    >>> SmallLogits(0.1).name
    'SmallLogits'
    """

    def __init__(self, coefficient=1.0, name=None, gate=None):
        if not callable(coefficient):
            coefficient = check_finite("coefficient", coefficient)
        self.coefficient = coefficient
        self.name = type(self).__name__ if name is None else name
        if gate is not None and not isinstance(gate, GradientGate):
            raise ValueError(
                "`gate` must be a keras_sparse_rl.gradients.GradientGate. "
                f"Received: gate={gate!r}."
            )
        self.gate = gate

    def collect_policy(self, policy):
        """Who collects what is learned from.

        Args:
            policy: `ActorCriticPolicy` with `collect=True`, or what another
                term made of it.

        Returns:
            A policy of the same kind, by default the one that was given.
        """
        return policy

    def prepare(self, segment):
        """What `reward` and `loss` both need, computed once.

        Args:
            segment: `Segment`, without `vtrace`.

        Returns:
            Anything; found in `segment.prepared[self.name]`.
        """
        return None

    def reward(self, segment):
        """Reward to add to the environment's, before returns are computed.

        Args:
            segment: `Segment`, without `vtrace`.

        Returns:
            Float tensor `(batch, time)`, the shape of `segment.reward_t`, or
            None for no reward. No gradient flows through it.
        """
        return None

    def loss(self, segment):
        """Loss of each step.

        Args:
            segment: `Segment`.

        Returns:
            Float tensor `(batch, time)`, the shape of `segment.reward_t`, or
            None for no loss. Its mean over valid steps is minimized.
        """
        return None
