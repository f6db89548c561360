import numpy as np

from keras_sparse_rl.meta.gamma_exponential import GammaExponential
from keras_sparse_rl.meta.tasks.task import Task


class Exponential(Task):
    """Waiting times of unknown rate.

    The rate of each sequence is drawn from a Gamma(shape, rate) prior. Inputs
    are log(1 + the last time) and a 1 that says there is one; a model predicts
    log shape and log scale of a Lomax distribution. The exact predictor is
    `meta.GammaExponential`.

    Args:
        shape: float above 0, of the prior; up to 1 the mean is infinite.
        rate: float above 0, of the prior.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.Exponential(batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 2), (8, 20), 2)
    """

    def __init__(
        self,
        shape=3.0,
        rate=2.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            GammaExponential(shape, rate),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        prior = self.predictor
        rate = generator.gamma(prior.shape, 1 / prior.rate, (number, 1))
        times = generator.exponential(size=(number, self.length)) / rate
        return times.astype("float32")

    def features(self, observations):
        seen = np.log1p(observations)
        return np.stack([seen, np.ones_like(seen)], axis=-1)
