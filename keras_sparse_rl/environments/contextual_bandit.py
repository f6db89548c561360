import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.environments.contextual_task import ContextualTask
from keras_sparse_rl.environments.pictures import blocks


class ContextualBandit(ContextualTask):
    """Bandits with one good arm, which depends on the context.

    The base of `BarcodeBandit`, `OmniglotBandit` and `CompositionalBandit`,
    which say what contexts are: a subclass writes `_draw_contexts(seed)`.

    Args:
        context_spec: TF-Agents spec of a context.
        num_arms: int.
        num_contexts: int, contexts of a task.
        exposures: int, episodes of each context.
        pulls: int, steps of an episode.
        good: float, probability of reward of the good arm.
        bad: float, that of the others.
        batch_size: int, copies of the environment.
        seed: int.

    Example:

    >>> from keras_sparse_rl.environments import BarcodeBandit
    >>> from keras_sparse_rl.environments import ContextualBandit
    >>> issubclass(BarcodeBandit, ContextualBandit)
    True
    """

    def __init__(
        self,
        context_spec,
        num_arms=10,
        num_contexts=10,
        exposures=10,
        pulls=10,
        good=0.9,
        bad=0.1,
        batch_size=1,
        seed=0,
    ):
        self.num_arms = check_integer("num_arms", num_arms, minimum=2)
        self._good = check_unit("good", good)
        self._bad = check_unit("bad", bad)
        check_integer("pulls", pulls)
        self.best_return = pulls * self._good
        super().__init__(
            context_spec,
            BoundedTensorSpec((), tf.int32, 0, self.num_arms - 1, "action"),
            self.num_arms,
            num_contexts,
            exposures,
            pulls,
            batch_size=batch_size,
            seed=seed,
        )

    def _begin(self, state, seed):
        return {"pulled": tf.fill((self._size,), -1)}

    def _act(self, state, action, target, seed):
        pays = tf.where(tf.equal(action, target), self._good, self._bad)
        drawn = tf.random.stateless_uniform((self._size,), seed)
        return {"pulled": action}, tf.cast(drawn < pays, tf.float32)

    def _render(self, state):
        arms = tf.range(self.num_arms)
        good = tf.equal(arms, self._now(state, "targets")[:, tf.newaxis])
        pulled = tf.equal(arms, state["pulled"][:, tf.newaxis])
        cells = tf.stack([tf.where(good, 3, 1), tf.where(pulled, 2, 1)], 1)
        return blocks(cells.numpy())
