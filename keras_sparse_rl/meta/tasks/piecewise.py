import numpy as np

from keras_sparse_rl.meta.piecewise_bernoulli import PiecewiseBernoulli
from keras_sparse_rl.meta.tasks.task import Task
from keras_sparse_rl.meta.tasks.task import one_hot


class Piecewise(Task):
    """Coins that are exchanged now and then: piecewise-stationary sequences.

    Before each step but the first the coin is exchanged with probability
    `hazard`; biases are drawn from Beta(alpha, beta). Inputs are the last toss
    as one-hot, targets 0 or 1; the exact predictor is
    `meta.PiecewiseBernoulli`.

    Args:
        hazard: float in [0, 1).
        alpha: float above 0, of the prior.
        beta: float above 0, of the prior.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.Piecewise(hazard=0.1, batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 2), (8, 20), 1)
    """

    def __init__(
        self,
        hazard=0.1,
        alpha=1.0,
        beta=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            PiecewiseBernoulli(length, hazard, alpha, beta),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        prior, shape = self.predictor, (number, self.length)
        biases = generator.beta(prior.alpha, prior.beta, shape)
        exchanged = generator.random(shape) < prior.hazard
        exchanged[:, 0] = True
        # Which coin it is: the step at which it came.
        came = np.where(exchanged, np.arange(self.length), 0)
        came = np.maximum.accumulate(came, axis=1)
        bias = np.take_along_axis(biases, came, axis=1)
        return (generator.random(shape) < bias).astype("int32")

    def features(self, observations):
        return one_hot(observations, 2)
