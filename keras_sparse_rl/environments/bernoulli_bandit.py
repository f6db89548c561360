import functools

import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.pictures import blocks
from keras_sparse_rl.meta import BanditOptimum


class BernoulliBandit(InGraphEnvironment):
    """A new bandit every episode: arms that pay 1 with unknown probabilities.

    The bandits of "Meta-learning of Sequential Strategies" by Ortega et al.
    2019 (https://arxiv.org/abs/1905.03030), section 3.3, and of "Learning to
    reinforcement learn" (https://arxiv.org/abs/1611.05763). Each episode
    draws the arms' probabilities from Beta(alpha, beta) and lasts `pulls`
    steps. What was pulled and paid is seen only through
    `WithPreviousActionAndReward`; the observation is the share of the episode
    that is left, `(1,)`.

    With the defaults a player who knows the arms earns 13.333, the best one
    who does not 12.431, one who pulls at random 10.

    Args:
        num_arms: int.
        pulls: int, steps of an episode.
        batch_size: int, copies of the environment.
        seed: int.
        alpha: int of at least 1, of the prior; larger ones favour reward.
        beta: int of at least 1, of the prior; larger ones favour none.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl.environments import BernoulliBandit
    >>> bandit = BernoulliBandit(num_arms=2, pulls=20, batch_size=4)
    >>> bandit.reset().observation.shape
    TensorShape([4, 1])
    >>> round(bandit.best_return, 3), round(bandit.optimal_return, 3)
    (13.333, 12.431)
    """

    def __init__(
        self,
        num_arms=2,
        pulls=20,
        batch_size=1,
        seed=0,
        alpha=1,
        beta=1,
    ):
        self.num_arms = check_integer("num_arms", num_arms, minimum=2)
        self.pulls = check_integer("pulls", pulls)
        self.alpha = check_integer("alpha", alpha)
        self.beta = check_integer("beta", beta)
        super().__init__(
            BoundedTensorSpec((1,), tf.float32, 0, 1),
            BoundedTensorSpec((), tf.int32, 0, self.num_arms - 1, "action"),
            batch_size,
            seed,
        )

    @functools.cached_property
    def optimum(self):
        """`meta.BanditOptimum`, the best play by dynamic programming.

        A ValueError says so if the bandit is too large for that.
        """
        return BanditOptimum(self.num_arms, self.pulls, self.alpha, self.beta)

    @property
    def best_return(self):
        """float, mean return of a player who knows the arms."""
        best = BanditOptimum.mean_of_best(self.num_arms, self.alpha, self.beta)
        return self.pulls * best

    @property
    def optimal_return(self):
        """float, mean return of the best player who does not know the arms."""
        return self.optimum.optimal_return

    def _start(self, seed):
        # The alpha-th smallest of alpha + beta - 1 uniform numbers has the
        # prior's distribution, and XLA has no gamma numbers.
        shape = (self.batch_size, self.num_arms, self.alpha + self.beta - 1)
        drawn = tf.sort(tf.random.stateless_uniform(shape, seed))
        return {
            "probability": drawn[..., self.alpha - 1],
            "pulled": tf.fill((self.batch_size,), -1),
            "time": tf.zeros((self.batch_size,), tf.int32),
        }

    def _advance(self, state, action, seed):
        action = tf.cast(action, tf.int32)
        pays = tf.gather(state["probability"], action, batch_dims=1)
        drawn = tf.random.stateless_uniform((self.batch_size,), seed)
        time = state["time"] + 1
        ended = time >= self.pulls
        state = {**state, "pulled": action, "time": time}
        reward = tf.cast(drawn < pays, tf.float32)
        return state, reward, ended, tf.zeros_like(ended)

    def _observe(self, state):
        left = 1 - tf.cast(state["time"], tf.float32) / self.pulls
        return tf.maximum(left, 0.0)[:, tf.newaxis]

    def _render(self, state):
        best = tf.argmax(state["probability"], axis=1, output_type=tf.int32)
        arms = tf.range(self.num_arms)
        good = tf.equal(arms, best[:, tf.newaxis])
        pulled = tf.equal(arms, state["pulled"][:, tf.newaxis])
        cells = tf.stack([tf.where(good, 3, 1), tf.where(pulled, 2, 1)], 1)
        return blocks(cells.numpy())
