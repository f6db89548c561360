import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.contextual_bandit import ContextualBandit


class BarcodeBandit(ContextualBandit):
    """A bandit whose good arm is told by a barcode, once it was found out.

    See "Been There, Done That" by Ritter et al. 2018
    (https://arxiv.org/abs/1805.09692), section 4.1. One arm pays 1 with
    probability `good`, the others with `bad`. An episode is 10 pulls under one
    barcode; a task is 100 episodes, 10 for each of 10 barcodes, in random
    order, every arm being the good one of at least one barcode. The barcodes
    of a task are different strings of bits, never all 0; their length is not
    known from the paper.

    Expected regret of an episode with the defaults: 7.2 at random, 4.57 for
    the best play without memory, and 4.55, 0.85, 0.17, 0.03, 0.01, 0 at the
    first, second, … exposure for the best play with perfect memory.

    Args:
        num_arms: int.
        num_contexts: int, barcodes of a task.
        exposures: int, episodes of each barcode.
        pulls: int, steps of an episode.
        barcode_length: int, bits of a barcode, at most 16.
        good: float, probability of reward of the good arm.
        bad: float, that of the others.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range, or there are fewer
            barcodes of this length than contexts.

    Example:

    >>> from keras_sparse_rl.environments import BarcodeBandit
    >>> observation = BarcodeBandit(batch_size=4).reset().observation
    >>> observation["context"].shape, observation["is_task_start"].numpy()
    (TensorShape([4, 10]), array([1., 1., 1., 1.], dtype=float32))
    """

    def __init__(
        self,
        num_arms=10,
        num_contexts=10,
        exposures=10,
        pulls=10,
        barcode_length=10,
        good=0.9,
        bad=0.1,
        batch_size=1,
        seed=0,
    ):
        self._length = check_barcodes(
            "barcode_length", barcode_length, num_contexts
        )
        super().__init__(
            BoundedTensorSpec((self._length,), tf.float32, 0, 1, "context"),
            num_arms,
            num_contexts,
            exposures,
            pulls,
            good,
            bad,
            batch_size,
            seed,
        )

    def _draw_contexts(self, seed):
        return draw_barcodes(self._size, self.num_contexts, self._length, seed)


def check_barcodes(name, length, number):
    """Returns `length` if there are so many barcodes of it."""
    length = check_integer(name, length)
    if length > 16 or 2**length - 1 < check_integer("num_contexts", number):
        raise ValueError(
            f"`{name}` must be at most 16, and there must be `num_contexts` "
            f"different barcodes of it, 2**{name} - 1 in all. Received: "
            f"{name}={length}, num_contexts={number}."
        )
    return length


def draw_barcodes(batch_size, number, length, seed):
    """Different strings of bits, float32 `(batch_size, number, length)`."""
    shape = (batch_size, 2**length - 1)
    chosen = tf.math.top_k(tf.random.stateless_uniform(shape, seed), number)[1]
    powers = tf.constant(2 ** np.arange(length)[::-1], tf.int32)
    bits = (chosen[..., tf.newaxis] + 1) // powers % 2
    return tf.cast(bits, tf.float32)
