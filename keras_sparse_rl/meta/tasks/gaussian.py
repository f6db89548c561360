import numpy as np

from keras_sparse_rl.meta.normal_mean import NormalMean
from keras_sparse_rl.meta.tasks.task import Task


class Gaussian(Task):
    """Normal numbers of unknown mean.

    The mean of each sequence is drawn from a normal prior; the deviation
    around it is known. Inputs are the last number and a 1 that says there is
    one; a model predicts mean and log standard deviation. The exact predictor
    is `meta.NormalMean`.

    Args:
        prior_mean: float.
        prior_std: float above 0.
        noise_std: float above 0.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.Gaussian(batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 2), (8, 20), 2)
    """

    def __init__(
        self,
        prior_mean=0.0,
        prior_std=1.0,
        noise_std=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            NormalMean(prior_mean, prior_std, noise_std),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        prior = self.predictor
        mean = generator.normal(prior.prior_mean, prior.prior_std, (number, 1))
        noise = generator.normal(size=(number, self.length))
        return (mean + prior.noise_std * noise).astype("float32")

    def features(self, observations):
        return np.stack([observations, np.ones_like(observations)], axis=-1)
