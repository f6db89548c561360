import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.meta.beta_bandit import BetaBandit
from keras_sparse_rl.meta.tasks.task import Task
from keras_sparse_rl.meta.tasks.task import one_hot


class BanditExpert(Task):
    """What one who knows the arms of a bandit would pull: Thompson sampling.

    The second template of "Meta-learning of Sequential Strategies" by Ortega
    et al. 2019 (https://arxiv.org/abs/1905.03030), section 3.2: a model that
    predicts the action of the task's expert from the history, with log loss,
    learns the posterior probability that each arm is the best, so that
    sampling from it is Thompson sampling. Actions in the history must tell
    nothing of the task but by their rewards: here every sequence pulls arms
    with probabilities of its own, drawn uniformly, so that all numbers of
    pulls are equally common.

    Observations are pairs of arm and reward; inputs the last arm as one-hot
    and its reward, targets the best arm. The exact predictor is
    `meta.BetaBandit`. What is learned is played by `meta.play_bandit`.

    Args:
        num_arms: int of at least 2.
        alpha: float above 0, of the prior of the arms' probabilities.
        beta: float above 0, of the same.
        length: int, steps of a sequence.
        batch_size: int, sequences of a batch.
        steps_per_epoch: int, batches of an epoch.
        seed: int.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> task = meta.tasks.BanditExpert(num_arms=2, batch_size=8)
    >>> x, y = task[0]
    >>> x.shape, y.shape, task.num_outputs
    ((8, 20, 3), (8, 20), 2)
    """

    def __init__(
        self,
        num_arms=2,
        alpha=1.0,
        beta=1.0,
        length=20,
        batch_size=128,
        steps_per_epoch=100,
        seed=0,
    ):
        self.num_arms = check_integer("num_arms", num_arms, minimum=2)
        super().__init__(
            BetaBandit(self.num_arms, alpha, beta),
            length,
            batch_size,
            steps_per_epoch,
            seed,
        )

    def _draw(self, number, generator):
        prior, shape = self.predictor, (number, self.length)
        pays = generator.beta(prior.alpha, prior.beta, (number, self.num_arms))
        habit = generator.dirichlet(np.ones(self.num_arms), (number, 1))
        bounds = habit.cumsum(-1)[..., :-1]
        arm = (generator.random((*shape, 1)) > bounds).sum(-1)
        chance = np.take_along_axis(pays, arm, axis=1)
        reward = generator.random(shape) < chance
        best = np.broadcast_to(pays.argmax(1)[:, np.newaxis], shape)
        return np.stack([arm, reward, best], axis=-1).astype("int32")

    def features(self, observations):
        arm, reward = observations[..., 0], observations[..., 1]
        shown = [one_hot(arm, self.num_arms), reward[..., np.newaxis]]
        return np.concatenate(shown, axis=-1)
