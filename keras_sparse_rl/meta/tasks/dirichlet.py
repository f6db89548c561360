import numpy as np

from keras_sparse_rl.meta.dirichlet_categorical import DirichletCategorical
from keras_sparse_rl.meta.tasks.task import Task
from keras_sparse_rl.meta.tasks.task import one_hot


class Dirichlet(Task):
    """Dice of unknown probabilities: categorical sequences.

    The probabilities of each sequence's die are drawn from a symmetric
    Dirichlet distribution. Inputs are the last throw as one-hot, targets its
    number; the exact predictor is `meta.DirichletCategorical`.

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
    >>> task = meta.tasks.Dirichlet(num_categories=4, batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 4), (8, 20), 4)
    """

    def __init__(
        self,
        num_categories=4,
        concentration=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            DirichletCategorical(num_categories, concentration),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        return draw_rows(
            generator,
            (number, self.length),
            draw_probabilities(generator, (number, 1), self.predictor),
        )

    def features(self, observations):
        return one_hot(observations, self.num_outputs)


def draw_probabilities(generator, shape, prior):
    """Draws from a symmetric Dirichlet prior, `(*shape, categories)`."""
    concentration = np.full(prior.loss.num_outputs, prior.concentration)
    return generator.dirichlet(concentration, shape)


def draw_rows(generator, shape, probabilities):
    """Symbols of given probabilities, int32 array of a shape."""
    uniform = generator.random((*shape, 1))
    # The last sum may miss 1 by rounding.
    bounds = probabilities.cumsum(-1)[..., :-1]
    return (uniform > bounds).sum(-1).astype("int32")
