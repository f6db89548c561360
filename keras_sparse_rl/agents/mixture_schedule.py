import dataclasses

import tensorflow as tf

from keras_sparse_rl._checks import check_integer


@dataclasses.dataclass(frozen=True)
class MixtureSchedule:
    """Shares that move evenly from the simplest policy to the last.

    One after the other: while the share of one policy falls, that of the next
    rises. Of two policies the last one's share rises linearly from 0 to 1.

    Args:
        num_policies: int, at least 2.
        start: int, train step until which the simplest policy acts alone.
        end: int, train step from which the last policy acts alone.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.agents import MixtureSchedule
    >>> schedule = MixtureSchedule(num_policies=2, start=100, end=300)
    >>> schedule(150).numpy()
    array([0.75, 0.25], dtype=float32)
    """

    num_policies: int = 2
    start: int = 0
    end: int = 1000

    def __post_init__(self):
        check_integer("num_policies", self.num_policies, minimum=2)
        check_integer("start", self.start, minimum=0)
        check_integer("end", self.end)
        if self.end <= self.start:
            raise ValueError(
                "`end` must be larger than `start`. Received: "
                f"start={self.start}, end={self.end}."
            )

    def __call__(self, step):
        """Shares `(num_policies,)` at a train step."""
        done = (tf.cast(step, tf.float32) - self.start) / (
            self.end - self.start
        )
        place = tf.clip_by_value(done, 0.0, 1.0) * (self.num_policies - 1)
        distance = tf.abs(place - tf.range(self.num_policies, dtype=tf.float32))
        return tf.nn.relu(1.0 - distance)
