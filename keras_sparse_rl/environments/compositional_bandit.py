import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.barcode_bandit import check_barcodes
from keras_sparse_rl.environments.barcode_bandit import draw_barcodes
from keras_sparse_rl.environments.contextual_bandit import ContextualBandit
from keras_sparse_rl.environments.contextual_task import permutations


class CompositionalBandit(ContextualBandit):
    """A bandit whose contexts are made of parts that mean something alone.

    After "Been There, Done That" by Ritter et al. 2018
    (https://arxiv.org/abs/1805.09692), which has a task of compositional
    contexts whose details we do not know; this is our own reading. Arms stand
    in rows and columns. A context is two barcodes side by side: the first
    tells the row of the good arm, the second its column. All pairs of row and
    column are met `exposures` times each, in random order, so that the arm of
    a new pair can be told from old ones.

    Args:
        num_rows: int, at least 2.
        num_columns: int, at least 2.
        exposures: int, episodes of each context.
        pulls: int, steps of an episode.
        barcode_length: int, bits of each of the two barcodes, at most 16.
        good: float, probability of reward of the good arm.
        bad: float, that of the others.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range, or there are fewer
            barcodes of this length than rows or columns.

    Example:

    >>> from keras_sparse_rl.environments import CompositionalBandit
    >>> bandit = CompositionalBandit(num_rows=2, num_columns=3, batch_size=4)
    >>> bandit.reset().observation["context"].shape, bandit.num_arms
    (TensorShape([4, 10]), 6)
    """

    def __init__(
        self,
        num_rows=3,
        num_columns=3,
        exposures=10,
        pulls=10,
        barcode_length=5,
        good=0.9,
        bad=0.1,
        batch_size=1,
        seed=0,
    ):
        self.num_rows = check_integer("num_rows", num_rows, minimum=2)
        self.num_columns = check_integer("num_columns", num_columns, minimum=2)
        self._length = check_barcodes(
            "barcode_length", barcode_length, max(num_rows, num_columns)
        )
        number = self.num_rows * self.num_columns
        super().__init__(
            BoundedTensorSpec((2 * self._length,), tf.float32, 0, 1, "context"),
            number,
            number,
            exposures,
            pulls,
            good,
            bad,
            batch_size,
            seed,
        )

    def _draw_contexts(self, seed):
        first, second = tf.unstack(tf.random.split(seed, 2))
        rows = draw_barcodes(self._size, self.num_rows, self._length, first)
        columns = draw_barcodes(
            self._size, self.num_columns, self._length, second
        )
        return tf.concat(self._pairs(rows, columns), axis=-1)

    def _draw_targets(self, seed):
        first, second = tf.unstack(tf.random.split(seed, 2))
        rows = permutations(self._size, self.num_rows, first)
        columns = permutations(self._size, self.num_columns, second)
        rows, columns = self._pairs(rows, columns)
        return rows * self.num_columns + columns

    def _pairs(self, rows, columns):
        """The row and the column of each context."""
        number = tf.range(self.num_rows * self.num_columns)
        return (
            tf.gather(rows, number // self.num_columns, axis=1),
            tf.gather(columns, number % self.num_columns, axis=1),
        )
