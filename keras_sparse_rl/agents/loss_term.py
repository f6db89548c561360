from keras_sparse_rl._checks import check_finite


class LossTerm:
    """A part of what an agent learns: a loss, a reward, or both.

    The hook for everything that is added to an actor-critic: subclass it,
    write `loss` or `reward` or both, and give it to `ActorCriticAgent` as one
    of `loss_terms`.

    Args:
        coefficient: float that multiplies loss and reward, or a function of
            the train step, such as a `keras.optimizers.schedules` schedule.
        name: str under which the term is reported. None for the name of the
            class.

    Raises:
        ValueError: if the coefficient is neither finite nor a function.

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

    def __init__(self, coefficient=1.0, name=None):
        if not callable(coefficient):
            coefficient = check_finite("coefficient", coefficient)
        self.coefficient = coefficient
        self.name = type(self).__name__ if name is None else name

    def reward(self, segment):
        """Reward to add to the environment's, before returns are computed.

        Args:
            segment: `Segment`, without `vtrace`.

        Returns:
            Float tensor `(batch, time)`, or None for no reward. No gradient
            flows through it.
        """
        return None

    def loss(self, segment):
        """Loss of each step.

        Args:
            segment: `Segment`.

        Returns:
            Float tensor `(batch, time)`, or None for no loss. Its mean over
            valid steps is minimized.
        """
        return None
