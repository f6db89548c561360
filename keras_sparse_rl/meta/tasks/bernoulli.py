from keras_sparse_rl.meta.beta_bernoulli import BetaBernoulli
from keras_sparse_rl.meta.tasks.task import Task
from keras_sparse_rl.meta.tasks.task import one_hot


class Bernoulli(Task):
    """Coins of unknown bias.

    The bias of each sequence's coin is drawn from Beta(alpha, beta). Inputs
    are the last toss as one-hot, targets 0 or 1; the exact predictor is
    `meta.BetaBernoulli`. With the defaults it has a log loss of 0.55736 nats
    a step over 20 steps.

    Args:
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
    >>> task = meta.tasks.Bernoulli(length=20, batch_size=4)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((4, 20, 2), (4, 20), 1)
    """

    def __init__(
        self,
        alpha=1.0,
        beta=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        super().__init__(
            BetaBernoulli(alpha, beta),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        prior = self.predictor
        bias = generator.beta(prior.alpha, prior.beta, (number, 1))
        tosses = generator.random((number, self.length)) < bias
        return tosses.astype("int32")

    def features(self, observations):
        return one_hot(observations, 2)
