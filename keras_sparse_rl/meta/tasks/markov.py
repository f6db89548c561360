import numpy as np

from keras_sparse_rl.meta.dirichlet_markov import DirichletMarkov
from keras_sparse_rl.meta.tasks.dirichlet import draw_probabilities
from keras_sparse_rl.meta.tasks.dirichlet import draw_rows
from keras_sparse_rl.meta.tasks.task import Task
from keras_sparse_rl.meta.tasks.task import one_hot


class Markov(Task):
    """Markov chains of unknown transitions.

    The rows of each sequence's transition matrix are drawn from a symmetric
    Dirichlet distribution; the first symbol is uniform. Inputs are the last
    symbol as one-hot, targets its number; the exact predictor is
    `meta.DirichletMarkov`.

    Args:
        num_categories: int of at least 2.
        concentration: float above 0, of the prior.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.Markov(num_categories=3, batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 3), (8, 20), 3)
    """

    def __init__(
        self,
        num_categories=3,
        concentration=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            DirichletMarkov(num_categories, concentration),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        rows = draw_probabilities(
            generator, (number, self.num_outputs), self.predictor
        )
        symbols = np.zeros((number, self.length), "int32")
        symbols[:, 0] = generator.integers(self.num_outputs, size=number)
        for step in range(1, self.length):
            row = rows[np.arange(number), symbols[:, step - 1]]
            symbols[:, step] = draw_rows(generator, (number,), row)
        return symbols

    def features(self, observations):
        return one_hot(observations, self.num_outputs)
